//! Fields of `config.json` as they stand in the file.

use std::path::Path;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use super::{Architecture, ConfigError};
use crate::TokenId;

/// `config.json` in its old and its new layout. A field that is null counts as left out.
#[derive(Deserialize)]
pub(super) struct RawConfig {
    pub(super) architectures: Option<Vec<String>>,
    pub(super) model_type: Option<String>,
    pub(super) vocab_size: Option<usize>,
    pub(super) hidden_size: Option<usize>,
    pub(super) intermediate_size: Option<usize>,
    pub(super) num_hidden_layers: Option<usize>,
    pub(super) num_attention_heads: Option<usize>,
    pub(super) num_key_value_heads: Option<usize>,
    pub(super) head_dim: Option<usize>,
    pub(super) max_position_embeddings: Option<usize>,
    pub(super) rms_norm_eps: Option<f64>,
    pub(super) rope_theta: Option<f64>,
    pub(super) rope_scaling: Option<Value>,
    pub(super) rope_parameters: Option<Value>,
    pub(super) attention_bias: Option<bool>,
    pub(super) mlp_bias: Option<bool>,
    pub(super) tie_word_embeddings: Option<bool>,
    pub(super) bos_token_id: Option<TokenId>,
    pub(super) eos_token_id: Option<OneOrMany>,
    pub(super) hidden_act: Option<String>,
    pub(super) use_sliding_window: Option<bool>,
    #[serde(default, deserialize_with = "given")]
    sliding_window: Option<Option<usize>>,
    no_rope_layers: Option<Vec<u8>>,
    no_rope_layer_interval: Option<usize>,
    pub(super) layer_types: Option<Vec<String>>,
    pub(super) partial_rotary_factor: Option<f64>,
    pub(super) quantization_config: Option<Value>,
    pub(super) num_experts: Option<u64>,
    pub(super) num_local_experts: Option<u64>,
    pub(super) n_routed_experts: Option<u64>,
}

impl RawConfig {
    /// The field of a mixture of experts, with its value.
    pub(super) fn experts(&self) -> Option<(&'static str, u64)> {
        let fields = [
            ("num_experts", self.num_experts),
            ("num_local_experts", self.num_local_experts),
            ("n_routed_experts", self.n_routed_experts),
        ];
        fields.into_iter().find_map(|(field, count)| Some((field, count.filter(|it| *it > 1)?)))
    }
}

/// Window of Mistral's configuration where it tells none; null there means none.
const DEFAULT_WINDOW: usize = 4096;

/// Interval of blocks without rotation where a configuration of SmolLM3 tells none.
const DEFAULT_NO_ROPE_INTERVAL: usize = 4;

impl RawConfig {
    /// Tokens that a token of a Mistral model attends to; `None` for all.
    pub(super) fn window(&self) -> Option<usize> {
        self.sliding_window.unwrap_or(Some(DEFAULT_WINDOW))
    }

    /// Blocks without rotation of a SmolLM3 model. In the file `no_rope_layers` has a 0 for each of
    /// them and a 1 for each of the others.
    ///
    /// # Errors
    ///
    /// Fails with the list in the file if it does not fit.
    pub(super) fn no_rope_layers(&self, num_blocks: usize) -> Result<Vec<usize>, String> {
        let Some(rotated) = &self.no_rope_layers else {
            let interval = self.no_rope_layer_interval.unwrap_or(DEFAULT_NO_ROPE_INTERVAL).max(1);
            return Ok((0..num_blocks).filter(|it| (it + 1).is_multiple_of(interval)).collect());
        };
        if rotated.len() != num_blocks || rotated.iter().any(|it| *it > 1) {
            return Err(format!("{rotated:?}"));
        }
        Ok((0..num_blocks).filter(|it| rotated[*it] == 0).collect())
    }
}

/// A field that is there, null included.
fn given<'de, D: Deserializer<'de>>(value: D) -> Result<Option<Option<usize>>, D::Error> {
    Option::deserialize(value).map(Some)
}

/// One identifier, or a list.
#[derive(Deserialize)]
#[serde(untagged, expecting = "expected a token identifier or a list of them")]
pub(super) enum OneOrMany {
    One(TokenId),
    Many(Vec<TokenId>),
}

impl OneOrMany {
    pub(super) fn into_vec(self) -> Vec<TokenId> {
        match self {
            Self::One(id) => vec![id],
            Self::Many(ids) => ids,
        }
    }
}

/// The supported family of a configuration.
pub(super) fn architecture(raw: &RawConfig, path: &Path) -> Result<Architecture, ConfigError> {
    let named = raw.architectures.as_ref().and_then(|it| it.first()).or(raw.model_type.as_ref());
    let named = named.map_or("", String::as_str);
    let is_named = |it: &Architecture| [it.names().0, it.names().1].contains(&named);
    let found = Architecture::ALL.into_iter().find(is_named);
    // transformers goes by `model_type`, vLLM by `architectures`.
    if let (Some(found), Some(model_type)) = (found, &raw.model_type)
        && model_type != found.names().1
    {
        return Err(ConfigError::Unsupported {
            path: path.to_owned(),
            field: "model_type",
            value: model_type.clone(),
            advice: "architectures names another family; correct the one that is wrong",
        });
    }
    found.ok_or_else(|| ConfigError::Unsupported {
        path: path.to_owned(),
        field: "architectures",
        value: if named.is_empty() { "(none)".to_owned() } else { named.to_owned() },
        advice: if named.to_ascii_lowercase().contains("moe") || named.starts_with("Mixtral") {
            "mixtures of experts do not load; use a dense Qwen2ForCausalLM, Qwen3ForCausalLM, LlamaForCausalLM, \
             MistralForCausalLM or SmolLM3ForCausalLM"
        } else {
            "use Qwen2ForCausalLM, Qwen3ForCausalLM, LlamaForCausalLM, MistralForCausalLM or \
             SmolLM3ForCausalLM"
        },
    })
}

/// Parses JSON; an error names the field.
pub(crate) fn parse<T: DeserializeOwned>(text: &str, path: &Path) -> Result<T, ConfigError> {
    let mut parser = serde_json::Deserializer::from_str(text);
    let failed = |message: String| ConfigError::Parse { path: path.to_owned(), message };
    let parsed =
        serde_path_to_error::deserialize(&mut parser).map_err(|it| failed(it.to_string()))?;
    parser.end().map_err(|it| failed(it.to_string()))?;
    Ok(parsed)
}
