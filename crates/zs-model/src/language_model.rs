//! A model directory in memory: configuration, weights and tokenizer.

use std::path::Path;
use std::sync::{Arc, OnceLock};

use burn::module::Module;
use burn::tensor::{Device, StreamId};
use zs_core::StreamKey;

use crate::checkpoint::{
    AuxiliaryFiles, initialize, load_network, replace_directory, save_network,
};
use crate::generate::{LocalSession, single_turn};
use crate::replicas::replica;
use crate::{
    CausalLm, CheckpointError, Completion, GenerateError, Generator, ModelConfig, PolicyModel,
    SamplingParams, SaveError, SaveOptions, Session, TokenId, Tokenizer,
};

/// A language model on one device: configuration, sampling weights and tokenizer.
///
/// Cloning shares the weights.
#[derive(Clone, Debug)]
pub struct LanguageModel {
    config: ModelConfig,
    network: CausalLm,
    tokenizer: Tokenizer,
    auxiliary: AuxiliaryFiles,
    max_batch_rows: usize,
    /// The network on each of its devices, once it has been sampled from on several.
    replicas: Arc<OnceLock<Vec<CausalLm>>>,
    /// The stream that the weights were made in, which whoever samples joins: a graph of the device takes
    /// no memory of another stream.
    stream: StreamId,
}

/// Sequences decoded at once where nobody says otherwise.
const DEFAULT_MAX_BATCH_ROWS: usize = 512;

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
        let auxiliary = AuxiliaryFiles::read(dir)?;
        let network = load_network(dir, &config, device)?;
        Ok(Self::of(config, network, tokenizer, auxiliary))
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
        Self::of(config, network, tokenizer, AuxiliaryFiles::default())
    }

    fn of(
        config: ModelConfig,
        network: CausalLm,
        tokenizer: Tokenizer,
        auxiliary: AuxiliaryFiles,
    ) -> Self {
        let (max_batch_rows, replicas) = (DEFAULT_MAX_BATCH_ROWS, Arc::default());
        let stream = StreamId::current();
        Self { config, network, tokenizer, auxiliary, max_batch_rows, replicas, stream }
    }

    /// Writes a model directory in Hugging Face layout, in f32, its chat template included.
    ///
    /// As [`save_with`](Self::save_with) the default [`SaveOptions`].
    ///
    /// # Errors
    ///
    /// Fails when a file cannot be written; `dir` is then as it was.
    pub fn save(&self, dir: &Path) -> Result<(), SaveError> {
        self.save_with(dir, &SaveOptions::default())
    }

    /// Writes a model directory in Hugging Face layout, which transformers and vLLM load.
    ///
    /// Adapters are merged into the weights; [`save_adapter`](Self::save_adapter) writes them alone.
    /// The files beside the weights (configuration, tokenizer, chat template) are those that the
    /// model was loaded with. Everything is written to a sibling directory first, which then takes
    /// the place of `dir`, so an interrupted save never leaves half a model.
    ///
    /// # Errors
    ///
    /// Fails when a file cannot be written; `dir` is then as it was.
    pub fn save_with(&self, dir: &Path, options: &SaveOptions) -> Result<(), SaveError> {
        let merged = self.network.merge_lora();
        replace_directory(dir, |partial| {
            self.auxiliary.write(partial, &self.config, &self.tokenizer, options.dtype)?;
            save_network(&merged, partial, options)
        })
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
        let (network, stream) = (network.valid(), StreamId::current());
        Self { network, replicas: Arc::default(), stream, ..self.clone() }
    }

    /// The same model, computing on these devices, its own first; see
    /// [`CausalLm::with_devices`].
    ///
    /// # Panics
    ///
    /// When the first is not the device that the weights live on.
    #[must_use]
    pub fn with_devices(self, devices: &[Device]) -> Self {
        Self { network: self.network.with_devices(devices), replicas: Arc::default(), ..self }
    }

    /// The same model, decoding at most so many sequences at once; others wait for a place.
    ///
    /// Bounds the key-value cache in use, not what comes out. Finished sequences of an open session
    /// keep theirs for the next turn.
    #[must_use]
    pub fn with_max_batch_rows(self, max_batch_rows: usize) -> Self {
        Self { max_batch_rows, ..self }
    }

    /// The device that the weights live on.
    #[must_use]
    pub fn device(&self) -> Device {
        self.network.device()
    }

    /// The devices that share the work, the one that the weights live on first.
    #[must_use]
    pub fn compute_devices(&self) -> Vec<Device> {
        self.network.compute_devices()
    }

    /// Runs work in the stream of the weights.
    pub(crate) fn in_own_stream<T>(&self, work: impl FnOnce() -> T) -> T {
        self.stream.executes(work)
    }

    /// The network on each of its devices, to be sampled from.
    pub(crate) fn replicas(&self) -> &[CausalLm] {
        self.replicas.get_or_init(|| {
            let devices = self.compute_devices();
            let on_device = |(at, device)| replica(&self.network, at, device).for_sampling();
            devices.iter().enumerate().map(on_device).collect()
        })
    }
}

impl Generator for LanguageModel {
    fn tokenizer(&self) -> &Tokenizer {
        &self.tokenizer
    }

    fn context_length(&self) -> usize {
        self.config.max_position_embeddings
    }

    fn session(&self, num_sequences: usize) -> Box<dyn Session + '_> {
        Box::new(self.local_session(num_sequences))
    }

    fn generate(
        &self,
        prompts: &[(Vec<TokenId>, StreamKey)],
        params: &SamplingParams,
    ) -> Result<Vec<Completion>, GenerateError> {
        single_turn(&mut self.local_session(prompts.len()).for_single_turn(), prompts, params)
    }
}

impl LanguageModel {
    fn local_session(&self, num_sequences: usize) -> LocalSession<'_> {
        let new = || {
            let (replicas, tokenizer) = (self.replicas(), Some(&self.tokenizer));
            LocalSession::new(replicas, &self.config, tokenizer, num_sequences, self.max_batch_rows)
        };
        self.in_own_stream(new)
    }
}
