//! Supervised training: micro-batches, determinism, and saving of weights and optimiser state.
#![cfg(feature = "flex")]
#![expect(clippy::unwrap_used, reason = "a test may stop at the first surprise")]

use std::path::Path;

use burn::module::Module;
use burn::tensor::Device;
use zs_model::testing::{byte_tokenizer, tiny_config};
use zs_model::{
    LanguageModel, ModelConfig, Optimizer, OptimizerConfig, OptimizerKind, SupervisedStats,
    TokenRow, supervised_loss, supervised_step, teacher_forced_matches,
};

fn model(seed: u64) -> LanguageModel {
    LanguageModel::initialize(tiny_config(), byte_tokenizer(), seed, &Device::flex())
}

fn rows() -> Vec<TokenRow> {
    (0..9_usize)
        .map(|row| {
            let tokens: Vec<u32> =
                (0..5 + 3 * row).map(|it| ((it * 5 + row) % 40) as u32).collect();
            let loss_mask = (0..tokens.len()).map(|it| it > 0 && it % 3 != 0).collect();
            TokenRow { tokens, loss_mask }
        })
        .collect()
}

fn steps(kind: OptimizerKind, max_tokens: usize, steps: usize) -> (LanguageModel, SupervisedStats) {
    let start = model(1);
    let config = OptimizerConfig { kind, learning_rate: 3e-3, ..OptimizerConfig::default() };
    let mut network = start.network().clone().train();
    let mut optimizer = Optimizer::new(&config, &network);
    let mut stats = None;
    for _ in 0..steps {
        let step;
        (network, step) = supervised_step(network, &mut optimizer, &rows(), max_tokens);
        stats = Some(step);
    }
    (start.with_network(&network), stats.unwrap())
}

#[test]
fn micro_batches_change_only_rounding() {
    let (_, whole) = steps(OptimizerKind::AdamW, 10_000, 1);
    for max_tokens in [1, 40, 100] {
        let (_, split) = steps(OptimizerKind::AdamW, max_tokens, 1);
        assert_eq!(split.num_loss_tokens, whole.num_loss_tokens);
        assert!((split.loss - whole.loss).abs() < 1e-5, "{split:?} {whole:?}");
        assert!((split.grad_norm - whole.grad_norm).abs() < 1e-4, "{split:?} {whole:?}");
    }
}

#[test]
fn training_is_deterministic_and_learns() {
    for kind in [OptimizerKind::AdamW, OptimizerKind::Muon] {
        let (trained, stats) = steps(kind, 60, 25);
        let (again, stats_again) = steps(kind, 60, 25);
        assert_eq!(stats, stats_again, "{kind:?}");
        let before = supervised_loss(model(1).network(), &rows(), 100);
        let after = supervised_loss(trained.network(), &rows(), 100);
        assert_eq!(after, supervised_loss(again.network(), &rows(), 100), "{kind:?}");
        assert!(after.0 < 0.7 * before.0, "{kind:?}: {after:?} {before:?}");
    }
}

#[test]
fn teacher_forced_accuracy_rises_with_training() {
    let rows = &rows()[..2];
    assert_eq!(teacher_forced_matches(model(1).network(), rows, 100), [false, false]);
    let (trained, _) = steps(OptimizerKind::Muon, 1000, 150);
    assert_eq!(teacher_forced_matches(trained.network(), rows, 100), [true, true]);
}

fn files(dir: &Path) -> Vec<(String, Vec<u8>)> {
    let mut files: Vec<_> = std::fs::read_dir(dir)
        .unwrap()
        .map(|it| it.unwrap().path())
        .map(|it| {
            (it.file_name().unwrap().to_string_lossy().into_owned(), std::fs::read(it).unwrap())
        })
        .collect();
    files.sort();
    files
}

#[test]
fn saving_a_loaded_model_gives_the_same_bytes() {
    let dir = tempfile::tempdir().unwrap();
    let (first, second) = (dir.path().join("first"), dir.path().join("second"));
    let original = model(5);
    original.save(&first).unwrap();
    let loaded = LanguageModel::load(&first, &Device::flex()).unwrap();
    loaded.save(&second).unwrap();
    assert_eq!(files(&first), files(&second));
    assert_eq!(loaded.config(), original.config());
    // Saving over a model replaces the directory and leaves no temporary files.
    model(6).save(&first).unwrap();
    assert_ne!(files(&first), files(&second));
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 2);
}

#[track_caller]
fn refuses(break_it: impl Fn(&Path), expected: &str) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model");
    model(5).save(&path).unwrap();
    break_it(&path);
    let error = LanguageModel::load(&path, &Device::flex()).unwrap_err().to_string();
    assert!(error.contains(expected) && error.contains("model"), "{error}");
}

