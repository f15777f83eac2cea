//! Evaluation through the built binary: resumed runs, comparisons of runs, scored answers,
//! retrieval, and data that is fetched and checked.

use std::fs;
use std::path::Path;

use crate::common::{tiny_model, zs, zs_ok};
use serde_json::Value;

fn workplace() -> tempfile::TempDir {
    let scratch = tempfile::tempdir().unwrap();
    tiny_model(1).save(&scratch.path().join("model")).unwrap();
    zs_ok(scratch.path(), &["data", "world", "--seed", "5", "--questions", "7", "--out", "w"]);
    scratch
}

/// Evaluates with few tokens a turn, so that a random model ends soon.
#[track_caller]
fn eval(dir: &Path, arguments: &[&str]) -> String {
    zs_ok(dir, &[&EVAL[..], arguments].concat())
}

const EVAL: [&str; 11] = [
    "eval",
    "--model",
    "model",
    "--questions",
    "w/questions.jsonl",
    "--max-new-tokens",
    "6",
    "--max-searches",
    "1",
    "--batch-size",
    "2",
];

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

#[test]
fn a_hard_world_is_written_and_measured() {
    let scratch = tempfile::tempdir().unwrap();
    let dir = scratch.path();
    fs::write(dir.join("d.toml"), "passages = 2000\nstale = 0.5\n").unwrap();
    let hard = ["data", "world", "--world", "hard", "--questions", "200", "--difficulty", "d.toml"];
    let table = zs_ok(dir, &[&hard[..], &["--measure", "--out", "w"]].concat());
    assert!(table.contains("bridge") && table.contains("yes_no"), "{table}");
    let read = |name: &str| fs::read_to_string(dir.join(name)).unwrap();
    assert_eq!(read("w/corpus.jsonl").lines().count(), 2000);
    assert!(json(&read("w/measure.json"))["oracle"].as_f64().unwrap() >= 0.97);
    assert!(read("w/difficulty.toml").contains("stale = 0.5"));
    let (questions, chains) = (read("w/questions.jsonl"), read("w/chains.jsonl"));
    assert_eq!(questions.lines().count(), 200);
    for (question, chain) in questions.lines().map(json).zip(chains.lines().map(json)) {
        assert_eq!([&question["id"], &question["type"]], [&chain["id"], &chain["type"]]);
        let searches = chain["searches"].as_array().unwrap();
        assert_eq!(question["hops"], searches.len());
        assert_eq!(chain["max_searches"], searches.len() + 2);
        for search in searches {
            let passages = search["passages"].as_array().unwrap();
            assert!(passages.iter().all(|it| !it.as_array().unwrap().is_empty()), "{chain}");
        }
    }
    zs_ok(dir, &["data", "check", "w/questions.jsonl", "w/corpus.jsonl"]);
    let error = zs(dir, &["data", "world", "--passages", "2000", "--out", "x"]);
    let message = String::from_utf8(error.stderr).unwrap();
    assert!(message.contains("--world hard"), "{message}");
    let error = zs(dir, &["data", "world", "--world", "hard", "--passages", "9", "--out", "x"]);
    let message = String::from_utf8(error.stderr).unwrap();
    assert!(message.contains("`passages` is 9; set it to 1,000 to 100,000"), "{message}");
    assert!(!dir.join("x").exists());
}

