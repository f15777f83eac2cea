//! Model configuration, read from Hugging Face's `config.json`.

mod foreign;
mod raw;
mod rope;

use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::{Value, json};

pub(crate) use foreign::weights_advice;
pub(crate) use raw::parse;
use raw::{OneOrMany, RawConfig, architecture};
pub use rope::Llama3RopeScaling;
use rope::rope;

use crate::{TokenId, model_file};

/// Configuration of a decoder-only language model.
///
/// Covers the released layouts of Qwen2, Qwen2.5, Qwen3, Llama 3, Mistral and SmolLM3: grouped-query
/// attention, rotary positions in the rotate-half convention (with Llama 3's frequency scaling, in all
/// blocks or some), RMS norm, SwiGLU, optional attention bias, optional query and key norms, tied or
/// untied head.
#[derive(Clone, Debug, PartialEq)]
pub struct ModelConfig {
    /// Architecture of the checkpoint.
    pub architecture: Architecture,
    /// Size of the vocabulary (rows of the embedding).
    pub vocab_size: usize,
    /// Width of the residual stream.
    pub hidden_size: usize,
    /// Width of the feed-forward layer.
    pub intermediate_size: usize,
    /// Number of decoder blocks.
    pub num_hidden_layers: usize,
    /// Number of query heads.
    pub num_attention_heads: usize,
    /// Number of key-value heads; divides `num_attention_heads`.
    pub num_key_value_heads: usize,
    /// Width of a head; must be even.
    pub head_dim: usize,
    /// Context length in tokens.
    pub max_position_embeddings: usize,
    /// Epsilon of every RMS norm.
    pub rms_norm_eps: f64,
    /// Base of the rotary frequencies.
    pub rope_theta: f64,
    /// Rescaling of the rotary frequencies.
    pub rope_scaling: Option<Llama3RopeScaling>,
    /// Blocks whose queries and keys are not rotated, ascending (SmolLM3).
    pub no_rope_layers: Vec<usize>,
    /// True if the query, key and value projections have a bias.
    pub qkv_bias: bool,
    /// True if the attention output projection has a bias.
    pub output_bias: bool,
    /// True if the head shares the embedding's weights.
    pub tie_word_embeddings: bool,
    /// Beginning-of-sequence token, used by some tokenizers.
    pub bos_token_id: Option<TokenId>,
    /// Tokens that end a sequence.
    pub eos_token_ids: Vec<TokenId>,
}

/// Supported model families.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Architecture {
    /// `Qwen2ForCausalLM`: Qwen2 and Qwen2.5.
    Qwen2,
    /// `Qwen3ForCausalLM`: norms on queries and keys.
    Qwen3,
    /// `LlamaForCausalLM`: Llama 2 and 3, SmolLM2.
    Llama,
    /// `MistralForCausalLM`: within its sliding window, where there is one.
    Mistral,
    /// `SmolLM3ForCausalLM`: some blocks without rotation.
    SmolLm3,
}

impl Architecture {
    const ALL: [Self; 5] = [Self::Qwen2, Self::Qwen3, Self::Llama, Self::Mistral, Self::SmolLm3];

    /// Class of transformers, and `model_type`.
    fn names(self) -> (&'static str, &'static str) {
        match self {
            Self::Qwen2 => ("Qwen2ForCausalLM", "qwen2"),
            Self::Qwen3 => ("Qwen3ForCausalLM", "qwen3"),
            Self::Llama => ("LlamaForCausalLM", "llama"),
            Self::Mistral => ("MistralForCausalLM", "mistral"),
            Self::SmolLm3 => ("SmolLM3ForCausalLM", "smollm3"),
        }
    }

    /// Context length of a configuration that tells none.
    fn default_context(self) -> usize {
        match self {
            Self::Llama => 2048,
            Self::Qwen2 | Self::Qwen3 | Self::SmolLm3 => 32_768,
            Self::Mistral => 131_072,
        }
    }

