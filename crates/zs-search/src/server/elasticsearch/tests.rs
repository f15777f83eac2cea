//! Exchanges of the documented form, with a server on the loopback: nothing here has met the real
//! program.

use zs_core::{Question, SearchError};

use super::super::testing::Two;
use super::*;
use crate::conformance::{check_engine, check_failure_is_contained, check_own_question};
use crate::http::testing::{CannedResponse, Received, TestServer, config};

/// Mapping of an index with words and vectors.
const MAPPING: &str = r#"{"passages-000001": {"mappings": {"properties": {
    "title": {"type": "text", "fields": {"raw": {"type": "keyword", "ignore_above": 256}}},
    "text": {"type": "text"},
    "meta": {"properties": {"body": {"type": "match_only_text"}}},
    "year": {"type": "integer"},
    "vector": {"type": "dense_vector", "dims": 2, "index": true, "similarity": "cosine"},
    "knn": {"type": "knn_vector", "dimension": 3}}}}}"#;

const REPLY: &str = r#"{"took": 5, "timed_out": false,
    "_shards": {"total": 1, "successful": 1, "skipped": 0, "failed": 0},
    "hits": {"total": {"value": 2, "relation": "eq"}, "max_score": 1.5, "hits": [
      {"_index": "passages", "_id": "0", "_score": 1.5, "_source": {"title": "Bamboo", "text": "A grass."}},
      {"_index": "passages", "_id": "7", "_score": 0.25, "_source": {"title": "Oak", "text": "A tree."}}]}}"#;

fn server(reply: impl Fn(&Received) -> CannedResponse + Send + Sync + 'static) -> TestServer {
    TestServer::start(move |_, received| match received.target.as_str() {
        "/passages/_mapping" => CannedResponse::ok(MAPPING),
        "/passages/_search" => reply(received),
        other => CannedResponse::status(404, &format!("{{\"error\": \"no {other}\"}}")),
    })
}

fn settings(server: &TestServer) -> ElasticsearchConfig {
    ElasticsearchConfig { http: config(), ..ElasticsearchConfig::new(server.url(), "passages") }
}

fn vector(field: &str) -> Option<VectorField> {
    let embedder = EmbeddingServerConfig::new("http://localhost:1", "m");
    Some(VectorField { field: field.to_owned(), embedder, num_candidates: 100 })
}

fn open(config: ElasticsearchConfig) -> ElasticsearchEngine {
    ElasticsearchEngine::new(config, Arc::default()).unwrap().with_embedder(Arc::new(Two))
}

fn search(engine: &ElasticsearchEngine, query: &str, k: usize) -> SearchResult {
    let question = Question::new("q", query, ["a"]);
    engine.search(SearchRequest::of(&question, k, 0))
}

/// Checks what is sent for `bamboo`, and the documents of [`REPLY`].
#[track_caller]
fn check_exchange(change: impl FnOnce(&mut ElasticsearchConfig), sent: &'static str) {
    let server = server(move |received| {
        let expected: Value = serde_json::from_str(sent).unwrap();
        match serde_json::from_str::<Value>(&received.body).unwrap() == expected {
            true => CannedResponse::ok(REPLY),
            false => CannedResponse::status(400, &received.body),
        }
    });
    let mut config = settings(&server);
    change(&mut config);
    let found = search(&open(config), "bamboo", 2).unwrap();
    let rows: Vec<_> =
        found.iter().map(|it| (it.id.as_str(), it.text.as_str(), it.score)).collect();
    assert_eq!(rows, [("0", "A grass.", Some(1.5)), ("7", "A tree.", Some(0.25))]);
    assert_eq!(found[0].title, "Bamboo");
}

#[test]
fn requests_and_replies_are_as_documented() {
    check_exchange(
        |_| {},
        r#"{"query": {"multi_match": {"query": "bamboo", "fields": ["title^2", "text"]}},
            "size": 2, "_source": ["title", "text"]}"#,
    );
    check_exchange(
        |it| it.vector = vector("vector"),
        r#"{"knn": {"field": "vector", "query_vector": [0.5, -1.0], "k": 2, "num_candidates": 100},
            "size": 2, "_source": ["title", "text"]}"#,
    );
    check_exchange(
        |it| {
            it.vector = vector("knn");
            it.dialect = ElasticsearchDialect::Opensearch;
        },
        r#"{"query": {"knn": {"knn": {"vector": [0.5, -1.0], "k": 2}}},
            "size": 2, "_source": ["title", "text"]}"#,
    );
}

#[test]
fn contents_hold_their_title() {
    let reply = r#"{"hits": {"hits": [{"_id": "3", "_score": 1.0,
        "_source": {"meta": {"body": "\"Bamboo\"\nA grass."}}}]}}"#;
    let server = server(move |received| {
        let sent = r#"{"query":{"match":{"meta.body":{"query":"bamboo"}}},"size":1,"_source":["meta.body"]}"#;
        match received.body == sent {
            true => CannedResponse::ok(reply),
            false => CannedResponse::status(400, &received.body),
        }
    });
    let (title_field, text_field) = (String::new(), "meta.body".to_owned());
    let engine = open(ElasticsearchConfig { title_field, text_field, ..settings(&server) });
    engine.check().unwrap();
    let found = search(&engine, "bamboo", 1).unwrap();
    assert_eq!((found[0].title.as_str(), found[0].text.as_str()), ("Bamboo", "A grass."));
}

