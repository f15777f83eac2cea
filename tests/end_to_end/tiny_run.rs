//! Whole runs on a tiny random model: the same seed writes the same bytes, and what is written
//! reads back.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use crate::common::{assert_same_files, recorded_groups, tiny_model, train_toml, zs, zs_ok};
use zs_reproduce::claims::{ClaimsReport, Request, Verdict, quick, quick_config, run};
use zs_reproduce::config::ReproduceConfig;
use zs_trainer::config::{PretrainConfig, SftConfig, TrainConfig, load, parse};
use zs_trainer::{Components, RunContext};

#[test]
fn training_is_a_function_of_its_seed() {
    let scratch = tempfile::tempdir().unwrap();
    let dir = scratch.path();
    tiny_model(1).save(&dir.join("model")).unwrap();
    for out in ["a", "b"] {
        fs::write(dir.join(format!("{out}.toml")), train_toml(out)).unwrap();
        zs_ok(dir, &["train", &format!("{out}.toml")]);
    }
    assert_same_files(&dir.join("a"), &dir.join("b"));

    let metrics = fs::read_to_string(dir.join("a/metrics.jsonl")).unwrap();
    let rows: Vec<serde_json::Value> =
        metrics.lines().map(|it| serde_json::from_str(it).unwrap()).collect();
    let steps: Vec<_> = rows.iter().map(|it| it["step"].as_u64().unwrap()).collect();
    assert_eq!(steps, [0, 1, 2, 3]);
    let is_validated = |it: &serde_json::Value| it["validation/exact_match"].is_number();
    let validated: Vec<bool> = rows.iter().map(is_validated).collect();
    assert_eq!(validated, [true, false, true, true]);
    assert_eq!(rows[3]["curriculum/noise_probability"], 0.5);
    assert!(rows[1]["actor/grad_norm"].as_f64().unwrap() > 0.0);
    assert!(!metrics.contains("time/"), "times belong into timings.jsonl");

    let groups = recorded_groups(&dir.join("a"));
    assert_eq!(groups.len(), 3 * 2);
    for group in &groups {
        let tokens = group.group.trajectories.iter().map(|it| it.trajectory.num_tokens());
        assert!(group.advantages.iter().map(Vec::len).eq(tokens), "one advantage a token");
    }
    assert!(groups.iter().all(|it| it.group.trajectories.len() == 2));

    let before = fs::read(dir.join("model/model.safetensors")).unwrap();
    let after = fs::read(dir.join("a/checkpoints/final/model.safetensors")).unwrap();
    assert_ne!(before, after, "training must change the weights");
    let questions = ["--questions", "w/questions.jsonl", "--corpus", "w/corpus.jsonl"];
    zs_ok(dir, &["data", "world", "--seed", "5", "--questions", "6", "--out", "w"]);
    let eval = ["eval", "--model", "a/checkpoints/best", "--out", "e", "--limit", "4"];
    let table = zs_ok(dir, &[&eval[..], &questions[..]].concat());
    assert!(table.contains("exact match"), "{table}");
    assert!(dir.join("e/summary.json").exists());
    let with = ["eval", "--model", "model", "--out", "p", "--limit", "4"];
    let program = ["--program", "insufficient_exploration"];
    zs_ok(dir, &[&with[..], &program[..], &questions[..]].concat());
    let played = fs::read_to_string(dir.join("p/trajectories.jsonl")).unwrap();
    assert!(played.contains("\"insufficient_exploration\""), "{played}");
}

