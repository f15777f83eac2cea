//! Configuration of an encoder, read from Hugging Face's `config.json`.

use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::config::{ConfigError, MAX_SIZE, parse};
use crate::model_file;

/// Sizes of an encoder of the BERT family.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct EncoderConfig {
    /// Size of the vocabulary.
    pub(super) vocab_size: usize,
    /// Width of the residual stream.
    pub(super) hidden_size: usize,
    /// Width of the feed-forward layer.
    pub(super) intermediate_size: usize,
    /// Number of blocks.
    pub(super) num_hidden_layers: usize,
    /// Number of heads; divides `hidden_size`.
    pub(super) num_attention_heads: usize,
    /// Rows of the table of positions.
    pub(super) max_position_embeddings: usize,
    /// Rows of the table of token types, of which the first is used.
    pub(super) type_vocab_size: usize,
    /// Row of the first token's position: 0 in BERT, that after the padding token's in RoBERTa.
    pub(super) first_position: usize,
    /// Epsilon of every layer norm.
    pub(super) layer_norm_eps: f64,
}

/// `config.json`. A field that is null counts as left out.
#[derive(Deserialize)]
struct RawConfig {
    model_type: Option<String>,
    vocab_size: Option<usize>,
    hidden_size: Option<usize>,
    intermediate_size: Option<usize>,
    num_hidden_layers: Option<usize>,
    num_attention_heads: Option<usize>,
    max_position_embeddings: Option<usize>,
    type_vocab_size: Option<usize>,
    pad_token_id: Option<usize>,
    layer_norm_eps: Option<f64>,
    hidden_act: Option<String>,
    position_embedding_type: Option<String>,
    is_decoder: Option<bool>,
    quantization_config: Option<Value>,
}

/// Families that load, by `model_type`.
const FAMILIES: &str =
    "use an encoder of the families bert (E5, BGE, MiniLM), roberta or xlm-roberta";

impl EncoderConfig {
    /// Reads the `config.json` of a model directory.
    pub(super) fn from_dir(dir: &Path) -> Result<Self, ConfigError> {
        let path = dir.join("config.json");
        let text = model_file::read_text(&path)
            .map_err(|source| ConfigError::Read { path: path.clone(), source })?;
        Self::from_json(&text, &path)
    }

    /// Longest text in tokens, those of the template included.
    pub(super) fn max_tokens(&self) -> usize {
        self.max_position_embeddings - self.first_position
    }

    /// Width of a head.
    pub(super) fn head_dim(&self) -> usize {
        self.hidden_size / self.num_attention_heads
    }