    /// Base of the rotary frequencies of a configuration that tells none.
    fn default_theta(self) -> f64 {
        if self == Self::SmolLm3 { 2_000_000.0 } else { 10_000.0 }
    }

    /// True if queries and keys are normalised per head.
    #[must_use]
    pub fn has_qk_norm(self) -> bool {
        self == Self::Qwen3
    }
}

/// Error while reading a `config.json`.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The path holds something other than a model in Hugging Face layout.
    #[error("{path}: this is {found}; {advice}", path = path.display())]
    Foreign {
        /// The path.
        path: PathBuf,
        /// Name of what it holds.
        found: &'static str,
        /// Way to a model that loads.
        advice: String,
    },
    /// The file is missing or unreadable.
    #[error("{path}: cannot read the model's configuration", path = path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The operating system's error.
        #[source]
        source: std::io::Error,
    },
    /// The file is not JSON of the expected form.
    #[error("{path}: not a model configuration: {message}", path = path.display())]
    Parse {
        /// The file.
        path: PathBuf,
        /// Error of the parser, which names the field or position.
        message: String,
    },
    /// A field is missing.
    #[error("{path}: {field} is missing", path = path.display())]
    Missing {
        /// The file.
        path: PathBuf,
        /// The field.
        field: &'static str,
    },
    /// The file describes an unsupported model.
    #[error("{path}: {field} = {value} is not supported; {advice}", path = path.display())]
    Unsupported {
        /// The file.
        path: PathBuf,
        /// The field.
        field: &'static str,
        /// Its value.
        value: String,
        /// Supported alternative.
        advice: &'static str,
    },
}

/// Epsilon of a configuration that tells none.
const DEFAULT_EPS: f64 = 1e-6;

/// Largest size of a dimension. Released models stay below 2^20; products of sizes fit into 64 bits.
pub(crate) const MAX_SIZE: usize = 1 << 24;

impl ModelConfig {
    /// Number of parameters of a network of this configuration.
    ///
    /// ```text
    /// V d (once with a tied head, twice without)
    ///   + L (d (2 H + 2 K) h + 3 d f + 2 d, biases, and 2 h with norms on queries and keys) + d
    /// ```
    #[must_use]
    pub fn num_parameters(&self) -> usize {
        let (d, h) = (self.hidden_size, self.head_dim);
        let (queries, keys) = (self.num_attention_heads * h, self.num_key_value_heads * h);
        let mut block = d * (2 * queries + 2 * keys) + 3 * d * self.intermediate_size + 2 * d;
        block += if self.qkv_bias { queries + 2 * keys } else { 0 };
        block += if self.output_bias { d } else { 0 };
        block += if self.architecture.has_qk_norm() { 2 * h } else { 0 };
        let embeddings = if self.tie_word_embeddings { 1 } else { 2 };
        embeddings * self.vocab_size * d + self.num_hidden_layers * block + d
    }

    /// Reads `config.json` and, if present, `generation_config.json` of a model directory.
    ///
    /// Sequences end with the tokens of both. [`LanguageModel::load`](crate::LanguageModel::load) adds
    /// that of the tokenizer.
    ///
    /// # Errors
    ///
    /// Fails when the file is missing, malformed, or describes an unsupported model; and, by its name, on
    /// a path that holds something else: GGUF, adapters, a hub cache.
    pub fn from_dir(dir: &Path) -> Result<Self, ConfigError> {
        #[derive(Deserialize)]
        struct GenerationConfig {
            eos_token_id: Option<OneOrMany>,
        }
        foreign::refuse_foreign(dir)?;
        let path = dir.join("config.json");
        let text = model_file::read_text(&path)
            .map_err(|source| ConfigError::Read { path: path.clone(), source })?;
        let mut config = Self::from_json(&text, &path)?;
        let path = dir.join("generation_config.json");
        let text = model_file::read_optional(&path)
            .map_err(|source| ConfigError::Read { path: path.clone(), source })?;
        if let Some(text) = text {
            let parsed: GenerationConfig = parse(&text, &path)?;
            config.add_eos_tokens(parsed.eos_token_id.map(OneOrMany::into_vec).unwrap_or_default());
        }
        Ok(config)
    }

