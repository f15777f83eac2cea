//! A model directory in memory: configuration, weights and tokenizer.

use std::path::{Path, PathBuf};

use burn::module::Module;
use burn::tensor::Device;

use crate::checkpoint::{initialize, load_network, save_module};
use crate::generate::LocalSession;
use crate::{
    CausalLm, CheckpointError, Generator, ModelConfig, PolicyModel, SaveError, Session, Tokenizer,
};

/// A language model on one device: configuration, sampling weights and tokenizer.
///
/// Cloning shares the weights.
#[derive(Clone, Debug)]
pub struct LanguageModel {
    config: ModelConfig,
    network: CausalLm,
    tokenizer: Tokenizer,
}

impl LanguageModel {
    /// Loads a model directory in Hugging Face layout: `config.json`, `model.safetensors` (or shards
    /// with an index) and `tokenizer.json`.
    ///
    /// # Errors
    ///
    /// Fails, naming file and tensor, on anything missing, malformed or unsupported.
    pub fn load(dir: &Path, device: &Device) -> Result<Self, CheckpointError> {
        let config = ModelConfig::from_dir(dir)?;
        let tokenizer = Tokenizer::from_dir(dir)?;
        if tokenizer.vocab_size() > config.vocab_size {
            return Err(CheckpointError::TokenizerTooLarge {
                tokenizer: tokenizer.source().to_owned(),
                tokens: tokenizer.vocab_size(),
                vocab_size: config.vocab_size,
            });
        }
        let network = load_network(dir, &config, device)?;
        Ok(Self { config, network, tokenizer })
    }

    /// A model with random weights, a function of configuration and seed.
    #[must_use]
    pub fn initialize(
        config: ModelConfig,
        tokenizer: Tokenizer,
        seed: u64,
        device: &Device,
    ) -> Self {
        let network = initialize(&config, seed, device);
        Self { config, network, tokenizer }
    }

    /// Writes a model directory in Hugging Face layout, its chat template included.
    ///
    /// Everything is written to a sibling directory first, which then takes the place of `dir`, so
    /// an interrupted save never leaves half a model.
    ///
    /// # Errors
    ///
    /// Fails when a file cannot be written; `dir` is then as it was.
    pub fn save(&self, dir: &Path) -> Result<(), SaveError> {
        let partial = with_suffix(dir, ".partial");
        let previous = with_suffix(dir, ".previous");
        let write = |source, path: &Path| SaveError::Write { path: path.to_owned(), source };
        let clear = |path: &Path| match std::fs::remove_dir_all(path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(write(error, path)),
            _ => Ok(()),
        };
        clear(&partial)?;
        std::fs::create_dir_all(&partial).map_err(|it| write(it, &partial))?;
        let put = |name: &str, text: String| {
            let path = partial.join(name);
            std::fs::write(&path, text).map_err(|it| write(it, &path))
        };
        put("config.json", self.config.to_json())?;
        let generation = serde_json::json!({
            "bos_token_id": self.config.bos_token_id,
            "eos_token_id": self.config.eos_token_ids,
        });
        put("generation_config.json", format!("{generation:#}\n"))?;
        put("tokenizer.json", self.tokenizer.to_json()?)?;
        if let Some(template) = self.tokenizer.chat_template() {
            put("chat_template.jinja", template.source().to_owned())?;
            put("tokenizer_config.json", template.tokenizer_config())?;
        }
        save_module(&self.network, &partial.join("model.safetensors"))?;
        clear(&previous)?;
        if dir.exists() {
            std::fs::rename(dir, &previous).map_err(|it| write(it, dir))?;
        }
        std::fs::rename(&partial, dir).map_err(|it| write(it, dir))?;
        clear(&previous)
    }

    /// The model's shape.
    #[must_use]
    pub fn config(&self) -> &ModelConfig {
        &self.config
    }

    /// The weights that are sampled from; `.clone().train()` gives a copy to train.
    #[must_use]
    pub fn network(&self) -> &CausalLm {
        &self.network
    }

    /// The same configuration and tokenizer with other weights, given as a training or sampling
    /// copy.
    #[must_use]
    pub fn with_network(&self, network: &CausalLm) -> Self {
        Self {
            config: self.config.clone(),
            network: network.valid(),
            tokenizer: self.tokenizer.clone(),
        }
    }

    /// The device that the weights live on.
    #[must_use]
    pub fn device(&self) -> Device {
        self.network.device()
    }
}

fn with_suffix(dir: &Path, suffix: &str) -> PathBuf {
    let mut name = dir.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

impl Generator for LanguageModel {
    fn tokenizer(&self) -> &Tokenizer {
        &self.tokenizer
    }

    fn context_length(&self) -> usize {
        self.config.max_position_embeddings
    }

    fn session(&self, num_sequences: usize) -> Box<dyn Session + '_> {
        Box::new(LocalSession::new(
            &self.network,
            &self.config,
            Some(&self.tokenizer),
            num_sequences,
        ))
    }
}
