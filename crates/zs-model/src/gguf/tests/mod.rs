//! Tests of whole imports. Files are written by [`GgufWriter`], which shares no code with the reader.

mod damaged;
mod tokenizers;

use std::path::Path;

use burn::tensor::Device;
use safetensors::SafeTensors;
use serde_json::Value;
use tempfile::TempDir;

use super::*;
use crate::testing::{GgufWriter, byte_tokenizer, tiny_config, tiny_gguf};
use crate::{Architecture, LanguageModel, Llama3RopeScaling};

/// Imports a file into `DIR/model`.
pub(super) fn import(bytes: &[u8], dtype: Option<WeightDtype>) -> Result<TempDir, GgufError> {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("tiny.gguf");
    std::fs::write(&file, bytes).unwrap();
    let options = ImportOptions { dtype, sha256: Some("c0ffee".to_owned()) };
    import_gguf(&file, &dir.path().join("model"), &options).map(|_| dir)
}

fn json(dir: &Path, name: &str) -> Value {
    serde_json::from_slice(&std::fs::read(dir.join(name)).unwrap()).unwrap()
}

#[test]
fn writes_a_directory_that_loads() {
    let scratch = import(&tiny_gguf().bytes(), None).unwrap();
    let dir = scratch.path().join("model");
    let model = LanguageModel::load(&dir, &Device::default()).unwrap();
    let config = model.config();
    // 258 x 32, 96 x 32 of attention, 3 x 64 x 32 of the feed-forward layer, three norms.
    assert_eq!((config.architecture, config.num_parameters()), (Architecture::Llama, 17_568));
    // 1e-5 in f32 is 9.99999974e-6.
    assert_eq!((config.rms_norm_eps, config.rope_theta), (1e-5, 10_000.0));
    assert_eq!((&config.eos_token_ids[..], config.bos_token_id), (&[257][..], None));
    assert!(config.tie_word_embeddings);
    let tokenizer = crate::Generator::tokenizer(&model);
    assert_eq!(tokenizer.encode("xab<eos>").unwrap(), [120, 256, 257]);
    assert_eq!(tokenizer.encode_prompt("ab").unwrap(), [256, 257]);

    let config = json(&dir, "config.json");
    assert_eq!(config["torch_dtype"], "float32");
    let provenance = &config["zs_provenance"];
    assert_eq!(provenance["file"], "tiny.gguf");
    assert_eq!(provenance["sha256"], "c0ffee");
    assert_eq!(provenance["quantization"], "F32");
    assert_eq!(provenance["tensor_types"], serde_json::json!({ "F32": 8, "Q8_0": 3 }));
    let card = std::fs::read_to_string(dir.join("README.md")).unwrap();
    assert!(card.starts_with("---\nlicense: mit\n---\n\n# Tiny\n"), "{card}");
    assert!(card.contains("- SHA-256: `c0ffee`\n"), "{card}");
    assert!(card.contains("F32, dequantised, written as float32"), "{card}");
    assert_eq!(json(&dir, "tokenizer_config.json")["eos_token"], "<eos>");

    // The origin stays with a model that is trained from it.
    let trained = scratch.path().join("trained");
    model.save(&trained).unwrap();
    assert_eq!(&json(&trained, "config.json")["zs_provenance"], provenance);

    let again = import_gguf(&scratch.path().join("tiny.gguf"), &dir, &ImportOptions::default());
    let message = again.unwrap_err().to_string();
    assert!(
        message.ends_with("exists already; remove it or choose another directory"),
        "{message}"
    );
}

/// Rows in pairs, as llama.cpp's converter writes them: its `permute` is
/// `w.reshape(heads, 2, rows / heads / 2, width).swapaxes(1, 2)`.
fn pair_rows(values: &[f32], heads: usize, rows: usize) -> Vec<f32> {
    let (width, half) = (values.len() / rows, rows / heads / 2);
    let mut out = Vec::new();
    for head in 0..heads {
        for i in 0..half {
            for j in 0..2 {
                let row = head * half * 2 + j * half + i;
                out.extend_from_slice(&values[row * width..][..width]);
            }
        }
    }
    out
}

