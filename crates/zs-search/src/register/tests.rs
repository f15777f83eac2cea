use std::path::PathBuf;

use serde_json::{Value, json};
use zs_core::{DocumentQuality, Question, SearchRequest};

use super::*;

fn registry() -> EngineRegistry {
    let mut registry = Registry::new("search engine");
    register_engines(&mut registry).unwrap();
    registry
}

fn spec(value: Value) -> Spec {
    serde_json::from_value(value).unwrap()
}

fn fixed() -> Value {
    json!({ "kind": "fixed", "documents": [{ "text": "x" }] })
}

#[test]
fn wrappers_compose_and_share_the_ledger() {
    let folder = tempfile::tempdir().unwrap();
    let spec = spec(json!({
        "kind": "cached", "dir": folder.path(), "engine": {
            "kind": "rate_limited", "limit": { "per_second": 1000.0, "burst": 100 }, "engine": {
                "kind": "retried", "retry": { "max_attempts": 2 }, "engine": {
                    "kind": "budgeted", "budget": { "max_searches": 1 }, "engine": {
                        "kind": "faulty", "faults": { "error_rate": 0.0 }, "engine": fixed()
    }}}}}));
    let registry = registry();
    let context = EngineContext::new(Arc::default());
    let engine = registry.build(&spec, &context).unwrap();
    let question = Question::new("q", "?", ["a"]);
    let quality = DocumentQuality::Useful;
    let request =
        SearchRequest { query: "q", question: &question, quality, read: &[], k: 1, seed: 0 };
    // One search of five is passed on; the others know its answer.
    assert!(engine.search_batch(&[request; 5]).iter().all(Result::is_ok));
    assert!(engine.exhausted().is_some());
    assert_eq!(context.ledger().passed(), [1]);
    assert_eq!(context.ledger().totals()[0].usage.cache_lookups, 5);
    context.ledger().restore_passed(&[0]);
    assert!(engine.exhausted().is_none());
    let mut kinds = Vec::new();
    registry.visit(&spec, &mut |it| kinds.push(it.kind.clone())).unwrap();
    assert_eq!(kinds, ["cached", "rate_limited", "retried", "budgeted", "faulty", "fixed"]);
}

#[test]
fn inputs_of_nested_engines_are_known() {
    let bm25 = json!({ "kind": "bm25", "index": "i" });
    let cached = spec(json!({ "kind": "cached", "dir": "d", "engine": bm25 }));
    assert_eq!(registry().inputs(&cached).unwrap(), [PathBuf::from("i/meta.json")]);
}

/// Fused engines are resolved and opened one by one, and a cache around them knows them all.
#[test]
fn fused_engines_are_nested() {
    let bm25 = json!({ "kind": "bm25", "index": "i" });
    let fused = json!({ "kind": "fused", "engines": [bm25, fixed()] });
    let cached = spec(json!({ "kind": "cached", "dir": "d", "engine": fused }));
    assert_eq!(registry().inputs(&cached).unwrap(), [PathBuf::from("i/meta.json")]);
    let resolved = registry().resolve(&cached).unwrap();
    assert_eq!(resolved.settings["engine"]["rank_constant"], 60.0);
    let fused = spec(json!({ "kind": "fused", "depth": 2, "engines": [fixed(), fixed()] }));
    let context = EngineContext::new(Arc::default());
    let engine = registry().build(&fused, &context).unwrap();
    let question = Question::new("q", "?", ["a"]);
    let found = engine.search(SearchRequest::of(&question, 3, 0)).unwrap();
    assert_eq!((engine.name(), found.len(), found[0].score), ("fused", 1, Some(2.0 / 61.0)));
}

#[test]
fn a_cache_is_known_by_the_settings_of_its_engine() {
    let version = |engine: Value| {
        let settings =
            CachedSettings { engine: spec(engine), dir: "d".into(), version: "v".into() };
        cache_version(&registry(), &settings).unwrap()
    };
    let retried = |attempts: u32| {
        version(
            json!({ "kind": "retried", "retry": { "max_attempts": attempts }, "engine": fixed() }),
        )
    };
    assert_eq!(version(json!({ "kind": "retried", "engine": fixed() })), retried(3));
    assert_ne!(retried(3), retried(4));
    assert!(retried(3).ends_with(" v"));
}

#[track_caller]
fn check(value: Value, expected: &str, key: Option<&str>) {
    let error = registry().resolve(&spec(value)).unwrap_err();
    assert!(error.to_string().contains(expected), "{error}");
    assert_eq!(error.key().as_deref(), key, "{error}");
}

#[test]
fn errors_name_key_and_nearest_name() {
    check(json!({ "kind": "bm52", "corpus": "c" }), "did you mean `bm25`", None);
    check(json!({ "kind": "bm25", "corpu": "c" }), "unknown setting `corpu`", Some("corpu"));
    check(json!({ "kind": "bm25" }), "`corpus`", Some("corpus"));
    let slow = json!({ "kind": "rate_limited", "limit": { "per_second": 0.0 }, "engine": fixed() });
    check(slow.clone(), "above 0, is 0", Some("limit.per_second"));
    let cached = json!({ "kind": "cached", "dir": "d", "engine": slow });
    check(cached, "above 0", Some("engine.limit.per_second"));
    let budgeted = json!({ "kind": "budgeted", "budget": {}, "engine": fixed() });
    check(budgeted, "`max_searches`", Some("budget"));
    let retried = json!({ "kind": "retried", "retry": { "max_attempts": 0 }, "engine": fixed() });
    check(retried, "at least 1", Some("retry.max_attempts"));
    let alone = json!({ "kind": "fused", "engines": [fixed()] });
    check(alone, "at least two", Some("engines"));
    let shallow = json!({ "kind": "fused", "depth": 0, "engines": [fixed(), fixed()] });
    check(shallow, "at least 1", Some("depth"));
    let wrong = json!({ "kind": "fused", "engines": [fixed(), { "kind": "fixed", "documents": [], "document": 1 }] });
    check(wrong, "unknown setting `document`", Some("engines.1.document"));
    let faulty = json!({ "kind": "faulty", "faults": { "error_rate": 2.0 }, "engine": fixed() });
    check(faulty, "[0, 1]", Some("faults.error_rate"));
}

#[cfg(feature = "http")]
#[test]
fn engines_over_http_are_checked() {
    let http = json!({ "max_attempts": 0 });
    let web = json!({ "kind": "web", "provider": "serper", "http": http });
    check(web, "at least 1", Some("http.max_attempts"));
    let server = json!({ "endpoints": ["http://a"], "http": http });
    let reranked = json!({ "kind": "reranked", "engine": fixed(), "reranker": server });
    check(reranked, "at least 1", Some("reranker.http.max_attempts"));
    let retriever = json!({ "kind": "retriever", "endpoints": ["http://a"], "batch_size": 0 });
    check(retriever, "at least 1", Some("batch_size"));
}