#[test]
fn an_evaluation_goes_on_and_comes_to_the_same() {
    let scratch = workplace();
    let dir = scratch.path();
    let corpus = ["--corpus", "w/corpus.jsonl"];
    let whole = eval(dir, &[&corpus[..], &["--out", "a"]].concat());
    assert!(whole.contains("protocol strict") && whole.contains("2-hop"), "{whole}");
    eval(dir, &[&corpus[..], &["--out", "b"]].concat());
    let read = |name: &str| fs::read_to_string(dir.join(name)).unwrap();
    assert_eq!(read("a/records.jsonl").lines().count(), 7);
    assert_eq!(read("a/records.jsonl"), read("b/records.jsonl"));
    eval(dir, &[&corpus[..], &["--out", "lanes", "--lanes", "2"]].concat());
    assert_eq!(read("a/records.jsonl"), read("lanes/records.jsonl"));

    // Killed after three episodes, in the middle of the fourth record.
    fs::remove_file(dir.join("b/summary.json")).unwrap();
    let records = read("b/records.jsonl");
    let cut: usize = records.split_inclusive('\n').take(3).map(str::len).sum();
    fs::write(dir.join("b/records.jsonl"), &records[..cut + 10]).unwrap();
    eval(dir, &[&corpus[..], &["--out", "b"]].concat());
    for name in ["records.jsonl", "trajectories.jsonl", "summary.json"] {
        assert_eq!(read(&format!("a/{name}")), read(&format!("b/{name}")), "{name}");
    }

    for (other, named) in [
        (["--seed", "9"], "another `seed`"),
        (["--compute-dtype", "bf16"], "another `compute_dtype`"),
    ] {
        let output = zs(dir, &[&EVAL[..], &other, &corpus, &["--out", "b"]].concat());
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert!(!output.status.success() && stderr.contains(named), "{stderr}");
    }
    let in_bf16 = ["--compute-dtype", "bf16", "--out", "bf16"];
    let table = eval(dir, &[&corpus[..], &in_bf16].concat());
    assert!(table.contains("protocol strict"), "{table}");

    let table = zs_ok(dir, &["eval", "compare", "a", "b"]);
    assert!(table.contains("change from a") && table.contains("1.0000"), "{table}");
    let compared = json(&zs_ok(dir, &["eval", "compare", "a", "b", "--json"]));
    assert_eq!(compared["paired"][0]["exact_match"]["n"], 7);
    assert_eq!(compared["paired"][0]["f1"]["difference"]["mean"], 0.0);
    assert_eq!(compared["runs"][1]["protocol"], "strict");
}

#[test]
fn every_method_runs_on_any_model() {
    let scratch = workplace();
    let dir = scratch.path();
    for method in ["direct", "cot", "r1"] {
        let summary = json(&eval(dir, &["--method", method, "--json"]));
        assert_eq!(summary["method"], method);
        assert_eq!(summary["report"]["overall"]["num_searches"]["mean"], 0.0);
    }
    for method in ["rag", "rag-agent", "search-o1", "trained"] {
        let arguments =
            ["--method", method, "--corpus", "w/corpus.jsonl", "--limit", "2", "--json"];
        let summary = json(&eval(dir, &arguments));
        assert_eq!(summary["report"]["overall"]["n"], 2, "{method}");
    }
    let missing = ["eval", "--model", "model", "--questions", "w/questions.jsonl"];
    let stderr = String::from_utf8(zs(dir, &missing).stderr).unwrap();
    assert!(stderr.contains("name a search engine"), "{stderr}");
}

/// An engine of a run file is searched as the same engine named by an option is, and self-search
/// asks the model itself.
#[test]
fn engines_of_files() {
    let scratch = workplace();
    let dir = scratch.path();
    let read = |name: &str| fs::read_to_string(dir.join(name)).unwrap();
    let write = |name: &str, text: &str| fs::write(dir.join(name), text).unwrap();
    write("bm25.toml", "[engine]\nkind = \"bm25\"\ncorpus = \"w/corpus.jsonl\"\n");
    write("own.toml", "[engine]\nkind = \"self_search\"\nsampling = { max_new_tokens = 4 }\n");
    write("bad.toml", "[engine]\nkind = \"bm26\"\n");
    eval(dir, &["--corpus", "w/corpus.jsonl", "--method", "rag", "--out", "a"]);
    eval(dir, &["--engine", "bm25.toml", "--method", "rag", "--out", "b"]);
    assert_eq!(read("a/trajectories.jsonl"), read("b/trajectories.jsonl"));
    let own = ["--engine", "own.toml", "--method", "rag", "--limit", "2", "--json"];
    assert_eq!(json(&eval(dir, &own))["engine"], "self_search");

    let ask = ["ask", "--model", "model", "--max-searches", "1", "Who?", "--engine"];
    assert!(zs_ok(dir, &[&ask[..], &["bm25.toml"]].concat()).lines().count() > 0);
    let stderr = String::from_utf8(zs(dir, &[&ask[..], &["bad.toml"]].concat()).stderr).unwrap();
    assert!(stderr.starts_with("error: bad.toml: ") && stderr.contains("bm26"), "{stderr}");
}