    /// Adds tokens that end a sequence too.
    pub(crate) fn add_eos_tokens(&mut self, tokens: impl IntoIterator<Item = TokenId>) {
        for id in tokens {
            if !self.eos_token_ids.contains(&id) {
                self.eos_token_ids.push(id);
            }
        }
    }

    /// Parses the contents of a `config.json`; `path` names it in errors.
    ///
    /// # Errors
    ///
    /// Fails like [`from_dir`](Self::from_dir).
    pub fn from_json(text: &str, path: &Path) -> Result<Self, ConfigError> {
        let raw: RawConfig = parse(text, path)?;
        let unsupported = |field, value: String, advice| ConfigError::Unsupported {
            path: path.to_owned(),
            field,
            value,
            advice,
        };
        let architecture = architecture(&raw, path)?;
        if let Some((field, count)) = raw.experts() {
            let advice = "mixtures of experts do not load; use a dense model";
            return Err(unsupported(field, count.to_string(), advice));
        }
        if let Some(it) = &raw.quantization_config {
            let method = it.get("quant_method").and_then(Value::as_str).unwrap_or("unnamed");
            let advice = "use the weights that were quantised, in bf16, f16 or f32";
            return Err(unsupported("quantization_config", method.to_owned(), advice));
        }
        if let Some(activation) =
            raw.hidden_act.as_deref().filter(|it| !["silu", "swish"].contains(it))
        {
            return Err(unsupported("hidden_act", activation.to_owned(), "use silu"));
        }
        if raw.mlp_bias == Some(true) {
            return Err(unsupported("mlp_bias", "true".to_owned(), "use false"));
        }
        if raw.use_sliding_window == Some(true) {
            return Err(unsupported("use_sliding_window", "true".to_owned(), "use false"));
        }
        let windowed = |it: &&String| *it != "full_attention";
        if let Some(kind) = raw.layer_types.iter().flatten().find(windowed) {
            return Err(unsupported("layer_types", kind.clone(), "use full_attention"));
        }
        if let Some(factor) = raw.partial_rotary_factor.filter(|it| *it != 1.0) {
            return Err(unsupported("partial_rotary_factor", factor.to_string(), "use 1"));
        }
        let size = |field, size: Option<usize>| match size {
            None => Err(ConfigError::Missing { path: path.to_owned(), field }),
            Some(0) => Err(unsupported(field, "0".to_owned(), "it must be positive")),
            Some(size) if size > MAX_SIZE => {
                Err(unsupported(field, size.to_string(), "no model is as large"))
            }
            Some(size) => Ok(size),
        };
        let vocab_size = size("vocab_size", raw.vocab_size)?;
        let hidden_size = size("hidden_size", raw.hidden_size)?;
        let intermediate_size = size("intermediate_size", raw.intermediate_size)?;
        let num_hidden_layers = size("num_hidden_layers", raw.num_hidden_layers)?;
        let heads = size("num_attention_heads", raw.num_attention_heads)?;
        let context = raw.max_position_embeddings.unwrap_or(architecture.default_context());
        let context = size("max_position_embeddings", Some(context))?;
        // Attention within the window is full attention.
        let context = match architecture {
            Architecture::Mistral => match raw.window() {
                Some(0) => {
                    let advice = "it must be positive, or null for none";
                    return Err(unsupported("sliding_window", "0".to_owned(), advice));
                }
                window => context.min(window.unwrap_or(context)),
            },
            _ => context,
        };
        let key_value_heads = raw.num_key_value_heads.unwrap_or(heads);
        if key_value_heads == 0 || !heads.is_multiple_of(key_value_heads) {
            let advice = "it must divide num_attention_heads";
            return Err(unsupported("num_key_value_heads", key_value_heads.to_string(), advice));
        }
        // Qwen3 has a fixed default head width; the other families derive it.
        let default_head_dim = match architecture {
            Architecture::Qwen3 => 128,
            _ => hidden_size / heads,
        };
        let head_dim = raw.head_dim.unwrap_or(default_head_dim);
        if head_dim == 0 || !head_dim.is_multiple_of(2) {
            return Err(unsupported("head_dim", head_dim.to_string(), "it must be even"));
        }
        size("num_attention_heads times head_dim", Some(heads.saturating_mul(head_dim)))?;
        let (theta, rope_scaling) = rope(&raw, architecture.default_theta(), path)?;
        // Qwen2 always has biases on queries, keys and values and none on the output; its reference
        // code ignores these fields of the configuration.
        let is_qwen2 = architecture == Architecture::Qwen2;
        let has_bias = raw.attention_bias == Some(true) && architecture != Architecture::Mistral;
        let qkv_bias = is_qwen2 || has_bias;
        let no_rope_layers = match architecture {
            Architecture::SmolLm3 => raw.no_rope_layers(num_hidden_layers).map_err(|found| {
                unsupported("no_rope_layers", found, "it has a 0 or 1 for each block")
            })?,
            _ => Vec::new(),
        };
        Ok(Self {
            architecture,
            vocab_size,
            hidden_size,
            intermediate_size,
            num_hidden_layers,
            num_attention_heads: heads,
            num_key_value_heads: key_value_heads,
            head_dim,
            max_position_embeddings: context,
            rms_norm_eps: raw.rms_norm_eps.unwrap_or(DEFAULT_EPS),
            rope_theta: theta,
            rope_scaling,
            no_rope_layers,
            qkv_bias,
            output_bias: qkv_bias && !is_qwen2,
            tie_word_embeddings: raw
                .tie_word_embeddings
                .unwrap_or(architecture == Architecture::SmolLm3),
            bos_token_id: raw.bos_token_id,
            eos_token_ids: raw.eos_token_id.map(OneOrMany::into_vec).unwrap_or_default(),
        })
    }