fn edit(path: &Path, from: &str, to: &str) {
    let text = std::fs::read_to_string(path).unwrap();
    assert!(text.contains(from), "{text}");
    std::fs::write(path, text.replace(from, to)).unwrap();
}

#[test]
fn errors_name_the_defective_file() {
    refuses(|dir| std::fs::remove_file(dir.join("config.json")).unwrap(), "config.json");
    refuses(|dir| std::fs::remove_file(dir.join("tokenizer.json")).unwrap(), "tokenizer.json");
    refuses(|dir| std::fs::remove_file(dir.join("model.safetensors")).unwrap(), "neither");
    refuses(
        |dir| {
            let path = dir.join("model.safetensors");
            let bytes = std::fs::read(&path).unwrap();
            std::fs::write(&path, &bytes[..bytes.len() / 2]).unwrap();
        },
        "not a complete safetensors file",
    );
    let config = |from: &'static str, to: &'static str| {
        move |dir: &Path| edit(&dir.join("config.json"), from, to)
    };
    refuses(
        config("\"num_hidden_layers\": 2", "\"num_hidden_layers\": 3"),
        "tensor model.layers.2.input_layernorm.weight is missing",
    );
    refuses(
        config("\"num_hidden_layers\": 2", "\"num_hidden_layers\": 1"),
        "tensor model.layers.1.",
    );
    refuses(
        config("\"intermediate_size\": 64", "\"intermediate_size\": 65"),
        "has shape [64, 32], but config.json calls for [65, 32]",
    );
    refuses(config("\"vocab_size\": 257", "\"vocab_size\": 200"), "257 tokens");
    refuses(config("\"silu\"", "\"gelu\""), "hidden_act = gelu");
}

/// Trains for `steps` steps.
fn train_on(
    model: &LanguageModel,
    optimizer: &mut Optimizer,
    steps: usize,
) -> (LanguageModel, SupervisedStats) {
    let mut network = model.network().clone().train();
    let mut stats = None;
    for _ in 0..steps {
        let step;
        (network, step) = supervised_step(network, optimizer, &rows(), 60);
        stats = Some(step);
    }
    (model.with_network(&network), stats.unwrap())
}

#[test]
fn resumed_optimisers_are_bit_exact() {
    for kind in [OptimizerKind::AdamW, OptimizerKind::Muon] {
        let scratch = tempfile::tempdir().unwrap();
        let (dir, state) = (scratch.path().join("model"), scratch.path().join("optimizer.bpk"));
        let config =
            OptimizerConfig { kind, learning_rate: 3e-3, warmup_steps: 4, ..Default::default() };
        let start = model(1);
        let mut optimizer = Optimizer::new(&config, start.network());
        let (half, _) = train_on(&start, &mut optimizer, 3);
        half.save(&dir).unwrap();
        optimizer.save(&state).unwrap();
        let bytes = std::fs::read(&state).unwrap();
        let expected = train_on(&half, &mut optimizer, 2);

        let resumed = LanguageModel::load(&dir, &Device::flex()).unwrap();
        let mut optimizer = Optimizer::load(&config, resumed.network(), &state).unwrap();
        assert_eq!(optimizer.steps(), 3);
        optimizer.save(&state).unwrap();
        assert_eq!(std::fs::read(&state).unwrap(), bytes, "equal states give equal files");
        let actual = train_on(&resumed, &mut optimizer, 2);
        assert_eq!(actual.1, expected.1, "{kind:?}");
        let weights = |model: &LanguageModel| {
            model.save(&dir).unwrap();
            std::fs::read(dir.join("model.safetensors")).unwrap()
        };
        assert_eq!(weights(&actual.0), weights(&expected.0), "{kind:?}");
    }
}

#[test]
fn unusable_optimiser_states_are_errors() {
    let scratch = tempfile::tempdir().unwrap();
    let path = scratch.path().join("optimizer.bpk");
    let config = OptimizerConfig::default();
    let start = model(1);
    let mut optimizer = Optimizer::new(&config, start.network());
    train_on(&start, &mut optimizer, 1);
    optimizer.save(&path).unwrap();
    let check = |model: &LanguageModel, expected: &str| {
        let error = Optimizer::load(&config, model.network(), &path).unwrap_err().to_string();
        assert!(error.contains("optimizer.bpk") && error.contains(expected), "{error}");
    };
    let wider = ModelConfig { intermediate_size: 24, ..tiny_config() };
    let wider = LanguageModel::initialize(wider, byte_tokenizer(), 1, &Device::flex());
    check(&wider, "another model");
    let bytes = std::fs::read(&path).unwrap();
    std::fs::write(&path, &bytes[..bytes.len() / 2]).unwrap();
    check(&start, "cannot be written or read");
    std::fs::remove_file(&path).unwrap();
    check(&start, "cannot be written or read");
}