#[test]
fn adapters_are_trained_alone_and_saved_merged() {
    let scratch = tempfile::tempdir().unwrap();
    let dir = scratch.path();
    tiny_model(1).save(&dir.join("model")).unwrap();
    let adapters = "[training.lora]\nr = 2\nalpha = 4.0\ntarget_modules = [\"q_proj\"]\n\
                    [training.memory]\ngradient_checkpointing = true\n";
    fs::write(dir.join("run.toml"), format!("{}{adapters}", train_toml("a"))).unwrap();
    zs_ok(dir, &["train", "run.toml"]);
    let weights = |dir: &Path| {
        let bytes = fs::read(dir.join("model.safetensors")).unwrap();
        let tensors = safetensors::SafeTensors::deserialize(&bytes).unwrap();
        let all = tensors.tensors().into_iter();
        all.map(|(name, it)| (name, it.data().to_vec())).collect::<BTreeMap<_, _>>()
    };
    let (before, after) = (weights(&dir.join("model")), weights(&dir.join("a/checkpoints/final")));
    assert_eq!(before.keys().collect::<Vec<_>>(), after.keys().collect::<Vec<_>>());
    for (name, bytes) in &before {
        assert_eq!(*bytes != after[name], name.contains("q_proj"), "{name}");
    }
    fs::write(
        dir.join("run.toml"),
        format!("{}{adapters}", train_toml("b")).replace("\"q_proj\"", "\"w_proj\""),
    )
    .unwrap();
    let refused = zs(dir, &["train", "run.toml"]);
    assert!(String::from_utf8_lossy(&refused.stderr).contains("w_proj"));
}

/// The metrics of a run, one object a line.
fn metrics(run: &Path) -> Vec<serde_json::Value> {
    let text = fs::read_to_string(run.join("metrics.jsonl")).unwrap();
    text.lines().map(|it| serde_json::from_str(it).unwrap()).collect()
}

/// PPO end to end: the value model is trained, saved beside the policy, and resumed.
#[test]
fn a_value_model_is_trained_saved_and_gone_on_with() {
    let scratch = tempfile::tempdir().unwrap();
    let dir = scratch.path();
    tiny_model(1).save(&dir.join("model")).unwrap();
    let settings = r#"
[training.algorithm]
kind = "ppo"
gae = { gamma = 1.0, lambda = 0.95 }

[training.critic]
learning_rate = 1e-2
warmup_steps = 0

[training.reward]
kind = "format"

[training.update]
mini_batches = 2
adaptive_kl = { target = 0.1, horizon = 100.0 }
importance = { bound = { truncate = { max = 2.0 } } }
llds_coef = 0.2
"#;
    for (out, policy) in [("a", "model"), ("b", "model"), ("c", "a/checkpoints/final")] {
        let toml = train_toml(out).replace("policy = \"model\"", &format!("policy = \"{policy}\""));
        fs::write(dir.join(format!("{out}.toml")), toml + settings).unwrap();
        zs_ok(dir, &["train", &format!("{out}.toml")]);
    }
    assert_same_files(&dir.join("a"), &dir.join("b"));
    let rows = metrics(&dir.join("a"));
    for row in &rows[1..] {
        for key in [
            "critic/loss",
            "critic/grad_norm",
            "critic/explained_variance",
            "reward/kl",
            "actor/kl_coef",
            "actor/llds_loss",
            "rollout/importance_weight",
            "rollout/effective_sample_frac",
        ] {
            assert!(row[key].is_number(), "{key}: {row}");
        }
    }
    let saved = dir.join("a/checkpoints/final/value/model.safetensors");
    let goes_on = dir.join("c/checkpoints/final/value/model.safetensors");
    assert_ne!(fs::read(saved).unwrap(), fs::read(goes_on).unwrap());
}

/// Dynamic sampling plays more episodes where rewards are equal, and curated texts are learned.
#[test]
fn zero_variance_groups_are_replaced_within_bounds() {
    let scratch = tempfile::tempdir().unwrap();
    let dir = scratch.path();
    tiny_model(1).save(&dir.join("model")).unwrap();
    let text = r#"{"prompt": "Where was Anna born?", "completion": "<answer> Bada </answer>"}"#;
    fs::write(dir.join("texts.jsonl"), text).unwrap();
    let settings = r#"
[training.algorithm]
kind = "dapo"
kl_coef = 0.01
dynamic_sampling = { max_refills = 2 }

[training.update]
ptx_coef = 0.5

[training.ptx]
path = "texts.jsonl"
tokens_per_step = 20
"#;
    let toml = train_toml("a").replace("eval_every = 2", "eval_every = 2\nreference_every = 1");
    fs::write(dir.join("a.toml"), toml + settings).unwrap();
    zs_ok(dir, &["train", "a.toml"]);
    // A random model answers nothing: all rewards are 0, and every step tries as often as it may.
    let rows = metrics(&dir.join("a"));
    for row in &rows[1..] {
        assert_eq!(row["rollout/num_refills"], 2.0, "{row}");
        assert_eq!(row["reward/zero_variance_groups"], 1.0, "{row}");
        assert!(row["actor/ptx_loss"].as_f64().unwrap() > 0.0, "{row}");
        // The reference is the policy of the step before.
        assert!(row["actor/kl"].as_f64().unwrap().abs() < 1e-6, "{row}");
    }
    assert!(rows[3]["actor/ptx_loss"].as_f64() < rows[1]["actor/ptx_loss"].as_f64());
}

