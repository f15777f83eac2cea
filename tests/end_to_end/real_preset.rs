//! `zs reproduce --preset real --smoke`: every stage on a tiny model and questions of an embedded world.

use std::fs;
use std::path::Path;

use crate::common::{tiny_model, zs, zs_ok};

const TURN: &str = r#"{"question":"Where was NAME born?","golden_answers":["CITY"],"turns":[{"query":"NAME","docs":[{"title":"NAME","text":"NAME was born in CITY."}]},{"query":"NAME birth","docs":[{"title":"PLACE","text":"PLACE lies in the north."}]}]}"#;

/// Questions, passages and recorded searches, and the file that names them.
fn write_data(dir: &Path) {
    let first = ["Anna", "Bo", "Carl", "Dora", "Ella", "Finn", "Gus", "Hana"];
    let last = ["Bel", "Dor", "Mir", "Nik", "Sol"];
    let people: Vec<String> =
        first.iter().flat_map(|a| last.iter().map(move |b| format!("{a} {b}"))).collect();
    let cities = ["Bada", "Cora", "Dena", "Foda"];
    let pairs = || people.iter().zip(cities.iter().cycle());
    let turns = pairs().map(|(name, city)| {
        TURN.replace("NAME", name).replace("CITY", city).replace("PLACE", "Hill") + "\n"
    });
    let question = |(name, city): (&String, &&str)| {
        format!("{{\"question\":\"Where does {name} live?\",\"golden_answers\":[\"{city}\"]}}\n")
    };
    let passages = pairs().map(|(name, city)| {
        format!(
            "{{\"title\":\"{name}\",\"text\":\"{name} lives in {city}, where {name} was born.\"}}\n"
        )
    });
    fs::create_dir_all(dir.join("data")).unwrap();
    let write = |name: &str, text: String| fs::write(dir.join("data").join(name), text).unwrap();
    write("turns.jsonl", turns.collect());
    write("train.jsonl", pairs().take(30).map(question).collect());
    write("test.jsonl", pairs().skip(30).map(question).collect());
    write("corpus.jsonl", passages.collect());
    write(
        "data.toml",
        "questions = [\"train.jsonl\"]\ncorpus = \"corpus.jsonl\"\nturns = [\"turns.jsonl\"]\n\n\
         [[tests]]\nname = \"people\"\nquestions = \"test.jsonl\"\ncorpus = \"corpus.jsonl\"\n"
            .to_owned(),
    );
}

const REPRODUCE: [&str; 10] = [
    "reproduce",
    "--preset",
    "real",
    "--smoke",
    "--model",
    "model",
    "--data",
    "data",
    "--out",
    "out",
];

#[test]
fn every_stage_runs_and_is_reported() {
    let scratch = tempfile::tempdir().unwrap();
    let dir = scratch.path();
    tiny_model(2).save(&dir.join("model")).unwrap();
    write_data(dir);
    let plan = zs_ok(dir, &[&REPRODUCE[..], &["--dry-run"]].concat());
    assert_eq!(plan.lines().count(), 8 + 6, "{plan}");
    assert!(!dir.join("out").exists());

    let only = |stage| zs_ok(dir, &[&REPRODUCE[..], &["--only", stage]].concat());
    only("episodes_of_turns");
    let report = fs::read_to_string(dir.join("out/report.md")).unwrap();
    assert!(
        report.contains("Not evaluated yet.") && report.contains("| bm25 | not run |"),
        "{report}"
    );

    let printed = zs_ok(dir, &REPRODUCE);
    for arm in ["base, direct", "base, rag", "cold_start, trained", "simulated, trained"] {
        assert!(printed.contains(arm), "{arm}: {printed}");
    }
    let report = fs::read_to_string(dir.join("out/report.md")).unwrap();
    for text in ["A run of `--smoke`", "simulated - bm25", "bm25: 2 steps", "sha256"] {
        assert!(report.contains(text), "{text}: {report}");
    }
    let page = fs::read_to_string(dir.join("out/report.html")).unwrap();
    assert!(page.contains("<svg") && page.trim_end().ends_with("</html>"));

    // Nothing runs twice, and results of other data are refused.
    let before = fs::metadata(dir.join("out/bm25/metrics.jsonl")).unwrap().modified().unwrap();
    zs_ok(dir, &REPRODUCE);
    let after = fs::metadata(dir.join("out/bm25/metrics.jsonl")).unwrap().modified().unwrap();
    assert_eq!(before, after);
    fs::write(dir.join("data/corpus.jsonl"), "{\"title\":\"x\",\"text\":\"y\"}\n").unwrap();
    let output = zs(dir, &REPRODUCE);
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success());
    assert!(error.contains("data/corpus.jsonl has changed") && error.contains("--out"), "{error}");
}

#[test]
fn a_stage_that_fails_is_named_with_its_command() {
    let scratch = tempfile::tempdir().unwrap();
    let dir = scratch.path();
    tiny_model(2).save(&dir.join("model")).unwrap();
    write_data(dir);
    fs::write(dir.join("data/turns.jsonl"), "{\"question\": 3}\n").unwrap();
    let output = zs(dir, &REPRODUCE);
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success());
    assert!(
        error.contains(
            "episodes_of_turns: ended with exit status: 1; repeat the call to resume: zs "
        ),
        "{error}"
    );
    assert!(error.contains("zs data trajectories --turns data/turns.jsonl"), "{error}");
}
