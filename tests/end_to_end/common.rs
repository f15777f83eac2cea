//! What the end-to-end tests share: a tiny model, and the built `zs`.

use std::path::Path;
use std::process::{Command, Output};

use zs_model::LanguageModel;
use zs_simulator::world;
use zs_train::config::ModelShape;
use zs_train::run::pretrain::model_config;
use zs_train::run::rollouts::{RecordedGroup, read_rollouts, recorded_steps};

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

/// Every recorded group of a run.
pub(crate) fn recorded_groups(run: &Path) -> Vec<RecordedGroup> {
    let steps = recorded_steps(run).unwrap().into_iter();
    steps.flat_map(|step| read_rollouts(run, step).unwrap()).collect::<Result<_, _>>().unwrap()
}