const PRETRAIN: &str = r#"
seed = 1
out = "OUT"
worlds = 1
first_world_seed = 1
tokens_per_step = 200
micro_batch_tokens = 200
chunk_examples = 8
checkpoint_every = 2

[model]
hidden_size = 32
intermediate_size = 64
num_hidden_layers = 2
num_attention_heads = 2
num_key_value_heads = 1
max_position_embeddings = 256

[probe]
every = 2
questions = 4

[optimizer]
kind = "muon"
learning_rate = 3e-3
warmup_steps = 2

[[phases]]
name = "copying"
steps = 2
learning_rate_factor = 0.5
mix = { transcript = 0.5, simulation = 0.0, reading = 0.0, page = 0.0, repetition = 0.5, induction = 0.0 }

[[phases]]
name = "everything"
steps = 4
schedule = { kind = "linear", end = 0.1 }
mix = { transcript = 0.4, simulation = 0.2, reading = 0.2, page = 0.1, repetition = 0.0, induction = 0.1 }
"#;

#[test]
fn pre_training_is_a_function_of_its_seed_and_resumes() {
    let scratch = tempfile::tempdir().unwrap();
    let dir = scratch.path();
    for out in ["a", "b", "c"] {
        fs::write(dir.join(format!("{out}.toml")), PRETRAIN.replace("OUT", out)).unwrap();
        zs_ok(dir, &["pretrain", &format!("{out}.toml")]);
    }
    let metrics = |out: &str| fs::read_to_string(dir.join(out).join("metrics.jsonl")).unwrap();
    // The card names the run file, so it alone differs.
    let assert_same_run = |a: &str, b: &str| {
        assert_eq!(metrics(a), metrics(b));
        for part in ["step-000004", "step-000006", "final/model.safetensors"] {
            let part = |out: &str| dir.join(out).join("checkpoints").join(part);
            if part(a).is_dir() {
                assert_same_files(&part(a), &part(b));
            } else {
                assert_eq!(fs::read(part(a)).unwrap(), fs::read(part(b)).unwrap());
            }
        }
    };
    assert_same_run("a", "b");
    assert_eq!(metrics("a").lines().count(), 6);
    let card = fs::read_to_string(dir.join("a/checkpoints/final/README.md")).unwrap();
    assert!(card.contains("6 steps") && card.contains("| copying | 2 |"), "{card}");

    let finished = zs(dir, &["pretrain", "c.toml", "--resume"]);
    assert!(String::from_utf8_lossy(&finished.stderr).contains("finished"));

    // As if interrupted: from the newest checkpoint, and, with that one damaged, from the one before.
    let checkpoints = dir.join("c/checkpoints");
    let newest = checkpoints.join("step-000006");
    for damage in [false, true] {
        fs::remove_file(dir.join("c/summary.json")).unwrap();
        fs::remove_dir_all(checkpoints.join("final")).unwrap();
        if damage {
            let weights = newest.join("model/model.safetensors");
            let mut bytes = fs::read(&weights).unwrap();
            *bytes.last_mut().unwrap() ^= 1;
            fs::write(&weights, bytes).unwrap();
        }
        zs_ok(dir, &["pretrain", "c.toml", "--resume"]);
        assert_same_run("a", "c");
    }
}

