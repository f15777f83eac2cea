//! `config.json` from the metadata of a GGUF file.

use serde_json::{Value, json};

use super::file::GgufFile;
use super::{GgufError, rope};
use crate::{ModelConfig, Provenance, WeightDtype};

/// Architectures: name in GGUF, class, `model_type`.
const ARCHITECTURES: [(&str, &str, &str); 3] = [
    ("llama", "LlamaForCausalLM", "llama"),
    ("qwen2", "Qwen2ForCausalLM", "qwen2"),
    ("qwen3", "Qwen3ForCausalLM", "qwen3"),
];

/// Fields of an architecture that change its computation, and the value that changes nothing.
const NEUTRAL: [(&str, f64); 8] = [
    ("expert_count", 0.0),
    ("attention.clamp_kqv", 0.0),
    ("attention.max_alibi_bias", 0.0),
    ("attention.sliding_window", 0.0),
    ("embedding_scale", 1.0),
    ("residual_scale", 1.0),
    ("logit_scale", 1.0),
    ("rope.scale_linear", 1.0),
];

const OTHER_MODEL: &str = "use a file of a llama, qwen2 or qwen3 model without it";

/// Configuration of the model, and of the end of sequences.
pub(super) fn model_config(file: &GgufFile) -> Result<ModelConfig, GgufError> {
    let architecture = file.text("general.architecture")?;
    let known = ARCHITECTURES.iter().find(|it| it.0 == architecture);
    let Some((_, class, kind)) = known else {
        let key = "general.architecture";
        let what = if architecture.contains("moe") { ", a mixture of experts," } else { "" };
        let problem = format!("= {architecture}{what} is not supported");
        let remedy = "use a file of a llama, qwen2 or qwen3 model";
        return Err(GgufError::metadata(file.path(), key, problem, remedy));
    };
    let key = |name: &str| format!("{architecture}.{name}");
    for (name, neutral) in NEUTRAL {
        let found = file.optional_number(&key(name))?.unwrap_or(neutral);
        if found != neutral {
            let problem = format!("= {found} is not supported");
            return Err(GgufError::metadata(file.path(), key(name), problem, OTHER_MODEL));
        }
    }
    let scaling = file.optional_text(&key("rope.scaling.type"))?.unwrap_or("none");
    let scale = file.optional_number(&key("rope.scaling.factor"))?.unwrap_or(1.0);
    if scaling != "none" && !(scaling == "linear" && scale == 1.0) {
        let problem = format!("= {scaling} is not supported");
        let key = key("rope.scaling.type");
        return Err(GgufError::metadata(file.path(), key, problem, OTHER_MODEL));
    }

    let size = |name: &str| -> Result<u64, GgufError> {
        optional_size(file, &key(name))?.ok_or_else(|| file.missing(&key(name)))
    };
    let hidden_size = size("embedding_length")?;
    let heads = size("attention.head_count")?;
    let key_value_heads = optional_size(file, &key("attention.head_count_kv"))?.unwrap_or(heads);
    let default_head_dim = hidden_size.checked_div(heads).unwrap_or(0);
    let head_dim = optional_size(file, &key("attention.key_length"))?.unwrap_or(default_head_dim);
    for name in ["attention.value_length", "rope.dimension_count"] {
        let found = file.optional_integer(&key(name))?.unwrap_or(head_dim);
        if found != head_dim {
            let problem = format!("= {found} differs from the width of a head, {head_dim}");
            return Err(GgufError::metadata(file.path(), key(name), problem, OTHER_MODEL));
        }
    }
    let theta = file.optional_number(&key("rope.freq_base"))?.unwrap_or(10_000.0);
    let has = |name: &str| file.tensors().contains_key(name);
    let tokens = file.tensors().get("token_embd.weight").and_then(|it| it.shape.first());
    let Some(vocab_size) = tokens else {
        let (name, remedy) = ("token_embd.weight", "convert the model again");
        return Err(GgufError::tensor(file.path(), name, "is missing", remedy));
    };
    let mut json = json!({
        "architectures": [class],
        "model_type": kind,
        "vocab_size": vocab_size,
        "hidden_size": hidden_size,
        "intermediate_size": size("feed_forward_length")?,
        "num_hidden_layers": size("block_count")?,
        "num_attention_heads": heads,
        "num_key_value_heads": key_value_heads,
        "head_dim": head_dim,
        "max_position_embeddings": size("context_length")?,
        "rms_norm_eps": file.optional_number(&key("attention.layer_norm_rms_epsilon"))?
            .ok_or_else(|| file.missing(&key("attention.layer_norm_rms_epsilon")))?,
        "rope_theta": theta,
        "tie_word_embeddings": !has("output.weight"),
        "attention_bias": has("blk.0.attn_q.bias"),
        "bos_token_id": file.optional_integer("tokenizer.ggml.bos_token_id")?,
        "eos_token_id": ends_of_sequence(file)?,
    });
    let head_dim = usize::try_from(head_dim).unwrap_or(0);
    if let Some(scaling) = rope::llama3_scaling(file, theta, head_dim)? {
        json["rope_scaling"] = scaling;
    }
    Ok(ModelConfig::from_json(&json.to_string(), file.path())?)
}

/// Size of a part of the model. The bound keeps products of two sizes within 64 bits; tensors of
/// such sizes are then compared with what the file holds.
fn optional_size(file: &GgufFile, key: &str) -> Result<Option<u64>, GgufError> {
    let size = file.optional_integer(key)?;
    let problem = match size {
        Some(0) => "= 0 is not a valid size".to_owned(),
        Some(size) if size > u64::from(u32::MAX >> 1) => {
            format!("= {size} is larger than in any model")
        }
        size => return Ok(size),
    };
    Err(GgufError::metadata(file.path(), key, problem, "convert the model again"))
}

/// Tokens that end a sequence: of a text, a turn and a message.
fn ends_of_sequence(file: &GgufFile) -> Result<Vec<u64>, GgufError> {
    let mut ids = Vec::new();
    for name in ["eos_token_id", "eot_token_id", "eom_token_id"] {
        let id = file.optional_integer(&format!("tokenizer.ggml.{name}"))?;
        ids.extend(id.filter(|it| !ids.contains(it)));
    }
    Ok(ids)
}

/// Contents of `config.json`: the configuration, the dtype and the origin of the weights.
pub(super) fn config_json(
    config: &ModelConfig,
    dtype: WeightDtype,
    provenance: &Provenance,
) -> Value {
    let mut json = config.to_value();
    json["torch_dtype"] = dtype.torch_name().into();
    json[Provenance::KEY] = json!(provenance);
    json
}