    /// The configuration as a `config.json` for transformers and vLLM.
    #[must_use]
    pub fn to_json(&self) -> String {
        format!("{:#}\n", self.to_value())
    }

    /// [`to_json`](Self::to_json) as a JSON value.
    pub(crate) fn to_value(&self) -> Value {
        let (class, kind) = self.architecture.names();
        let mut config = json!({
            "architectures": [class],
            "model_type": kind,
            "hidden_act": "silu",
            "vocab_size": self.vocab_size,
            "hidden_size": self.hidden_size,
            "intermediate_size": self.intermediate_size,
            "num_hidden_layers": self.num_hidden_layers,
            "num_attention_heads": self.num_attention_heads,
            "num_key_value_heads": self.num_key_value_heads,
            "head_dim": self.head_dim,
            "max_position_embeddings": self.max_position_embeddings,
            "rms_norm_eps": self.rms_norm_eps,
            "rope_theta": self.rope_theta,
            "tie_word_embeddings": self.tie_word_embeddings,
            "bos_token_id": self.bos_token_id,
            "eos_token_id": self.eos_token_ids,
            "attention_dropout": 0.0,
            "torch_dtype": "float32",
            "use_cache": true
        });
        if self.architecture != Architecture::Qwen2 {
            config["attention_bias"] = self.qkv_bias.into();
        }
        if self.architecture == Architecture::Mistral {
            config["sliding_window"] = Value::Null;
        }
        if self.architecture == Architecture::SmolLm3 {
            let rotated = |it| u8::from(!self.no_rope_layers.contains(&it));
            let blocks = 0..self.num_hidden_layers;
            config["no_rope_layers"] = blocks.map(rotated).collect::<Vec<u8>>().into();
            config["use_sliding_window"] = false.into();
        }
        if let Some(scaling) = self.rope_scaling {
            config["rope_scaling"] = json!({
                "rope_type": "llama3",
                "factor": scaling.factor,
                "low_freq_factor": scaling.low_freq_factor,
                "high_freq_factor": scaling.high_freq_factor,
                "original_max_position_embeddings":
                    scaling.original_max_position_embeddings as u64
            });
        }
        config
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BASE: &str = r#""vocab_size": 160, "hidden_size": 48, "intermediate_size": 96,
        "num_hidden_layers": 3, "num_attention_heads": 6, "num_key_value_heads": 2"#;

    fn parse(fields: &str) -> Result<ModelConfig, ConfigError> {
        ModelConfig::from_json(&format!("{{{BASE}, {fields}}}"), Path::new("config.json"))
    }

    #[test]
    fn mistral_is_read_within_its_window() {
        let context = |fields: &str| {
            let fields =
                format!("\"model_type\": \"mistral\", \"max_position_embeddings\": 32768{fields}");
            parse(&fields).map(|it| it.max_position_embeddings)
        };
        let refused = context(", \"sliding_window\": 0").unwrap_err().to_string();
        assert!(refused.contains("sliding_window = 0"), "{refused}");
        let context = |fields: &str| context(fields).unwrap();
        assert_eq!(context(", \"sliding_window\": 512"), 512);
        assert_eq!(context(", \"sliding_window\": null"), 32_768);
        // Where the file tells none, transformers has 4,096.
        assert_eq!(context(""), 4096);
    }

    #[test]
    fn blocks_of_smollm3_without_rotation() {
        let blocks = |fields: &str| {
            parse(&format!("\"architectures\": [\"SmolLM3ForCausalLM\"]{fields}"))
                .map(|it| it.no_rope_layers)
        };
        assert_eq!(blocks(", \"no_rope_layers\": [0, 1, 0]").unwrap(), [0, 2]);
        assert_eq!(blocks(", \"no_rope_layer_interval\": 2").unwrap(), [1]);
        assert!(blocks("").unwrap().is_empty());
        let error = blocks(", \"no_rope_layers\": [0, 1]").unwrap_err().to_string();
        assert!(error.contains("no_rope_layers = [0, 1]"), "{error}");
    }

    #[test]
    fn parses_both_layouts_to_the_same_config() {
        let old = parse(
            r#""architectures": ["Qwen2ForCausalLM"], "rope_theta": 1000000.0, "eos_token_id": 2"#,
        );
        let new = parse(
            r#""architectures": ["Qwen2ForCausalLM"], "eos_token_id": [2],
               "rope_parameters": {"rope_type": "default", "rope_theta": 1000000.0}"#,
        );
        let old = old.unwrap();
        assert_eq!(old, new.unwrap());
        // Qwen2's reference code reads no such field.
        let with_bias = parse(
            r#""model_type": "qwen2", "attention_bias": false, "rope_theta": 1000000.0,
               "eos_token_id": 2"#,
        );
        assert_eq!(with_bias.unwrap(), old);
        assert_eq!((old.head_dim, old.qkv_bias, old.output_bias), (8, true, false));
        let again = ModelConfig::from_json(&old.to_json(), Path::new("again.json")).unwrap();
        assert_eq!(again, old);
    }

    #[test]
    fn llama3_rope_scaling_round_trips() {
        let config = parse(
            r#""architectures": ["LlamaForCausalLM"], "rope_parameters": {"factor": 32.0,
               "high_freq_factor": 4.0, "low_freq_factor": 1.0, "rope_type": "llama3",
               "original_max_position_embeddings": 64, "rope_theta": 500000.0}"#,
        )
        .unwrap();
        assert_eq!(config.rope_scaling.unwrap().factor, 32.0);
        let again = ModelConfig::from_json(&config.to_json(), Path::new("again.json")).unwrap();
        assert_eq!(again, config);
    }