    fn from_json(text: &str, path: &Path) -> Result<Self, ConfigError> {
        let raw: RawConfig = parse(text, path)?;
        let unsupported = |field, value: String, advice| ConfigError::Unsupported {
            path: path.to_owned(),
            field,
            value,
            advice,
        };
        let family = raw.model_type.unwrap_or_else(|| "(none)".to_owned());
        let is_roberta = matches!(family.as_str(), "roberta" | "xlm-roberta");
        if !is_roberta && family != "bert" {
            return Err(unsupported("model_type", family, FAMILIES));
        }
        let required = |value: Option<String>, only: &str| value.filter(|it| it != only);
        if let Some(other) = required(raw.hidden_act, "gelu") {
            return Err(unsupported("hidden_act", other, "use gelu"));
        }
        if let Some(other) = required(raw.position_embedding_type, "absolute") {
            return Err(unsupported("position_embedding_type", other, "use absolute"));
        }
        if raw.is_decoder == Some(true) {
            return Err(unsupported("is_decoder", "true".to_owned(), "use an encoder"));
        }
        if raw.quantization_config.is_some_and(|it| !it.is_null()) {
            let advice = "use the weights that were quantised, in bf16, f16 or f32";
            return Err(unsupported("quantization_config", "(given)".to_owned(), advice));
        }
        let size = |field: &'static str, value: Option<usize>| match value {
            None => Err(ConfigError::Missing { path: path.to_owned(), field }),
            Some(it) if it == 0 || it > MAX_SIZE => {
                Err(unsupported(field, it.to_string(), "use a size from 1 to 2^24"))
            }
            Some(it) => Ok(it),
        };
        let first_position = if is_roberta { raw.pad_token_id.unwrap_or(1) + 1 } else { 0 };
        let config = Self {
            vocab_size: size("vocab_size", raw.vocab_size)?,
            hidden_size: size("hidden_size", raw.hidden_size)?,
            intermediate_size: size("intermediate_size", raw.intermediate_size)?,
            num_hidden_layers: size("num_hidden_layers", raw.num_hidden_layers)?,
            num_attention_heads: size("num_attention_heads", raw.num_attention_heads)?,
            max_position_embeddings: size("max_position_embeddings", raw.max_position_embeddings)?,
            type_vocab_size: size("type_vocab_size", raw.type_vocab_size.or(Some(2)))?,
            layer_norm_eps: raw.layer_norm_eps.unwrap_or(1e-12),
            first_position,
        };
        let heads = config.num_attention_heads;
        if !config.hidden_size.is_multiple_of(heads) {
            let advice = "use a divisor of hidden_size";
            return Err(unsupported("num_attention_heads", heads.to_string(), advice));
        }
        if config.max_position_embeddings <= first_position {
            let positions = config.max_position_embeddings.to_string();
            let advice = "use more positions than the padding token's";
            return Err(unsupported("max_position_embeddings", positions, advice));
        }
        let eps = config.layer_norm_eps;
        if !(eps > 0.0 && eps < 1.0) {
            return Err(unsupported("layer_norm_eps", eps.to_string(), "use a number in (0, 1)"));
        }
        Ok(config)
    }

    /// Tensors of a checkpoint without its pooler and heads, with their shapes in the file.
    pub(super) fn tensor_shapes(&self) -> impl Iterator<Item = (String, Vec<usize>)> {
        let (width, inner) = (self.hidden_size, self.intermediate_size);
        let tables = [
            ("word_embeddings.weight", vec![self.vocab_size, width]),
            ("position_embeddings.weight", vec![self.max_position_embeddings, width]),
            ("token_type_embeddings.weight", vec![self.type_vocab_size, width]),
            ("LayerNorm.weight", vec![width]),
            ("LayerNorm.bias", vec![width]),
        ];
        let linear = [
            ("attention.self.query", [width, width]),
            ("attention.self.key", [width, width]),
            ("attention.self.value", [width, width]),
            ("attention.output.dense", [width, width]),
            ("intermediate.dense", [inner, width]),
            ("output.dense", [width, inner]),
        ];
        let norms = ["attention.output.LayerNorm", "output.LayerNorm"];
        let of_block = move |block: usize| {
            let name = move |part: &str| format!("encoder.layer.{block}.{part}");
            let linear = linear.into_iter().flat_map(move |(part, shape)| {
                let weight = (name(&format!("{part}.weight")), shape.to_vec());
                [weight, (name(&format!("{part}.bias")), vec![shape[0]])]
            });
            let norms = norms.into_iter().flat_map(move |part| {
                ["weight", "bias"].map(|it| (name(&format!("{part}.{it}")), vec![width]))
            });
            linear.chain(norms)
        };
        let tables = tables.into_iter().map(|(name, shape)| (format!("embeddings.{name}"), shape));
        tables.chain((0..self.num_hidden_layers).flat_map(of_block))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A configuration with one field replaced.
    fn with(field: &str, value: Value) -> Result<EncoderConfig, ConfigError> {
        let mut config = serde_json::json!({
            "model_type": "bert", "vocab_size": 30, "hidden_size": 8, "intermediate_size": 16,
            "num_hidden_layers": 1, "num_attention_heads": 2, "max_position_embeddings": 12,
            "hidden_act": "gelu", "layer_norm_eps": null,
        });
        config[field] = value;
        EncoderConfig::from_json(&config.to_string(), Path::new("config.json"))
    }

    #[track_caller]
    fn refuses(field: &str, value: impl Into<Value>, expected: &str) {
        let message = with(field, value.into()).unwrap_err().to_string();
        assert!(message.contains(expected), "{message}");
    }

    #[test]
    fn what_does_not_load_is_named() {
        refuses("model_type", "modernbert", "model_type = modernbert is not supported; use an enc");
        refuses("model_type", Value::Null, "model_type = (none)");
        refuses("hidden_act", "relu", "hidden_act = relu");
        refuses("position_embedding_type", "relative_key", "use absolute");
        refuses("is_decoder", true, "use an encoder");
        refuses("quantization_config", serde_json::json!({ "bits": 4 }), "were quantised");
        refuses("hidden_size", Value::Null, "hidden_size is missing");
        refuses("vocab_size", 0, "from 1 to 2^24");
        refuses("num_hidden_layers", 1_u64 << 40, "from 1 to 2^24");
        refuses("num_attention_heads", 3, "divisor of hidden_size");
        refuses("layer_norm_eps", -1.0, "in (0, 1)");
        refuses("vocab_size", -1, "vocab_size");
    }

    #[test]
    fn positions_of_roberta_follow_the_padding_token() {
        let config = with("model_type", "xlm-roberta".into()).unwrap();
        assert_eq!((config.first_position, config.max_tokens()), (2, 10));
        assert_eq!(with("model_type", "bert".into()).unwrap().max_tokens(), 12);
    }
}
