//! Fixtures of the end-to-end tests: a tiny model, and the built `zs`.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use burn::tensor::Device;
use zs_model::LanguageModel;
use zs_trainer::config::ModelShape;
use zs_trainer::supervised::pretrain::model_config;
use zs_trainer::{RecordedGroup, read_rollouts, recorded_steps};

/// A random model over the vocabulary of embedded worlds.
pub(crate) fn tiny_model(seed: u64) -> LanguageModel {
    let shape = ModelShape {
        hidden_size: 32,
        intermediate_size: 64,
        num_hidden_layers: 2,
        num_attention_heads: 2,
        num_key_value_heads: 1,
        max_position_embeddings: 256,
    };
    let tokenizer = zs_simulator::pretraining::world_tokenizer();
    let config = model_config(shape, &tokenizer).unwrap();
    LanguageModel::initialize(config, tokenizer, seed, &Device::flex())
}

/// A Python that can import some modules; `None`, and a line about it, where there is none.
///
/// `ZS_TEST_PYTHON` names a virtual environment's where the system's lacks them.
#[expect(clippy::print_stderr, reason = "a test that is skipped says so")]
pub(crate) fn python_with(modules: &str) -> Option<String> {
    let python = std::env::var("ZS_TEST_PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let import = Command::new(&python).args(["-c", &format!("import {modules}")]).output();
    if import.is_ok_and(|it| it.status.success()) {
        return Some(python);
    }
    eprintln!("skipped: `{python}` cannot import {modules}");
    None
}

/// Number from the environment.
pub(crate) fn number(variable: &str, default: u64) -> u64 {
    std::env::var(variable).map_or(default, |it| it.parse().unwrap())
}

/// Runs the built binary in a directory.
pub(crate) fn zs(dir: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_zs-under-test"))
        .current_dir(dir)
        .arg("--quiet")
        .args(arguments)
        .output()
        .unwrap()
}

/// Runs the built binary and expects success.
#[track_caller]
pub(crate) fn zs_ok(dir: &Path, arguments: &[&str]) -> String {
    let output = zs(dir, arguments);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "zs {arguments:?}: {stderr}");
    String::from_utf8(output.stdout).unwrap()
}

/// A run file of `zs train` over an embedded world, three steps long.
pub(crate) fn train_toml(out: &str) -> String {
    format!(
        r#"
seed = 3
out = "{out}"
policy = "model"
questions = {{ kind = "world", world = {{ seed = 1, split = "train" }}, per_hop = 5 }}
engine = {{ kind = "bm25", world = {{ seed = 1, split = "train" }} }}

[validation]
questions = {{ kind = "world", world = {{ seed = 1, split = "validation" }}, per_hop = 3 }}
engine = {{ kind = "bm25", world = {{ seed = 1, split = "validation" }} }}

[training.schedule]
steps = 3
questions_per_step = 2
group_size = 2
eval_every = 2

[training.rollout]
max_searches = 2
num_documents = 2
max_new_tokens = 12
max_observation_tokens = 60
prompt_template = "Question: {{{{ question }}}}\n"

[training.optimizer]
learning_rate = 1e-3

[training.curriculum]
kind = "linear"
start = 0.0
end = 0.5
"#
    )
}

/// Saves a tiny model that has been taught to open with a search, to `searcher/checkpoints/final`.
pub(crate) fn searcher(dir: &Path) {
    tiny_model(1).save(&dir.join("base")).unwrap();
    zs_ok(
        dir,
        &[
            "data",
            "world",
            "--seed",
            "1",
            "--split",
            "train",
            "--questions",
            "8",
            "--out",
            "lesson",
        ],
    );
    let questions = zs_data::read_questions(&dir.join("lesson/questions.jsonl")).unwrap();
    let row = |it: &zs_core::Question| {
        let prompt = format!("Question: {}\n", it.text);
        let words: Vec<&str> = it.text.split_whitespace().collect();
        let completion = format!("<search>{}</search>", words[words.len() / 2..].join(" "));
        format!("{}\n", serde_json::json!({ "prompt": prompt, "completion": completion }))
    };
    std::fs::write(dir.join("lesson.jsonl"), questions.iter().map(row).collect::<String>())
        .unwrap();
    let run = r#"
seed = 1
out = "searcher"
base = "base"
data = { kind = "file", train = "lesson.jsonl" }
tuning = { steps = 80, tokens_per_step = 400, micro_batch_tokens = 400, eval_every = 80, optimizer = { learning_rate = 1e-2 } }
"#;
    std::fs::write(dir.join("lesson.toml"), run).unwrap();
    zs_ok(dir, &["sft", "lesson.toml"]);
}