/// GGUF file of a model directory of this crate.
fn gguf_of(dir: &Path, config: &ModelConfig, name: &str) -> GgufWriter {
    let mut file = tiny_gguf();
    for name in ["attn_norm", "ffn_norm", "attn_q", "attn_k", "attn_v", "attn_output"] {
        file.remove(&format!("blk.0.{name}.weight"));
    }
    file.text("general.architecture", name);
    for (key, value) in [
        ("block_count", config.num_hidden_layers),
        ("context_length", config.max_position_embeddings),
        ("embedding_length", config.hidden_size),
        ("feed_forward_length", config.intermediate_size),
        ("attention.head_count", config.num_attention_heads),
        ("attention.head_count_kv", config.num_key_value_heads),
        ("attention.key_length", config.head_dim),
        ("attention.value_length", config.head_dim),
    ] {
        file.integer(&format!("{name}.{key}"), value as u32);
    }
    file.number(&format!("{name}.attention.layer_norm_rms_epsilon"), config.rms_norm_eps as f32);
    file.number(&format!("{name}.rope.freq_base"), config.rope_theta as f32);
    if config.rope_scaling.is_some() {
        // `generate_extra_tensors` of llama.cpp's converter, for a head of 8, theta 500,000, factor 32.
        file.f32_tensor("rope_freqs.weight", &[4], &[1.0, 1.0, 3.292_25, 32.0]);
    }
    let bytes = std::fs::read(dir.join("model.safetensors")).unwrap();
    for (name, view) in SafeTensors::deserialize(&bytes).unwrap().tensors() {
        let mut values = crate::checkpoint::to_f32(view.dtype(), view.data()).unwrap();
        let shape = view.shape();
        let heads = match () {
            () if name.contains("q_proj") => config.num_attention_heads,
            () => config.num_key_value_heads,
        };
        let is_paired = name.contains("q_proj") || name.contains("k_proj");
        if is_paired && config.architecture == Architecture::Llama {
            values = pair_rows(&values, heads, shape[0]);
        }
        let mut gguf = name.replace("model.layers.", "blk.");
        for (theirs, ours) in [
            ("model.embed_tokens", "token_embd"),
            ("model.norm", "output_norm"),
            ("lm_head", "output"),
            ("input_layernorm", "attn_norm"),
            ("post_attention_layernorm", "ffn_norm"),
            ("self_attn.q_proj", "attn_q"),
            ("self_attn.k_proj", "attn_k"),
            ("self_attn.v_proj", "attn_v"),
            ("self_attn.o_proj", "attn_output"),
            ("self_attn.q_norm", "attn_q_norm"),
            ("self_attn.k_norm", "attn_k_norm"),
            ("mlp.gate_proj", "ffn_gate"),
            ("mlp.up_proj", "ffn_up"),
            ("mlp.down_proj", "ffn_down"),
        ] {
            gguf = gguf.replace(theirs, ours);
        }
        file.f32_tensor(&gguf, shape, &values);
    }
    file
}

#[track_caller]
fn check_round_trip(name: &str, config: ModelConfig) {
    let scratch = tempfile::tempdir().unwrap();
    let dir = scratch.path().join("original");
    let device = Device::default();
    LanguageModel::initialize(config.clone(), byte_tokenizer(), 7, &device).save(&dir).unwrap();
    let file = gguf_of(&dir, &config, name);
    let imported = import(&file.bytes(), None).unwrap();
    let written = imported.path().join("model");
    let of_file = ModelConfig::from_dir(&written).unwrap();
    assert_eq!(ModelConfig { eos_token_ids: config.eos_token_ids.clone(), ..of_file }, config);
    let weights = |dir: &Path| std::fs::read(dir.join("model.safetensors")).unwrap();
    assert!(weights(&dir) == weights(&written), "the weights differ");
}

