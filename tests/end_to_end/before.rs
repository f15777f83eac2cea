//! Checks before a run: `zs doctor` and `zs train --dry-run` report on the machine, the run file
//! and the plan.

use std::fs;

use crate::common::{tiny_model, train_toml, zs, zs_ok};

#[test]
fn the_doctor_says_what_is_usable_and_what_is_not() {
    let scratch = tempfile::tempdir().unwrap();
    let dir = scratch.path();
    let table = zs_ok(dir, &["doctor"]);
    for expected in ["device", "memory", "SERPER_API_KEY", "burn 0."] {
        assert!(table.contains(expected), "{expected}: {table}");
    }

    tiny_model(1).save(&dir.join("model")).unwrap();
    fs::write(dir.join("run.toml"), train_toml("run")).unwrap();
    let table = zs_ok(dir, &["doctor", "run.toml"]);
    for expected in
        ["M parameters", "10 questions", "6 questions", "answers with 1 document", "is free"]
    {
        assert!(table.contains(expected), "{expected}: {table}");
    }

    // Three things wrong at once are all named.
    fs::remove_file(dir.join("model/model.safetensors")).unwrap();
    fs::create_dir(dir.join("run")).unwrap();
    fs::write(dir.join("run/notes"), "mine").unwrap();
    let text = train_toml("run").replacen(
        "{ kind = \"bm25\", world = { seed = 1, split = \"train\" } }",
        "{ kind = \"bm25\", corpus = \"nowhere.jsonl\" }",
        1,
    );
    fs::write(dir.join("run.toml"), text).unwrap();
    let output = zs(dir, &["doctor", "run.toml"]);
    let table = String::from_utf8(output.stdout).unwrap();
    assert!(!output.status.success());
    assert_eq!(table.matches("PROBLEM").count(), 4, "{table}");
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("run.toml: 4 problems, see above"), "{said}");
}

#[test]
fn a_dry_run_says_what_would_happen_and_does_nothing() {
    let scratch = tempfile::tempdir().unwrap();
    let dir = scratch.path();
    tiny_model(1).save(&dir.join("model")).unwrap();
    fs::write(dir.join("run.toml"), train_toml("run")).unwrap();
    let set = ["--set", "training.schedule.steps=7", "--set", "training.algorithm.kind=ppo"];
    let plan = zs_ok(dir, &[&["train", "run.toml", "--dry-run"], &set[..]].concat());
    for expected in ["steps = 7", "7 steps of 4 episodes", "value model", "key-value cache"] {
        assert!(plan.contains(expected), "{expected}: {plan}");
    }
    assert!(!dir.join("run").exists());

    let large = ["--set", "training.schedule.eval_batch_size=1000000000"];
    let refused = zs(dir, &[&["train", "run.toml"], &large[..]].concat());
    let said = String::from_utf8(refused.stderr).unwrap();
    assert!(said.contains("of memory and") && said.contains("--force"), "{said}");
    assert!(!dir.join("run").exists());
    zs_ok(dir, &[&["train", "run.toml", "--force"], &large[..]].concat());

    for (set, expected) in [
        ("training.schedule.step=1", "did you mean `steps`?"),
        ("training.schedule.steps=0", "`training.schedule.steps` must be at least 1"),
        ("training.schedule.steps=few", "invalid type: string \"few\""),
    ] {
        let refused = zs(dir, &["train", "run.toml", "--set", set]);
        let said = String::from_utf8(refused.stderr).unwrap();
        assert!(said.contains(expected) && said.contains("--set"), "{said}");
        assert_eq!(said.lines().count(), 1, "{said}");
    }
}

/// Everything that a run was made from is known afterwards.
#[test]
fn a_run_knows_what_it_was_made_from() {
    let scratch = tempfile::tempdir().unwrap();
    let dir = scratch.path();
    tiny_model(1).save(&dir.join("model")).unwrap();
    fs::write(dir.join("run.toml"), train_toml("run")).unwrap();
    zs_ok(dir, &["train", "run.toml"]);
    let text = fs::read_to_string(dir.join("run/environment.json")).unwrap();
    let found: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(found["zs"], env!("CARGO_PKG_VERSION"));
    for key in ["git_commit", "device", "platform"] {
        assert!(found[key].as_str().is_some_and(|it| !it.is_empty()), "{key}: {text}");
    }
    let weights = found["data"]["model/model.safetensors"].as_str().unwrap();
    assert!(weights.len() == 64 && weights.chars().all(|it| it.is_ascii_hexdigit()), "{text}");
}
