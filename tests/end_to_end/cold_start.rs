//! Cold start: from recorded searches to episodes, and from episodes to a policy.

use std::fs;
use std::path::Path;

use crate::common::{assert_same_files, tiny_model, zs, zs_ok};

fn write_turns(dir: &Path) {
    let row = |who: &str, city: &str| {
        format!(
            r#"{{"question":"Where was {who} born?","golden_answers":["{city}"],"turns":[{{"query":"{who}","docs":[{{"title":"{who}","text":"{who} was born in {city}."}}]}}]}}"#
        )
    };
    let rows = [row("Anna", "Bada"), row("Bo", "Cora"), row("Carl", "Dena"), row("Dora", "Bada")];
    fs::write(dir.join("turns.jsonl"), rows.join("\n")).unwrap();
    fs::write(dir.join("test.jsonl"), r#"{"question":"where was dora born","answer":"Bada"}"#)
        .unwrap();
}

fn run_file(out: &str) -> String {
    format!(
        r#"
seed = 1
out = "{out}"
base = "elsewhere"

[data]
kind = "trajectories"
train = ["set/train.jsonl"]

[data.rollout]
prompt_template = "Question: {{{{ question }}}}\n"
document_titles = true

[tuning]
steps = 6
tokens_per_step = 60
micro_batch_tokens = 120
eval_every = 2
checkpoint_every = 2
optimizer = {{ learning_rate = 1e-2 }}
"#
    )
}

#[test]
fn a_policy_imitates_episodes_that_were_built() {
    let scratch = tempfile::tempdir().unwrap();
    let dir = scratch.path();
    tiny_model(2).save(&dir.join("model")).unwrap();
    write_turns(dir);
    let build = [
        "data",
        "trajectories",
        "--turns",
        "turns.jsonl",
        "--exclude",
        "test.jsonl",
        "--validation-share",
        "0",
        "--out",
        "set",
    ];
    let built = zs_ok(dir, &build);
    assert!(built.contains("train.jsonl: 3 episodes of 3 questions"), "{built}");
    assert!(built.contains("1 of them are among the 1 questions of test.jsonl"), "{built}");
    for out in ["a", "b"] {
        fs::write(dir.join(format!("{out}.toml")), run_file(out)).unwrap();
    }
    let base = ["--set", "base=model"];
    let dry = zs_ok(dir, &[&["sft", "a.toml", "--dry-run"][..], &base].concat());
    assert!(dry.contains("train: 3 rows"), "{dry}");
    assert!(dry.contains(r#"learned: "<search> Anna </search>""#), "{dry}");
    assert!(dry.contains("left out: 0"), "{dry}");
    assert!(!dir.join("a").exists());
    for out in ["a", "b"] {
        zs_ok(dir, &[&["sft", &format!("{out}.toml")][..], &base].concat());
    }
    assert_same_files(&dir.join("a"), &dir.join("b"));
    fs::remove_file(dir.join("b/summary.json")).unwrap();
    fs::remove_dir_all(dir.join("b/checkpoints/final")).unwrap();
    zs_ok(dir, &[&["sft", "b.toml", "--resume"][..], &base].concat());
    assert_same_files(&dir.join("a"), &dir.join("b"));
}

#[test]
fn episodes_that_cannot_be_used_are_named() {
    let scratch = tempfile::tempdir().unwrap();
    let dir = scratch.path();
    tiny_model(2).save(&dir.join("model")).unwrap();
    write_turns(dir);
    let none = [
        "data",
        "trajectories",
        "--turns",
        "turns.jsonl",
        "--exclude",
        "turns.jsonl",
        "--out",
        "set",
    ];
    let message = String::from_utf8(zs(dir, &none).stderr).unwrap();
    assert!(
        message.contains("no episode is left to train on; dropped: excluded_question 4"),
        "{message}"
    );
    let both = ["data", "trajectories", "--turns", "turns.jsonl", "--corpus", "c", "--out", "set"];
    let message = String::from_utf8(zs(dir, &both).stderr).unwrap();
    assert!(message.contains("give one source"), "{message}");

    fs::create_dir(dir.join("set")).unwrap();
    let good = r#"{"question":"who?","text":"<answer> Anna </answer>"}"#;
    let bad = r#"{"question":"who?","text":"<answer> Anna"}"#;
    fs::write(dir.join("set/train.jsonl"), format!("{good}\n{bad}\n{good}\n")).unwrap();
    fs::write(dir.join("a.toml"), run_file("a")).unwrap();
    let run = ["sft", "a.toml", "--set", "base=model"];
    let message = String::from_utf8(zs(dir, &run).stderr).unwrap();
    assert!(message.contains("1 of 3 episodes cannot be used"), "{message}");
    assert!(!dir.join("a").exists());
    let dry = zs_ok(dir, &[&run[..], &["--dry-run"]].concat());
    assert!(dry.contains("set/train.jsonl, row 2: turn 1: `<answer>` is unmatched"), "{dry}");
    zs_ok(dir, &[&run[..], &["--set", "data.skip_bad_rows=true"]].concat());
    let summary = fs::read_to_string(dir.join("a/summary.json")).unwrap();
    assert!(summary.contains("\"left_out\": 1"), "{summary}");
}
