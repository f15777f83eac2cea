//! Agreement of exported models with transformers and PEFT.
//!
//! Requires a Python with torch, transformers and peft: `python3`, or the one that `ZS_PYTHON`
//! names. The tests are skipped with a message if there is none.
#![cfg(feature = "flex")]
#![expect(clippy::unwrap_used, reason = "a test may stop at the first surprise")]
#![expect(clippy::print_stdout, reason = "a skipped test says why")]

use std::path::Path;
use std::process::Command;

use burn::tensor::Device;
use zs_model::testing::{byte_tokenizer, tiny_config, with_random_lora};
use zs_model::{
    Architecture, LanguageModel, Llama3RopeScaling, LoraConfig, ModelConfig, SaveOptions,
    WeightDtype, verify,
};

fn python() -> Option<Command> {
    let program = std::env::var_os("ZS_PYTHON").unwrap_or_else(|| "python3".into());
    let check = ["-c", "import torch, transformers, peft, safetensors"];
    match Command::new(&program).args(check).output() {
        Ok(output) if output.status.success() => Some(Command::new(program)),
        _ => {
            println!("skipped: {} cannot import torch, transformers, peft", program.display());
            None
        }
    }
}

/// Exports a model, computes a golden file from the export with transformers, and compares
/// `expected` with it.
#[track_caller]
fn check(
    mut python: Command,
    exported: &Path,
    adapter: Option<&Path>,
    expected: &LanguageModel,
    dir: &Path,
) {
    let golden = dir.join("golden.safetensors");
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/interop/golden.py");
    python.arg(script).arg("--model").arg(exported).arg("--out").arg(&golden);
    if let Some(adapter) = adapter {
        python.arg("--adapter").arg(adapter);
    }
    let output = python.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    // The base model in f32, without adapters.
    let plain = dir.join("plain");
    expected.save(&plain).unwrap();
    let report = verify(&plain, &golden, 1e-4, &Device::flex()).unwrap();
    let failed: Vec<_> = report.checks.iter().filter(|it| !it.passed).collect();
    assert!(failed.is_empty(), "{failed:#?}");
    assert!(report.checks.iter().any(|it| it.name.starts_with("grad.")), "gradients are compared");
}

fn config(architecture: Architecture) -> ModelConfig {
    ModelConfig { architecture, qkv_bias: false, ..tiny_config() }
}

#[test]
fn transformers_loads_every_architecture() {
    let scaling = Llama3RopeScaling {
        factor: 8.0,
        low_freq_factor: 1.0,
        high_freq_factor: 4.0,
        original_max_position_embeddings: 16.0,
    };
    let configs = [
        tiny_config(),
        ModelConfig { head_dim: 16, ..config(Architecture::Qwen3) },
        ModelConfig {
            rope_scaling: Some(scaling),
            tie_word_embeddings: false,
            ..config(Architecture::Llama)
        },
    ];
    for config in configs {
        let Some(python) = python() else { return };
        let dir = tempfile::tempdir().unwrap();
        let exported = dir.path().join("model");
        let model = LanguageModel::initialize(config, byte_tokenizer(), 3, &Device::flex());
        model.save(&exported).unwrap();
        check(python, &exported, None, &model, dir.path());
    }
}

#[test]
fn transformers_loads_bf16_shards() {
    let Some(python) = python() else { return };
    let dir = tempfile::tempdir().unwrap();
    let exported = dir.path().join("model");
    let model = LanguageModel::initialize(tiny_config(), byte_tokenizer(), 3, &Device::flex());
    let options = SaveOptions { dtype: WeightDtype::Bf16, max_shard_bytes: 20_000 };
    model.save_with(&exported, &options).unwrap();
    assert!(exported.join("model.safetensors.index.json").exists());
    let rounded = LanguageModel::load(&exported, &Device::flex()).unwrap();
    check(python, &exported, None, &rounded, dir.path());
}

#[test]
fn peft_loads_adapters() {
    let Some(python) = python() else { return };
    let dir = tempfile::tempdir().unwrap();
    let (base, adapter) = (dir.path().join("model"), dir.path().join("adapter"));
    let model = LanguageModel::initialize(tiny_config(), byte_tokenizer(), 3, &Device::flex());
    model.save(&base).unwrap();
    let adapted = model.with_lora(&LoraConfig::default(), 4).unwrap();
    let adapted = adapted.with_network(&with_random_lora(adapted.network(), 5));
    adapted.save_adapter(&adapter, "model").unwrap();
    check(python, &base, Some(&adapter), &adapted, dir.path());
}