#[test]
fn every_architecture_round_trips() {
    let base = ModelConfig { vocab_size: 258, ..tiny_config() };
    check_round_trip("qwen2", base.clone());
    let qwen3 = ModelConfig {
        architecture: Architecture::Qwen3,
        qkv_bias: false,
        head_dim: 16,
        tie_word_embeddings: false,
        ..base.clone()
    };
    check_round_trip("qwen3", qwen3);
    let llama = ModelConfig { architecture: Architecture::Llama, qkv_bias: false, ..base.clone() };
    check_round_trip("llama", llama.clone());
    check_round_trip("llama", ModelConfig { qkv_bias: true, output_bias: true, ..llama.clone() });
    let scaling = Llama3RopeScaling {
        factor: 32.0,
        low_freq_factor: 1.0,
        high_freq_factor: 4.0,
        original_max_position_embeddings: 8192.0,
    };
    check_round_trip(
        "llama",
        ModelConfig { rope_theta: 500_000.0, rope_scaling: Some(scaling), ..llama },
    );
}

#[track_caller]
fn check_dtype(embeddings: (u32, f32), dtype: Option<WeightDtype>, expected: (&str, f32)) {
    let (kind, value) = embeddings;
    let mut file = tiny_gguf();
    let to_bytes = |value: f32| match kind {
        0 => value.to_le_bytes().to_vec(),
        1 => f16::from_f32(value).to_le_bytes().to_vec(),
        _ => bf16::from_f32(value).to_le_bytes().to_vec(),
    };
    // Every matrix of the type; norms stay f32.
    let mut add = |name: &str, rows: usize, columns: usize| {
        let data = to_bytes(value).repeat(rows * columns);
        file.tensor(&format!("{name}.weight"), &[rows, columns], kind, data);
    };
    add("token_embd", 258, 32);
    for (name, rows, columns) in [
        ("attn_q", 32, 32),
        ("attn_k", 16, 32),
        ("attn_v", 16, 32),
        ("attn_output", 32, 32),
        ("ffn_gate", 64, 32),
        ("ffn_up", 64, 32),
        ("ffn_down", 32, 64),
    ] {
        add(&format!("blk.0.{name}"), rows, columns);
    }
    let scratch = import(&file.bytes(), dtype).unwrap();
    let dir = scratch.path().join("model");
    assert_eq!(json(&dir, "config.json")["torch_dtype"], expected.0);
    let bytes = std::fs::read(dir.join("model.safetensors")).unwrap();
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    let view = tensors.tensor("model.embed_tokens.weight").unwrap();
    let values = crate::checkpoint::to_f32(view.dtype(), view.data()).unwrap();
    assert!(values.iter().all(|it| *it == expected.1), "{values:?}");
}

#[test]
fn weights_have_the_narrowest_exact_dtype_or_the_chosen_one() {
    // 1 + 2^-7 has the 8 bits of bf16, 1 + 2^-10 the 11 bits of f16, 1 + 2^-12 more.
    let (of_bf16, of_f16, of_f32) = (1.007_812_5, 1.000_976_6, 1.000_244_1);
    check_dtype((30, of_bf16), None, ("bfloat16", of_bf16));
    check_dtype((1, of_f16), None, ("float16", of_f16));
    check_dtype((0, of_f32), None, ("float32", of_f32));
    check_dtype((0, of_f32), Some(WeightDtype::Bf16), ("bfloat16", 1.0));
    check_dtype((1, of_f16), Some(WeightDtype::F32), ("float32", of_f16));
    // Quantised values are f32 by default.
    let scratch = import(&tiny_gguf().bytes(), Some(WeightDtype::F16)).unwrap();
    assert_eq!(json(&scratch.path().join("model"), "config.json")["torch_dtype"], "float16");
}