/// The whole of `zs reproduce` with next to no training.
#[test]
fn the_main_job_writes_its_report() {
    let scratch = tempfile::tempdir().unwrap();
    let dir = scratch.path();
    tiny_model(1).save(&dir.join("base")).unwrap();
    let small = |out: &str| -> ReproduceConfig {
        let mut config =
            quick_config(zs_world::WorldPreset::Easy, &Components::built_in()).unwrap();
        config.out = dir.join(out);
        config.base = dir.join("base");
        config.worlds.train_per_hop = 4;
        config.worlds.validation_per_hop = 2;
        config.worlds.test_per_hop = 3;
        config.data.worlds = 1;
        config.data.examples = 20;
        config.data.validation_examples = 4;
        config.tuning.steps = 2;
        config.tuning.tokens_per_step = 200;
        config.simulator.max_new_tokens = 12;
        config.audit.per_kind = 3;
        config.training.schedule.steps = 2;
        config.training.schedule.questions_per_step = 2;
        config.training.schedule.group_size = 2;
        config.training.rollout.max_new_tokens = 12;
        config
    };
    let reproduce = |out: &str| -> ClaimsReport {
        let preset = quick(small(out), &Components::built_in()).unwrap();
        let request = Request { num_seeds: 1, only: Vec::new(), jobs: 1, report_only: false };
        let (report, failures) = run(&preset, &request, &RunContext::default()).unwrap();
        assert_eq!(failures, Vec::<String>::new());
        report
    };
    let a = reproduce("a");
    let b = reproduce("b");
    assert!(a.is_complete());
    for arm in ["base", "simulated", "real"] {
        assert_eq!(a.arms[arm].values, b.arms[arm].values);
        assert_eq!(a.arms[arm].by_hops[&2].n, 3);
        assert_eq!(a.arms[arm].overall, b.arms[arm].overall);
    }
    assert_same_files(&dir.join("a"), &dir.join("b"));
    for name in ["report.json", "report.md", "report.html"] {
        assert!(dir.join("a").join(name).exists(), "{name}");
    }
    for run in ["simulator", "simulated", "real"] {
        assert!(dir.join("a").join(run).join("metrics.jsonl").exists(), "{run}");
    }
    for arm in ["base", "simulated", "real"] {
        assert!(dir.join("a/evaluation").join(arm).join("records.jsonl").exists(), "{arm}");
    }
    assert_eq!(a.questions, 6);
    assert_eq!(a.examples.len(), 3);
    let comparison = &a.claims[0].comparisons[0];
    assert!(comparison.difference.unwrap().interval.is_some(), "over questions");
    assert_eq!(comparison.verdict, Verdict::Inconclusive, "one seed decides nothing");
    // Doing it again replaces the report.
    fs::write(dir.join("a/old"), "").unwrap();
    reproduce("a");
    assert!(!dir.join("a/old").exists());
}

/// Every run file of the repository loads as what its name says.
#[test]
fn published_run_files_are_valid() {
    let mut folders = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("../runs")];
    while let Some(folder) = folders.pop() {
        check_run_files(&folder, &mut folders);
    }
}

/// Loads the run files of a folder and lists its folders.
#[track_caller]
fn check_run_files(folder: &Path, folders: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            folders.push(path);
            continue;
        }
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        if name == "README" {
            continue;
        }
        let kind = name.split('_').next().unwrap();
        let result = match kind {
            "pretrain" => load::<PretrainConfig>(&path, &Components::built_in()).map(drop),
            "sft" => load::<SftConfig>(&path, &Components::built_in()).map(drop),
            "train" => load::<TrainConfig>(&path, &Components::built_in()).map(drop),
            _ => panic!("{name}: name run files after their command"),
        };
        result.unwrap();
    }
}

#[test]
fn run_files_name_what_they_do_not_know() {
    let message = parse::<ReproduceConfig>(
        "preset = \"x\"\nfast = true\n",
        "r.toml",
        &Components::built_in(),
    )
    .unwrap_err();
    assert!(message.to_string().contains("r.toml: line 2: unknown field `fast`"));
}
