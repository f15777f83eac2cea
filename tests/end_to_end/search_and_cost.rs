//! Indexes, query files, budgets and costs through the built `zs`.

use std::fs;
use std::path::Path;

use crate::common::{tiny_model, train_toml, zs, zs_ok};
use serde_json::Value;

const CORPUS: &str = r#"[
 {"title": "Bamboo", "text": "Bamboo is a grass that grows fast."},
 {"title": "Oak", "text": "Oaks are trees with acorns."},
 {"id": "p3", "contents": "\"Paris\"\nParis is the capital of France."}
]"#;

fn json_lines(text: &str) -> Vec<Value> {
    text.lines().map(|it| serde_json::from_str(it).unwrap()).collect()
}

#[test]
fn an_index_answers_a_file_of_queries() {
    let scratch = tempfile::tempdir().unwrap();
    let dir = scratch.path();
    fs::write(dir.join("corpus.json"), CORPUS).unwrap();
    zs_ok(dir, &["index", "build", "--corpus", "corpus.json", "--out", "index"]);
    let rows =
        "{\"query\": \"capital of France\"}\n\n{\"question\": \"zebra\"}\n{\"query\": \"a\"}\n";
    fs::write(dir.join("queries.jsonl"), rows).unwrap();
    let search = |source: &[&str]| {
        let rest = ["--queries", "queries.jsonl", "--k", "2", "--json"];
        json_lines(&zs_ok(dir, &[&["search"], source, &rest].concat()))
    };
    let found = search(&["--index", "index"]);
    assert_eq!(found.len(), 3);
    assert_eq!(found[0]["query"], "capital of France");
    let first = &found[0]["documents"][0];
    assert_eq!((&first["id"], &first["title"]), (&"p3".into(), &"Paris".into()));
    assert_eq!(first["text"], "Paris is the capital of France.");
    assert!(first["score"].as_f64().unwrap() > 0.0);
    assert_eq!(found[1]["documents"], Value::Array(vec![]));
    assert_eq!(search(&["--corpus", "corpus.json"]), found);

    // The same build is done; another has no place there.
    let again = ["index", "build", "--corpus", "corpus.json", "--out", "index"];
    zs_ok(dir, &again);
    let other = zs(dir, &[&again[..], &["--separate-fields"]].concat());
    assert!(String::from_utf8_lossy(&other.stderr).contains("index: not empty"));
    fs::write(dir.join("queries.jsonl"), "{\"query\": \"a\"}\n{\"q\": 1}\n").unwrap();
    let bad = zs(dir, &["search", "--index", "index", "--queries", "queries.jsonl"]);
    assert!(String::from_utf8_lossy(&bad.stderr).contains("queries.jsonl, row 2"));
}

/// A model that opens with a search, whatever the question.
fn searching_model(dir: &Path) {
    tiny_model(2).save(&dir.join("base")).unwrap();
    zs_ok(
        dir,
        &["data", "world", "--split", "train", "--seed", "1", "--questions", "8", "--out", "w"],
    );
    let rows: String = json_lines(&fs::read_to_string(dir.join("w/questions.jsonl")).unwrap())
        .iter()
        .map(|it| {
            let prompt = format!("Question: {}\n", it["question"].as_str().unwrap());
            let completion = "<search> Anna </search>";
            format!("{}\n", serde_json::json!({ "prompt": prompt, "completion": completion }))
        })
        .collect();
    fs::write(dir.join("rows.jsonl"), rows).unwrap();
    let run = r#"
seed = 1
out = "tuned"
base = "base"
data = { kind = "file", train = "rows.jsonl" }
tuning = { steps = 40, tokens_per_step = 60, micro_batch_tokens = 200, eval_every = 40, optimizer = { learning_rate = 1e-2 } }
"#;
    fs::write(dir.join("sft.toml"), run).unwrap();
    zs_ok(dir, &["sft", "sft.toml"]);
    fs::rename(dir.join("tuned/checkpoints/final"), dir.join("model")).unwrap();
}

/// A run with an engine around an engine; `out` is its directory.
fn train(dir: &Path, out: &str, engine: &str) {
    let run = train_toml(out);
    let plain = r#"engine = { kind = "bm25", world = { seed = 1, split = "train" } }"#;
    assert!(run.contains(plain));
    let run = run.replacen(plain, engine, 1);
    let run =
        run.replacen("policy = ", "prices = { bm25 = { per_1000_calls = 5.0 } }\npolicy = ", 1);
    fs::write(dir.join("run.toml"), run).unwrap();
    zs_ok(dir, &["train", "run.toml"]);
}

#[test]
fn runs_write_what_their_engines_did() {
    let scratch = tempfile::tempdir().unwrap();
    let dir = scratch.path();
    searching_model(dir);
    let inner = r#"{ kind = "bm25", world = { seed = 1, split = "train" } }"#;
    train(dir, "plain", &format!("engine = {inner}"));
    let cached = format!("engine = {{ kind = \"cached\", dir = \"cache\", engine = {inner} }}");
    train(dir, "cached", &cached);
    train(dir, "again", &cached);
    // Whoever answers, the policy learns the same.
    let weights = |run: &str| fs::read(dir.join(run).join("checkpoints/final/model.safetensors"));
    assert_eq!(weights("plain").unwrap(), weights("cached").unwrap());
    assert_eq!(weights("plain").unwrap(), weights("again").unwrap());

    let costs = |run: &str| -> Value {
        serde_json::from_str(&fs::read_to_string(dir.join(run).join("costs.json")).unwrap())
            .unwrap()
    };
    let steps = json_lines(&fs::read_to_string(dir.join("again/costs.jsonl")).unwrap());
    assert_eq!(steps.len(), 4, "the first validation and three steps");
    let (plain, again) = (&costs("plain")[0], &costs("again")[0]);
    assert_eq!(plain["engine"], "bm25");
    assert!(plain["searches"].as_u64().unwrap() > 0);
    assert_eq!(plain["searches"], again["searches"]);
    assert_eq!(plain["cache_lookups"], 0);
    assert_eq!(again["cache_lookups"], again["cache_hits"]);

    let told: Value = serde_json::from_str(&zs_ok(dir, &["cost", "plain", "--json"])).unwrap();
    assert_eq!(told["searches"], plain["searches"]);
    assert_eq!(told["elsewhere"].as_array().unwrap().len(), 4);
    assert!(zs_ok(dir, &["cost", "plain"]).contains("serpapi"));
    let missing = zs(dir, &["cost", "model"]);
    assert!(
        String::from_utf8_lossy(&missing.stderr).contains("not the directory of a finished run")
    );
}

#[test]
fn a_spent_budget_ends_the_run() {
    let scratch = tempfile::tempdir().unwrap();
    let dir = scratch.path();
    tiny_model(1).save(&dir.join("model")).unwrap();
    let engine = r#"engine = { kind = "budgeted", budget = { max_searches = 0 }, engine = { kind = "fixed", documents = [{ text = "x" }] } }"#;
    train(dir, "out", engine);
    let summary: Value =
        serde_json::from_str(&fs::read_to_string(dir.join("out/summary.json")).unwrap()).unwrap();
    assert_eq!(summary["stopped"], "the budget of 0 searches is spent");
    let metrics = json_lines(&fs::read_to_string(dir.join("out/metrics.jsonl")).unwrap());
    assert_eq!(metrics.last().unwrap()["step"], 0, "no step begins without a budget");
    assert!(dir.join("out/checkpoints/final/model.safetensors").exists());
}
