//! Named shapes with the work that is timed on them.

use burn::tensor::Device;
use zs_model::testing::{byte_tokenizer, tiny_config};
use zs_model::{LanguageModel, ModelConfig};

/// Rows and lengths of the work at one shape.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Work {
    /// Rows that are prefilled and decoded together.
    pub rows: usize,
    /// Tokens of a prompt.
    pub prompt: usize,
    /// New tokens a row.
    pub new: usize,
    /// Rows of an update.
    pub update_rows: usize,
    /// Tokens of a row of an update.
    pub update_len: usize,
    /// Rank of the adapters that the update trains; `None` trains every weight.
    pub lora_rank: Option<usize>,
}

/// The shapes that the bench knows by name.
pub const SHAPES: [&str; 5] = ["tiny", "8m", "smollm2-135m", "qwen2.5-0.5b", "qwen2.5-3b"];

const SMALL: Work =
    Work { rows: 64, prompt: 128, new: 64, update_rows: 16, update_len: 128, lora_rank: None };
const LARGE: Work =
    Work { rows: 8, prompt: 128, new: 16, update_rows: 4, update_len: 1024, lora_rank: Some(16) };
const STEP: Work =
    Work { rows: 320, prompt: 512, new: 500, update_rows: 320, update_len: 1024, lora_rank: None };

/// Size of the timed work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum WorkSize {
    /// A laptop's work, done in seconds; more for small models than for large ones.
    Small,
    /// A step of ZeroSearch's: 320 sequences of 512 + 500 tokens, and an update of all weights on as many
    /// rows of 1,024.
    Step,
}

/// The work for a model.
#[must_use]
pub fn work(config: &ModelConfig, size: WorkSize) -> Work {
    match size {
        WorkSize::Step => STEP,
        WorkSize::Small if config.hidden_size < 512 => SMALL,
        WorkSize::Small => LARGE,
    }
}

/// The configuration of a named shape; `None` for other names.
///
/// ```
/// let config = zs_benches::shape("8m").unwrap();
/// assert_eq!(config.num_parameters(), 8_396_544);
/// ```
#[must_use]
pub fn shape(name: &str) -> Option<ModelConfig> {
    let base = ModelConfig { eos_token_ids: Vec::new(), ..tiny_config() };
    match name {
        "tiny" => Some(crate::shipped_shape()),
        "8m" => Some(ModelConfig {
            vocab_size: 4096,
            hidden_size: 256,
            intermediate_size: 1024,
            num_hidden_layers: 6,
            num_attention_heads: 4,
            num_key_value_heads: 4,
            head_dim: 64,
            max_position_embeddings: 2048,
            tie_word_embeddings: false,
            ..base
        }),
        "smollm2-135m" => Some(ModelConfig {
            vocab_size: 49_152,
            hidden_size: 576,
            intermediate_size: 1536,
            num_hidden_layers: 30,
            num_attention_heads: 9,
            num_key_value_heads: 3,
            head_dim: 64,
            max_position_embeddings: 8192,
            rope_theta: 100_000.0,
            qkv_bias: false,
            tie_word_embeddings: true,
            ..base
        }),
        "qwen2.5-0.5b" => Some(ModelConfig {
            vocab_size: 151_936,
            hidden_size: 896,
            intermediate_size: 4864,
            num_hidden_layers: 24,
            num_attention_heads: 14,
            num_key_value_heads: 2,
            head_dim: 64,
            max_position_embeddings: 32_768,
            rope_theta: 1_000_000.0,
            tie_word_embeddings: true,
            ..base
        }),
        "qwen2.5-3b" => Some(ModelConfig {
            vocab_size: 151_936,
            hidden_size: 2048,
            intermediate_size: 11_008,
            num_hidden_layers: 36,
            num_attention_heads: 16,
            num_key_value_heads: 2,
            head_dim: 128,
            max_position_embeddings: 32_768,
            rope_theta: 1_000_000.0,
            tie_word_embeddings: true,
            ..base
        }),
        _ => None,
    }
}

/// Random weights of a shape. Its tokenizer knows bytes only: nothing is decoded in a bench.
#[must_use]
pub fn random_model(config: ModelConfig, device: &Device) -> LanguageModel {
    LanguageModel::initialize(config, byte_tokenizer(), 1, device)
}

/// Weights of the blocks' matrices: what every token is multiplied with.
#[must_use]
pub fn num_block_weights(config: &ModelConfig) -> usize {
    let width = config.hidden_size;
    let queries = config.num_attention_heads * config.head_dim;
    let keys = config.num_key_value_heads * config.head_dim;
    let attention = 2 * width * queries + 2 * width * keys;
    config.num_hidden_layers * (attention + 3 * width * config.intermediate_size)
}
