//! Language model loaded from a model directory: configuration, weights and tokenizer.

use std::path::Path;
use std::sync::{Arc, OnceLock};

use burn::module::Module;
use burn::tensor::{Device, StreamId};
use zs_core::StreamKey;

use crate::checkpoint::{
    AuxiliaryFiles, initialize, load_network, replace_directory, save_network,
};
use crate::generate::GraphCounters;
use crate::replicas::replica;
use crate::sampling_model::{DEFAULT_MAX_BATCH_ROWS, read_description};
use crate::{
    CausalLm, CheckpointError, Completion, DecodeGraphStats, GenerateError, Generator, IsCancelled,
    ModelConfig, PolicyModel, SamplingModel, SamplingParams, SaveError, SaveOptions, Session,
    TokenId, Tokenizer,
};

/// Language model: configuration, sampling weights and tokenizer.
///
/// Clones share the weights.
#[derive(Clone, Debug)]
pub struct LanguageModel {
    config: ModelConfig,
    network: CausalLm,
    tokenizer: Tokenizer,
    auxiliary: AuxiliaryFiles,
    max_batch_rows: usize,
    /// Model of the same weights for sampling, created at the first use.
    sampling: Arc<OnceLock<SamplingModel>>,
    /// Stream in which the weights were created and sampling runs, since a device graph cannot use
    /// memory of another stream.
    stream: StreamId,
    /// Shared with models of other weights that are made from this one.
    graph_counters: Arc<GraphCounters>,
}

impl LanguageModel {
    /// Loads a model directory in Hugging Face layout: `config.json`, `model.safetensors` (or shards
    /// with an index) and `tokenizer.json`.
    ///
    /// # Errors
    ///
    /// Fails on anything missing, malformed or unsupported, and names file and tensor.
    pub fn load(dir: &Path, device: &Device) -> Result<Self, CheckpointError> {
        let (config, tokenizer) = read_description(dir)?;
        let auxiliary = AuxiliaryFiles::read(dir)?;
        let network = load_network(dir, &config, device)?;
        Ok(Self::of(config, network, tokenizer, auxiliary))
    }

    /// Model with random weights, a function of configuration and seed.
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
        let (max_batch_rows, sampling) = (DEFAULT_MAX_BATCH_ROWS, Arc::default());
        let stream = StreamId::current();
        Self {
            config,
            network,
            tokenizer,
            auxiliary,
            max_batch_rows,
            sampling,
            stream,
            graph_counters: Arc::default(),
        }
    }

    /// Writes a model directory in Hugging Face layout in f32, with its chat template.
    ///
    /// Equals [`save_with`](Self::save_with) with the default [`SaveOptions`].
    ///
    /// # Errors
    ///
    /// Fails if a file cannot be written; `dir` is then unchanged.
    pub fn save(&self, dir: &Path) -> Result<(), SaveError> {
        self.save_with(dir, &SaveOptions::default())
    }

    /// Writes a model directory in Hugging Face layout, which transformers and vLLM load.
    ///
    /// Adapters are merged into the weights; [`save_adapter`](Self::save_adapter) writes them
    /// alone. The other files (configuration, tokenizer, chat template) are those that the model
    /// was loaded with. The save is atomic: files are written to a sibling directory, which then
    /// replaces `dir`.
    ///
    /// # Errors
    ///
    /// Fails if a file cannot be written; `dir` is then unchanged.
    pub fn save_with(&self, dir: &Path, options: &SaveOptions) -> Result<(), SaveError> {
        let merged = self.network.merge_lora();
        replace_directory(dir, |partial| {
            self.auxiliary.write(partial, &self.config, &self.tokenizer, options.dtype)?;
            save_network(&merged, partial, options)
        })
    }

    /// Configuration of the model.
    #[must_use]
    pub fn config(&self) -> &ModelConfig {
        &self.config
    }

    /// Sampling weights; `.clone().train()` gives a training copy.
    #[must_use]
    pub fn network(&self) -> &CausalLm {
        &self.network
    }

    /// Model with the same configuration and tokenizer and other weights, given as a training or
    /// sampling copy.
    #[must_use]
    pub fn with_network(&self, network: &CausalLm) -> Self {
        let (network, stream) = (network.valid(), StreamId::current());
        Self { network, sampling: Arc::default(), stream, ..self.clone() }
    }

    /// Model with a replica on each of these devices, its own first; see
    /// [`CausalLm::with_devices`].
    ///
    /// # Panics
    ///
    /// Panics if the first device is not the one of the weights.
    #[must_use]
    pub fn with_devices(self, devices: &[Device]) -> Self {
        Self { network: self.network.with_devices(devices), sampling: Arc::default(), ..self }
    }

    /// Model that decodes at most `max_batch_rows` sequences at once; the others wait.
    ///
    /// Bounds the KV cache of sequences being decoded and does not change results. Finished
    /// sequences of an open session keep their cache for the next turn.
    #[must_use]
    pub fn with_max_batch_rows(self, max_batch_rows: usize) -> Self {
        Self { max_batch_rows, sampling: Arc::default(), ..self }
    }

    /// Device of the weights.
    #[must_use]
    pub fn device(&self) -> Device {
        self.network.device()
    }

    /// Devices of all replicas, the one of the weights first.
    #[must_use]
    pub fn compute_devices(&self) -> Vec<Device> {
        self.network.compute_devices()
    }

    /// Counters of the device graphs of this model's sessions so far, together with those of the
    /// models that it was made from by [`with_network`](Self::with_network).
    #[must_use]
    pub fn decode_graph_stats(&self) -> DecodeGraphStats {
        self.graph_counters.read()
    }

    /// Runs `work` in the stream of the weights.
    pub(crate) fn in_own_stream<T>(&self, work: impl FnOnce() -> T) -> T {
        self.stream.executes(work)
    }

    /// Sampling network of each device.
    pub(crate) fn replicas(&self) -> &[CausalLm] {
        &self.sampling().replicas
    }

    fn sampling(&self) -> &SamplingModel {
        self.sampling.get_or_init(|| {
            let devices = self.compute_devices();
            let on_device = |(at, device)| replica(&self.network, at, device).for_sampling();
            SamplingModel {
                config: self.config.clone(),
                tokenizer: self.tokenizer.clone(),
                max_batch_rows: self.max_batch_rows,
                replicas: devices.iter().enumerate().map(on_device).collect(),
                stream: self.stream,
                graph_counters: Arc::clone(&self.graph_counters),
            }
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
        self.sampling().session(num_sequences)
    }

    fn generate_streaming(
        &self,
        prompts: &[(Vec<TokenId>, StreamKey)],
        params: &SamplingParams,
        on_token: &mut dyn FnMut(usize, TokenId),
        is_cancelled: IsCancelled<'_>,
    ) -> Result<Vec<Completion>, GenerateError> {
        self.sampling().generate_streaming(prompts, params, on_token, is_cancelled)
    }

    /// Scores with the weights of training, not with those of sampling.
    fn log_probs(&self, sequences: &[Vec<TokenId>]) -> Result<Vec<Vec<f32>>, GenerateError> {
        let score = || SamplingModel::score(&self.config, &self.network, sequences);
        self.in_own_stream(score)
    }
}