/// Every file below a directory, but those that hold times, the directory's own name, or what
/// several processes have paid.
pub(crate) fn contents(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut files = BTreeMap::new();
    let mut dirs = vec![dir.to_owned()];
    while let Some(at) = dirs.pop() {
        for entry in std::fs::read_dir(at).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                dirs.push(path);
                continue;
            }
            let name = path.strip_prefix(dir).unwrap().display().to_string();
            let last = name.rsplit('/').next().unwrap();
            let is_report = last.starts_with("report.");
            let has_times = ["timings.jsonl", "costs.json", "spent.jsonl"].contains(&last);
            let has_name = ["config.toml", ".lock"].contains(&last);
            if is_report || has_times || has_name {
                continue;
            }
            let mut bytes = fs::read(path).unwrap();
            if last == "manifest.json" {
                // That of the run file, which names the directory.
                let text = String::from_utf8(bytes).unwrap();
                let kept = text.lines().filter(|it| !it.contains("config_sha256"));
                bytes = kept.collect::<Vec<_>>().join("\n").into_bytes();
            } else if last == "audit.jsonl" {
                // As above, and what is chained to it.
                let text = String::from_utf8(bytes).unwrap();
                let kept = text.lines().map(|it| without(it, &["run_file", "hash"]));
                bytes = kept.collect::<String>().into_bytes();
            }
            files.insert(name, bytes);
        }
    }
    files
}

/// A JSON line without some of its keys.
fn without(line: &str, keys: &[&str]) -> String {
    let mut object: serde_json::Map<String, serde_json::Value> =
        serde_json::from_str(line).unwrap();
    keys.iter().for_each(|it| drop(object.remove(*it)));
    format!("{}\n", serde_json::Value::from(object))
}

/// Compares the [`contents`] of two directories.
#[track_caller]
pub(crate) fn assert_same_files(a: &Path, b: &Path) {
    let (a, b) = (contents(a), contents(b));
    assert_eq!(a.keys().collect::<Vec<_>>(), b.keys().collect::<Vec<_>>());
    for (name, bytes) in &a {
        assert!(bytes == &b[name], "{name} differs");
    }
}

/// Every recorded group of a run.
pub(crate) fn recorded_groups(run: &Path) -> Vec<RecordedGroup> {
    let steps = recorded_steps(run).unwrap().into_iter();
    steps.flat_map(|step| read_rollouts(run, step).unwrap()).collect::<Result<_, _>>().unwrap()
}

/// A run of several steps that keeps every checkpoint.
pub(crate) fn run_of_six_steps(out: &str, policy: &str, extra: &str) -> String {
    let run = train_toml(out)
        .replace("steps = 3", "steps = 6")
        .replace("policy = \"model\"", &format!("policy = \"{policy}\""));
    format!("{run}\n[training.checkpoints]\nevery = 1\nkeep_last = 100\n{extra}")
}

/// Copies a directory.
pub(crate) fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        match entry.file_type().unwrap().is_dir() {
            true => copy(&entry.path(), &target),
            false => drop(fs::copy(entry.path(), target).unwrap()),
        }
    }
}

/// Makes `run` one that was killed some time after the checkpoint of `step`.
pub(crate) fn take_back(run: &Path, step: usize) {
    fs::remove_file(run.join("summary.json")).unwrap();
    let _ = fs::remove_file(run.join("costs.json"));
    for entry in fs::read_dir(run.join("checkpoints")).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        let number = name.strip_prefix("step-").map(|it| it.parse::<usize>().unwrap());
        if number.is_none_or(|it| it > step) {
            fs::remove_dir_all(path).unwrap();
        }
    }
}