/// Hybrid search: words and vectors of one index, of which each ranks other documents first.
#[test]
fn words_and_vectors_are_fused() {
    let server = server(|received| {
        let hit = |id: u8| json!({ "_id": id, "_score": 1.0, "_source": { "text": format!("text {id}") } });
        let found = if received.body.contains("\"knn\"") { [3, 2] } else { [1, 2] };
        CannedResponse::ok(&json!({ "hits": { "hits": found.map(hit) } }).to_string())
    });
    let words = Arc::new(open(settings(&server)));
    let vectors =
        Arc::new(open(ElasticsearchConfig { vector: vector("vector"), ..settings(&server) }));
    let config = crate::FusionConfig::default();
    let engine = crate::FusedEngine::new(vec![words, vectors], config, Arc::default());
    let question = Question::new("q", "bamboo", ["a"]);
    let found = engine.search(SearchRequest::of(&question, 3, 0)).unwrap();
    assert_eq!(found.iter().map(|it| it.id.as_str()).collect::<String>(), "213");
    assert_eq!(server.num_requests(), 2);
}

/// As many documents as asked for, about the query; refuses what holds `refuse`.
fn about(received: &Received) -> CannedResponse {
    if received.body.contains("refuse") {
        return CannedResponse::status(400, r#"{"error": {"reason": "parse error"}}"#);
    }
    let body: Value = serde_json::from_str(&received.body).unwrap();
    let query = body.pointer("/query/multi_match/query").unwrap().as_str().unwrap();
    let hit = |rank: u64| {
        let source = json!({ "title": format!("T{rank}"), "text": format!("about {query}") });
        json!({ "_id": rank.to_string(), "_score": 9 - rank as i64, "_source": source })
    };
    let hits: Vec<Value> = (0..body["size"].as_u64().unwrap()).map(hit).collect();
    CannedResponse::ok(&json!({ "hits": { "hits": hits } }).to_string())
}

#[test]
fn keeps_the_contract() {
    let server = server(about);
    let engine = open(settings(&server));
    check_engine(&engine);
    check_own_question(&engine);
    check_failure_is_contained(&engine, "please refuse this");
    let before = server.num_requests();
    assert!(search(&engine, "  ", 3).unwrap().is_empty());
    assert_eq!(server.num_requests(), before);
}

#[test]
fn what_does_not_fit_is_one_line_at_opening() {
    let server = server(about);
    let check = |change: &dyn Fn(&mut ElasticsearchConfig), expected: &str| {
        let mut config = settings(&server);
        change(&mut config);
        let opened = ElasticsearchEngine::new(config, Arc::default());
        let checked = opened.and_then(|it| it.with_embedder(Arc::new(Two)).check());
        let message = checked.err().map(|it| it.to_string()).unwrap_or_default();
        assert!(message.contains(expected) && !message.contains('\n'), "{expected}: {message}");
        assert_eq!(message.is_empty(), expected.is_empty(), "{message}");
    };
    check(&|_| {}, "");
    check(
        &|it| it.text_field = "txt".to_owned(),
        "no field `txt`; set `text_field` to one of `title`",
    );
    check(&|it| it.title_field = "title.raw".to_owned(), "is of type keyword; set `title_field`");
    check(&|it| it.text_field = "year".to_owned(), "is of type integer");
    check(&|it| it.vector = vector("vector"), "");
    check(&|it| it.vector = vector("vektor"), "no field `vektor`; set `vector.field`");
    check(
        &|it| it.vector = vector("text"),
        "is of type text; set `vector.field` to one of type dense",
    );
    check(&|it| it.index = "none".to_owned(), "elasticsearch index `none`: http://127.0.0.1");
    check(&|it| it.index = "a/b".to_owned(), "`a/b` cannot be the name");
    check(
        &|it| {
            it.vector = vector("knn");
            it.dialect = ElasticsearchDialect::Opensearch;
        },
        "vectors have 3 dimensions, those of the embedder 2",
    );
}

/// A reply of some of the shards, or without the field, is an error and is not asked for again.
#[test]
fn replies_that_lack_something_fail() {
    let check = |reply: &'static str, calls: usize, expected: &str| {
        let server = server(move |_| CannedResponse::ok(reply));
        let error = search(&open(settings(&server)), "bamboo", 2).unwrap_err();
        let message = zs_core::with_causes(&error);
        assert!(message.contains(expected), "{message}");
        assert!(matches!(error, SearchError::Engine { .. }));
        assert_eq!(server.num_requests(), calls, "{message}");
    };
    let missing = r#"{"hits": {"hits": [{"_id": "3", "_source": {"body": "A grass."}}]}}"#;
    check(missing, 1, "document `3` has no text in `text`; set `text_field` to one of `body`");
    check(r#"{"hits": {"hits": [{"_id": "3", "_source": {"text": " "}}]}}"#, 1, "is empty");
    let shards = r#"{"_shards": {"total": 3, "failed": 1, "failures": [{"reason": {"reason": "no heap"}}]},
        "hits": {"hits": []}}"#;
    check(shards, 3, "1 of 3 shards failed: no heap");
    check(r#"{"timed_out": true, "hits": {"hits": []}}"#, 3, "timed out on the server");
    check("[]", 3, "not {\"hits\"");
}