#[test]
fn samples_and_protocols() {
    let scratch = workplace();
    let dir = scratch.path();
    fs::write(dir.join("p.jinja"), "Q: {{ question }}\n").unwrap();
    let arguments = [
        "--method",
        "direct",
        "--prompt",
        "p.jinja",
        "--samples",
        "3",
        "--temperature",
        "1",
        "--protocol",
        "strict",
        "--with",
        "containment",
        "--json",
    ];
    let summary = json(&eval(dir, &arguments));
    assert_eq!(summary["protocol"], "strict + containment");
    assert_eq!(summary["report"]["overall"]["n"], 7);
    let pass_at = summary["report"]["pass_at"].as_object().unwrap();
    assert_eq!(pass_at.keys().collect::<Vec<_>>(), ["1", "2", "3"]);
    let greedy = ["eval", "--model", "model", "--questions", "w/questions.jsonl", "--method", "r1"];
    let output = zs(dir, &[&greedy[..], &["--samples", "2"]].concat());
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success() && stderr.contains("--temperature"), "{stderr}");
}

const PREDICTIONS: &str = r#"{"id":"a","golden_answers":["Eiffel Tower"],"prediction":"the Eiffel Tower","hops":1,"data_source":"nq"}
{"id":"b","golden_answers":["Eiffel Tower"],"prediction":"the big Eiffel Tower","hops":2,"data_source":"nq"}
{"id":"c","golden_answers":["Beijing"],"transcript":"<think> hm </think>","type":"bridge","data_source":"hotpotqa"}
{"id":"d","golden_answers":["Ulm"],"transcript":"<search>q</search><information><answer>Ulm</answer></information>","data_source":"hotpotqa"}
"#;

#[test]
fn answers_are_scored() {
    let scratch = tempfile::tempdir().unwrap();
    let dir = scratch.path();
    fs::write(dir.join("p.jsonl"), PREDICTIONS).unwrap();
    let score = |arguments: &[&str]| {
        let base = ["score", "--predictions", "p.jsonl", "--json"];
        json(&zs_ok(dir, &[&base[..], arguments].concat()))
    };
    let strict = score(&["--records", "r.jsonl"]);
    assert_eq!((&strict["protocol"], &strict["n"]), (&"strict".into(), &4.into()));
    assert_eq!(strict["exact_match"]["mean"], 0.25);
    assert_eq!(strict["by_set"]["nq"]["exact_match"]["mean"], 0.5);
    assert_eq!(strict["by_hops"]["2"]["n"], 1);
    assert_eq!(strict["by_type"]["bridge"]["answered"]["mean"], 0.0);
    assert_eq!(strict["average"]["exact_match"]["mean"], 0.25);
    assert_eq!(fs::read_to_string(dir.join("r.jsonl")).unwrap().lines().count(), 4);
    assert_eq!(score(&["--protocol", "zs-compat"])["exact_match"]["mean"], 1.0);
    for (quirk, expected) in
        [("containment", 0.5), ("prompt-answers", 0.5), ("document-answers", 0.5)]
    {
        let scored = score(&["--with", quirk]);
        assert_eq!(scored["exact_match"]["mean"], expected, "{quirk}");
        assert_eq!(scored["protocol"], format!("strict + {quirk}"));
    }
    let less = score(&["--protocol", "zs-compat", "--without", "containment"]);
    assert_eq!(less["exact_match"]["mean"], 0.75);
    let table = zs_ok(dir, &["score", "--predictions", "p.jsonl", "--quirks"]);
    for part in ["protocol strict", "mean of 2 sets", "containment", "document-answers"] {
        assert!(table.contains(part), "{part} is not in {table}");
    }
    fs::write(dir.join("p.jsonl"), "{\"golden_answers\":[\"a\"]}\n").unwrap();
    let stderr = String::from_utf8(zs(dir, &["score", "--predictions", "p.jsonl"]).stderr).unwrap();
    assert!(stderr.contains("p.jsonl, row 1: field `prediction` is missing"), "{stderr}");
}