    #[test]
    fn defaults_depend_on_the_architecture() {
        let qwen3 = parse(r#""model_type": "qwen3""#).unwrap();
        assert_eq!((qwen3.head_dim, qwen3.qkv_bias, qwen3.output_bias), (128, false, false));
        let llama = parse(r#""model_type": "llama", "attention_bias": true"#).unwrap();
        assert_eq!((llama.head_dim, llama.qkv_bias, llama.output_bias), (8, true, true));
        let multi_head = format!(
            r#"{{{}, "model_type": "llama"}}"#,
            BASE.replace(", \"num_key_value_heads\": 2", "")
        );
        let multi_head = ModelConfig::from_json(&multi_head, Path::new("config.json")).unwrap();
        assert_eq!(multi_head.num_key_value_heads, 6);
        // Context, base of the rotary frequencies, tied head: what transformers 5.24 has for each family.
        for (model_type, expected) in [
            ("llama", (2048, 1e4, false)),
            ("qwen2", (32_768, 1e4, false)),
            ("qwen3", (32_768, 1e4, false)),
            ("mistral", (4096, 1e4, false)),
            ("smollm3", (32_768, 2e6, true)),
        ] {
            let it = parse(&format!(r#""model_type": "{model_type}""#)).unwrap();
            let found = (it.max_position_embeddings, it.rope_theta, it.tie_word_embeddings);
            assert_eq!(found, expected, "{model_type}");
        }
    }

    #[track_caller]
    fn refuses(fields: &str, expected: &str) {
        let message = parse(fields).unwrap_err().to_string();
        assert!(message.contains(expected), "{message}");
    }

    #[test]
    fn rejects_unsupported_configurations() {
        refuses(r#""architectures": ["MambaForCausalLM"]"#, "architectures = MambaForCausalLM");
        refuses(
            r#""architectures": ["LlamaForCausalLM"], "hidden_act": "gelu""#,
            "hidden_act = gelu",
        );
        refuses(
            r#""architectures": ["LlamaForCausalLM"], "rope_scaling": {"type": "yarn"}"#,
            "rope_type = \"yarn\"",
        );
        let llama = |fields: &str| format!(r#""architectures": ["LlamaForCausalLM"], {fields}"#);
        for (fields, expected) in [
            (r#""use_sliding_window": true"#, "use_sliding_window = true"),
            (r#""layer_types": ["full_attention", "sliding_attention"]"#, "sliding_attention"),
            (r#""partial_rotary_factor": 0.5"#, "partial_rotary_factor = 0.5"),
            (r#""rope_parameters": {"partial_rotary_factor": 0.5}"#, "partial_rotary_factor = 0.5"),
            (r#""rope_parameters": {"full_attention": {"rope_theta": 1.0}}"#, "rope_parameters"),
            (r#""mlp_bias": true"#, "mlp_bias = true"),
        ] {
            refuses(&llama(fields), expected);
        }
        for length in ["-392", "3.5", "0", "8e304"] {
            let scaling = format!(
                r#""rope_scaling": {{"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0,
                   "high_freq_factor": 4.0, "original_max_position_embeddings": {length}}}"#
            );
            refuses(&llama(&scaling), "original_max_position_embeddings = ");
        }
        let no_heads = BASE.replace("\"num_attention_heads\": 6", "\"num_attention_heads\": 0");
        let text = format!(r#"{{{no_heads}, "model_type": "llama"}}"#);
        let error = ModelConfig::from_json(&text, Path::new("config.json")).unwrap_err();
        assert!(error.to_string().contains("num_attention_heads = 0"), "{error}");
        refuses(r#""architectures": ["Qwen3MoeForCausalLM"]"#, "Qwen3MoeForCausalLM");
        refuses(r#""architectures": ["LlamaForCausalLM"], "head_dim": 7"#, "head_dim = 7");
    }
}
