//! Vectors of encoders, beside those of transformers (`tests/interop/encoders.py`).
#![cfg(feature = "flex")]
#![expect(clippy::unwrap_used, reason = "a test may stop at the first surprise")]

use std::path::{Path, PathBuf};

use burn::tensor::Device;
use serde::Deserialize;
use zs_core::{Embedder, TextRole};
use zs_model::{ComputeDtype, TextEncoder};

#[derive(Deserialize)]
struct Golden {
    role: String,
    text: String,
    vector: Vec<f32>,
}

fn encoders(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/encoders").join(name)
}

fn golden(dir: &Path) -> Vec<Golden> {
    serde_json::from_str(&std::fs::read_to_string(dir.join("golden.json")).unwrap()).unwrap()
}

fn largest_difference(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

/// Vectors of the golden texts, all at once and each alone, differ from those of transformers by less
/// than a tolerance.
#[track_caller]
fn check(dir: &Path, compute_dtype: ComputeDtype, tolerance: f32) {
    let encoder = TextEncoder::load(dir, compute_dtype, &Device::flex()).unwrap();
    let golden = golden(dir);
    for role in [TextRole::Query, TextRole::Passage] {
        let name = if role == TextRole::Query { "query" } else { "passage" };
        let golden: Vec<&Golden> = golden.iter().filter(|it| it.role == name).collect();
        let texts: Vec<&str> = golden.iter().map(|it| &*it.text).collect();
        let together = encoder.encode(&texts, role).unwrap();
        assert!(!together.is_empty());
        for (golden, together) in golden.iter().zip(&together) {
            let difference = largest_difference(together, &golden.vector);
            assert!(difference < tolerance, "{}: {difference}", golden.text);
            let alone = encoder.encode(&[&golden.text], role).unwrap().remove(0);
            let most = if role == TextRole::Query { 0.0 } else { 1e-5 };
            assert!(largest_difference(together, &alone) <= most, "{}", golden.text);
        }
    }
}

#[test]
fn bert_with_mean_pooling_prefixes_and_norm() {
    check(&encoders("bert"), ComputeDtype::F32, 1e-5);
    check(&encoders("bert"), ComputeDtype::Bf16, 2e-2);
}

#[test]
fn xlm_roberta_with_cls_pooling() {
    check(&encoders("xlm-roberta"), ComputeDtype::F32, 1e-5);
}

/// Real weights, in a directory with the `golden.json` of `tests/interop/encoders.py`.
#[test]
fn real_weights() {
    match std::env::var_os("ZS_TEST_ENCODER") {
        Some(dir) => check(Path::new(&dir), ComputeDtype::F32, 1e-5),
        None => println!("skipped: ZS_TEST_ENCODER names no model directory"),
    }
}

/// A copy of an encoder with one file changed, or removed.
fn changed(name: &str, text: Option<&str>) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("1_Pooling")).unwrap();
    for file in ["1_Pooling/config.json", "modules.json", "sentence_bert_config.json"] {
        std::fs::copy(encoders("bert").join(file), dir.path().join(file)).unwrap();
    }
    for file in ["config.json", "tokenizer.json", "tokenizer_config.json", "model.safetensors"] {
        std::fs::copy(encoders("bert").join(file), dir.path().join(file)).unwrap();
    }
    match text {
        Some(text) => std::fs::write(dir.path().join(name), text).unwrap(),
        None => std::fs::remove_file(dir.path().join(name)).unwrap(),
    }
    dir
}

#[track_caller]
fn refuses(name: &str, text: Option<&str>, expected: &str) {
    let dir = changed(name, text);
    let error = TextEncoder::load(dir.path(), ComputeDtype::F32, &Device::flex()).unwrap_err();
    let message = zs_core::with_causes(&error);
    assert!(message.contains(expected) && !message.contains('\n'), "{message}");
}

#[test]
fn unusable_directories_are_named() {
    let config = std::fs::read_to_string(encoders("bert").join("config.json")).unwrap();
    let with = |field: &str, value: serde_json::Value| {
        let mut config: serde_json::Value = serde_json::from_str(&config).unwrap();
        config[field] = value;
        config.to_string()
    };
    refuses("model.safetensors", None, "neither model.safetensors nor");
    refuses("model.safetensors", Some("cut"), "not a complete safetensors file");
    refuses("config.json", None, "cannot read the model's configuration");
    refuses("tokenizer.json", None, "tokenizer.json");
    // Sizes that the file does not hold are refused before memory is allocated for them.
    refuses("config.json", Some(&with("num_hidden_layers", (1 << 24).into())), "is missing");
    refuses("config.json", Some(&with("hidden_size", (3 << 20).into())), "shape");
    refuses("config.json", Some(&with("num_hidden_layers", 1.into())), "is not part of the model");
    refuses("config.json", Some(&with("vocab_size", 9.into())), "the tokenizer has");
    let short = r#"{"max_seq_length": 2}"#;
    refuses("sentence_bert_config.json", Some(short), "raise max_seq_length");
}

#[test]
fn the_identity_follows_weights_and_settings() {
    let identity =
        |dir: &Path| TextEncoder::load(dir, ComputeDtype::F32, &Device::flex()).unwrap().identity();
    let prompts = changed("config_sentence_transformers.json", Some("{}"));
    let same = identity(prompts.path());
    assert_eq!(same.len(), 64);
    // The files of the repository have prefixes.
    assert_ne!(identity(&encoders("bert")), same);
    let length = changed("sentence_bert_config.json", Some(r#"{"max_seq_length": 39}"#));
    assert_ne!(identity(length.path()), same);
    let weights = changed("config_sentence_transformers.json", Some("{}"));
    assert_eq!(identity(weights.path()), same);
    let path = weights.path().join("model.safetensors");
    let mut bytes = std::fs::read(&path).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(&path, bytes).unwrap();
    assert_ne!(identity(weights.path()), same);
}