#[test]
fn retrieval_is_measured() {
    let scratch = workplace();
    let dir = scratch.path();
    let retrieval = ["eval", "retrieval", "--questions", "w/questions.jsonl", "--k", "5"];
    let corpus = ["--corpus", "w/corpus.jsonl"];
    let report = json(&zs_ok(dir, &[&retrieval[..], &corpus[..], &["--json"]].concat()));
    assert_eq!((&report["n"], &report["k"]), (&7.into(), &5.into()));
    let mean = |name: &str| report[name]["mean"].as_f64().unwrap();
    // A question names its first subject, whose page is found; the second page is not named.
    assert!(mean("any_title") >= mean("title_recall"));
    assert!(mean("title_recall") >= mean("all_titles"));
    assert!(mean("any_title") > 0.5);
    assert_eq!(report["recall"], report["title_recall"]["mean"]);
    let table = zs_ok(dir, &[&retrieval[..], &corpus[..]].concat());
    assert!(table.contains("all golden titles found"), "{table}");
    // Several engines: BM25, and twice itself by reciprocal rank, which finds the same.
    let bm25 = "{ kind = \"bm25\", corpus = \"w/corpus.jsonl\" }";
    let fused = format!("[engine]\nkind = \"fused\"\nengines = [{bm25}, {bm25}]\n");
    fs::write(dir.join("fused.toml"), fused).unwrap();
    let both = [&retrieval[..], &corpus[..], &["--engine", "fused.toml", "--batch", "2"]].concat();
    let report = json(&zs_ok(dir, &[&both[..], &["--json"]].concat()));
    let [first, second] = &report["engines"].as_array().unwrap()[..] else { panic!("{report}") };
    assert_eq!((&first["engine"], &second["engine"]), (&"bm25".into(), &"fused".into()));
    assert_eq!(
        (&first["ndcg"], &first["title_recall"]),
        (&second["ndcg"], &second["title_recall"])
    );
    let paired = report["paired"].as_array().unwrap();
    assert_eq!(paired.len(), 6);
    assert!(paired.iter().all(|it| it["test"]["difference"]["mean"] == 0.0), "{paired:?}");
    assert_eq!(
        (&second["time"]["batch"], &paired[3]["metric"]),
        (&2.into(), &"reciprocal_rank".into())
    );
    let table = zs_ok(dir, &both);
    for part in ["bm25 w/corpus.jsonl", "fused fused.toml", "MRR @5", "change from w/corpus.jsonl"]
    {
        assert!(table.contains(part), "{part} is not in {table}");
    }
}

#[test]
fn data_is_fetched_and_checked() {
    let scratch = tempfile::tempdir().unwrap();
    let dir = scratch.path();
    fs::create_dir(dir.join("mine")).unwrap();
    let row = |id: &str, question: &str| {
        format!("{{\"id\":\"{id}\",\"question\":\"{question}\",\"golden_answers\":[\"x\"]}}\n")
    };
    fs::write(dir.join("mine/test.jsonl"), row("a", "Who?")).unwrap();
    fs::create_dir(dir.join("mine/bamboogle")).unwrap();
    fs::rename(dir.join("mine/test.jsonl"), dir.join("mine/bamboogle/test.jsonl")).unwrap();
    let table = zs_ok(dir, &["data", "fetch", "bamboogle", "--cache", "cache", "--from", "mine"]);
    assert!(table.contains("1 of 125"), "{table}");
    let train = format!(
        "{}{}{}",
        row("a", "who"),
        row("a", "why?"),
        "{\"question\":\"q\",\"answer\":[]}\n"
    );
    fs::write(dir.join("train.jsonl"), train).unwrap();
    let fetched = "cache/bamboogle/bamboogle/test.jsonl";
    // Rows that would be refused: the report is printed, and the command fails.
    let printed = |arguments: &[&str]| {
        let output = zs(dir, arguments);
        assert_eq!(output.status.code(), Some(1));
        String::from_utf8(output.stdout).unwrap()
    };
    let report = json(&printed(&["data", "check", "train.jsonl", fetched, "--json"]));
    assert_eq!(report["files"][0]["questions"], 2);
    assert_eq!(report["files"][0]["duplicate_ids"], 1);
    assert_eq!(report["files"][0]["empty_answers"], 1);
    assert_eq!(report["overlap"][0]["questions"], 1);
    let table = printed(&["data", "check", "train.jsonl", fetched]);
    assert!(table.contains("1 questions are in train.jsonl"), "{table}");
}
