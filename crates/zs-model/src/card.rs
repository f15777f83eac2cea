//! Description of a model directory, without loading its weights.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Serialize;

use crate::checkpoint::WeightFiles;
use crate::{CheckpointError, ModelConfig, Provenance, TokenId, Tokenizer};

/// Contents of a model directory in Hugging Face layout.
///
/// ```
/// use burn::tensor::Device;
/// use zs_model::testing::{byte_tokenizer, tiny_config};
/// use zs_model::{LanguageModel, ModelCard};
///
/// let dir = tempfile::tempdir()?;
/// let model = LanguageModel::initialize(tiny_config(), byte_tokenizer(), 1, &Device::default());
/// model.save(&dir.path().join("tiny"))?;
/// let card = ModelCard::read(&dir.path().join("tiny"))?;
/// assert_eq!((card.architecture.as_str(), card.context_length), ("Qwen2", 64));
/// assert_eq!(card.weights["F32"], card.num_parameters);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ModelCard {
    /// Architecture: `Llama`, `Qwen2` or `Qwen3`.
    pub architecture: String,
    /// Number of parameters.
    pub num_parameters: usize,
    /// Number of values in the files by dtype, in the names of safetensors.
    pub weights: BTreeMap<String, usize>,
    /// Number of blocks.
    pub num_hidden_layers: usize,
    /// Width of the residual stream.
    pub hidden_size: usize,
    /// Width of the feed-forward layer.
    pub intermediate_size: usize,
    /// Number of query heads.
    pub num_attention_heads: usize,
    /// Number of key-value heads.
    pub num_key_value_heads: usize,
    /// Width of a head.
    pub head_dim: usize,
    /// True if the head shares the embedding's weights.
    pub tie_word_embeddings: bool,
    /// Base of the rotary frequencies.
    pub rope_theta: f64,
    /// Factor of Llama 3's scaling of the rotary frequencies.
    pub rope_scaling_factor: Option<f64>,
    /// Context length in tokens.
    pub context_length: usize,
    /// Rows of the embedding.
    pub vocab_size: usize,
    /// Largest token identifier plus one.
    pub num_tokens: usize,
    /// Special tokens by identifier.
    pub special_tokens: BTreeMap<TokenId, String>,
    /// Token that begins a sequence.
    pub bos_token_id: Option<TokenId>,
    /// Tokens that end a sequence.
    pub eos_token_ids: Vec<TokenId>,
    /// True if the directory has a chat template.
    pub has_chat_template: bool,
    /// Origin of converted weights.
    pub provenance: Option<Provenance>,
}

impl ModelCard {
    /// Reads configuration, tokenizer, chat template and the headers of the weight files.
    ///
    /// # Errors
    ///
    /// Fails as loading the model would, but compares no tensor with the configuration.
    pub fn read(dir: &Path) -> Result<Self, CheckpointError> {
        let config = ModelConfig::from_dir(dir)?;
        let weights = WeightFiles::open_model(dir)?.num_values();
        let tokenizer = Tokenizer::from_dir(dir)?;
        Ok(Self {
            architecture: format!("{:?}", config.architecture),
            num_parameters: config.num_parameters(),
            weights,
            num_hidden_layers: config.num_hidden_layers,
            hidden_size: config.hidden_size,
            intermediate_size: config.intermediate_size,
            num_attention_heads: config.num_attention_heads,
            num_key_value_heads: config.num_key_value_heads,
            head_dim: config.head_dim,
            tie_word_embeddings: config.tie_word_embeddings,
            rope_theta: config.rope_theta,
            rope_scaling_factor: config.rope_scaling.map(|it| it.factor),
            context_length: config.max_position_embeddings,
            vocab_size: config.vocab_size,
            num_tokens: tokenizer.vocab_size(),
            special_tokens: tokenizer.special_tokens(),
            bos_token_id: config.bos_token_id,
            eos_token_ids: config.eos_token_ids,
            has_chat_template: tokenizer.chat_template().is_some(),
            provenance: Provenance::read(dir)?,
        })
    }
}
