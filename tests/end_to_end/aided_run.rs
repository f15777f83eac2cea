//! Runs with program functions, helper models, a judge and step rewards.

use std::fs;

use crate::common::{tiny_model, train_toml, zs, zs_ok};

const RESOURCES: &str = r#"
[helper_models]
model = "model"
agents = ["verify", "knowledge"]
budget = 2

[judge]
model = "model"
max_new_tokens = 4
template = "{{ question }} {{ a }} {{ b }} {{ rubrics }}"

[corpus]
kind = "world"
world = { seed = 1, split = "train" }

[training.temperature]
kind = "linear"
start = 1.5
end = 0.5

[training.algorithm]
kind = "aipo_style"
grpo = { kl_coef = 0.0 }

[training.reward]
kind = "sum"
terms = [
    { weight = 1.0, reward = { kind = "f1" } },
    { weight = 0.1, reward = { kind = "invalid_action" } },
    { weight = 0.1, reward = { kind = "information_gain" } },
    { weight = 0.1, reward = { kind = "length" }, warm_up_steps = 2 },
    { weight = 0.1, reward = { kind = "rubric", rubrics = [{ kind = "core", text = "short" }] } },
    { weight = 0.1, reward = { kind = "over_budget" } },
]
"#;

fn run_file(out: &str) -> String {
    let rollout = "[training.rollout]\nprograms = [\"insufficient_exploration\"]\n\
                   token_budget = { tokens = 30 }\n";
    train_toml(out).replace("[training.rollout]\n", rollout) + RESOURCES
}

#[test]
fn a_run_with_all_aids_is_a_function_of_its_seed() {
    let scratch = tempfile::tempdir().unwrap();
    let dir = scratch.path();
    tiny_model(1).save(&dir.join("model")).unwrap();
    for out in ["a", "b"] {
        fs::write(dir.join(format!("{out}.toml")), run_file(out)).unwrap();
        zs_ok(dir, &["train", &format!("{out}.toml")]);
    }
    let read = |path: &str| fs::read(dir.join(path)).unwrap();
    for name in
        ["metrics.jsonl", "rollouts/step-000001.jsonl.zst", "checkpoints/final/model.safetensors"]
    {
        assert!(read(&format!("a/{name}")) == read(&format!("b/{name}")), "{name} differs");
    }
    let metrics = String::from_utf8(read("a/metrics.jsonl")).unwrap();
    let rows: Vec<serde_json::Value> =
        metrics.lines().map(|it| serde_json::from_str(it).unwrap()).collect();
    let temperatures: Vec<f64> =
        rows[1..].iter().map(|it| it["rollout/temperature"].as_f64().unwrap()).collect();
    assert_eq!(temperatures, [1.5, 1.0, 0.5]);
    let keys = [
        "reward/invalid_action",
        "reward/information_gain_unlabelled",
        "reward/length",
        "reward/rubric_failed",
        "reward/over_budget",
        "rollout/over_budget_frac",
        "program/num_modified",
    ];
    for key in keys {
        assert!(rows[1..].iter().any(|it| it[key].is_number()), "{key}: {metrics}");
    }
    // Every question of the world has its gold documents in the corpus.
    assert!(rows[1..].iter().all(|it| it["reward/information_gain_unlabelled"] == 0.0));
}

#[test]
fn what_a_reward_needs_is_asked_for() {
    let scratch = tempfile::tempdir().unwrap();
    let dir = scratch.path();
    for (kind, table) in [("information_gain", "`corpus`"), ("rubric", "`judge`")] {
        let run = format!("{}\n[training.reward]\nkind = \"{kind}\"\n", train_toml("a"));
        fs::write(dir.join("run.toml"), run).unwrap();
        let output = zs(dir, &["train", "run.toml"]);
        let message = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && message.contains(table), "{message}");
    }
}
