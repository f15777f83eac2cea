//! What the end-to-end tests share: a tiny model, and the built `zs`.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use zs_model::LanguageModel;
use zs_simulator::world;
use zs_train::config::ModelShape;
use zs_train::run::pretrain::model_config;

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
    let tokenizer = world::tokenizer();
    let config = model_config(shape, &tokenizer).unwrap();
    LanguageModel::initialize(config, tokenizer, seed, &zs_train::device::select())
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

/// Every file below a directory, timings left out.
fn contents(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut files = BTreeMap::new();
    let mut dirs = vec![dir.to_owned()];
    while let Some(at) = dirs.pop() {
        for entry in fs::read_dir(at).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                dirs.push(path);
                continue;
            }
            let name = path.strip_prefix(dir).unwrap().display().to_string();
            let is_timed =
                ["timings.jsonl", "config.toml", "report.json", "report.md", "report.html"]
                    .iter()
                    .any(|it| name == *it || (it.starts_with("timings") && name.ends_with(it)));
            if !is_timed {
                files.insert(name, fs::read(path).unwrap());
            }
        }
    }
    files
}

#[track_caller]
pub(crate) fn assert_same_files(a: &Path, b: &Path) {
    let (a, b) = (contents(a), contents(b));
    assert_eq!(a.keys().collect::<Vec<_>>(), b.keys().collect::<Vec<_>>());
    for (name, bytes) in &a {
        assert!(bytes == &b[name], "{name} differs");
    }
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
