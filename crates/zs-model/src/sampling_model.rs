//! Language model that can only be sampled.

use std::path::Path;
use std::sync::Arc;

use burn::tensor::{Device, StreamId};
use zs_core::StreamKey;

use crate::checkpoint::{CheckpointError, load_for_sampling};
use crate::generate::{GraphCounters, IsCancelled, LocalSession, check_tokens, single_turn};
use crate::replicas::replica;
use crate::{
    CausalLm, Completion, ComputeDtype, GenerateError, Generator, MemoryConfig, ModelConfig,
    PolicyModel, SamplingParams, Session, TokenId, TokenRow, Tokenizer,
};

/// Language model for sampling alone: evaluation, serving, simulation LLMs, helper models, judges.
///
/// Holds its matrices in the compute dtype only, while a [`LanguageModel`](crate::LanguageModel)
/// keeps weights in f32 beside those that it samples with. Clones share the weights.
///
/// ```no_run
/// use burn::tensor::Device;
/// use zs_model::{ComputeDtype, SamplingModel};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let dir = "models/qwen2.5-0.5b".as_ref();
/// let model = SamplingModel::load(dir, &[Device::flex()], ComputeDtype::Auto)?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct SamplingModel {
    pub(crate) config: ModelConfig,
    pub(crate) tokenizer: Tokenizer,
    pub(crate) max_batch_rows: usize,
    /// Networks of the devices, ready for sampling.
    pub(crate) replicas: Arc<[CausalLm]>,
    /// Stream in which the weights were created and sampling runs, since a device graph cannot use
    /// memory of another stream.
    pub(crate) stream: StreamId,
    pub(crate) graph_counters: Arc<GraphCounters>,
}

/// Default number of sequences decoded at once.
pub(crate) const DEFAULT_MAX_BATCH_ROWS: usize = 512;

impl SamplingModel {
    /// Loads a model directory in Hugging Face layout onto each of the devices.
    ///
    /// Weights are read and rounded block by block, so that memory holds those of the compute dtype
    /// and one block in f32. `memory` is a [`ComputeDtype`] or all settings.
    ///
    /// # Errors
    ///
    /// As [`LanguageModel::load`](crate::LanguageModel::load).
    ///
    /// # Panics
    ///
    /// Panics without a device.
    pub fn load(
        dir: &Path,
        devices: &[Device],
        memory: impl Into<MemoryConfig>,
    ) -> Result<Self, CheckpointError> {
        let (config, tokenizer) = read_description(dir)?;
        let network = load_for_sampling(dir, &config, memory.into(), &devices[0])?;
        let on_device = |(at, device)| replica(&network, at, device);
        Ok(Self {
            replicas: devices.iter().enumerate().map(on_device).collect(),
            config,
            tokenizer,
            max_batch_rows: DEFAULT_MAX_BATCH_ROWS,
            stream: StreamId::current(),
            graph_counters: Arc::default(),
        })
    }

    /// Configuration of the model.
    #[must_use]
    pub fn config(&self) -> &ModelConfig {
        &self.config
    }

    /// Data type of matrix products, [resolved](ComputeDtype::resolved) for the device.
    #[must_use]
    pub fn compute_dtype(&self) -> ComputeDtype {
        self.replicas.first().map_or(ComputeDtype::F32, |it| it.memory.compute_dtype)
    }

    /// Log-probabilities of sequences under a network of this model, one row a sequence; 0 for the
    /// first token.
    pub(crate) fn score(
        config: &ModelConfig,
        network: &CausalLm,
        sequences: &[Vec<TokenId>],
    ) -> Result<Vec<Vec<f32>>, GenerateError> {
        let score = |(sequence, tokens): (usize, &Vec<TokenId>)| {
            check_tokens(sequence, tokens, tokens.len(), config)?;
            if tokens.len() < 2 {
                return Ok(vec![0.0; tokens.len()]);
            }
            let loss_mask = (0..tokens.len()).map(|it| it > 0).collect();
            let row = TokenRow { tokens: tokens.clone(), loss_mask };
            let scores = network.token_scores(&[row]).log_probs.into_data();
            let scores: Vec<f32> = scores.iter::<f32>().collect();
            match scores.iter().position(|it| !it.is_finite()) {
                Some(position) => Err(GenerateError::NotFinite { sequence, position }),
                None => Ok(scores),
            }
        };
        sequences.iter().enumerate().map(score).collect()
    }

    fn local_session(&self, num_sequences: usize) -> LocalSession<'_> {
        let new = || {
            let (tokenizer, counters) = (Some(&self.tokenizer), &self.graph_counters);
            let sizes = [num_sequences, self.max_batch_rows];
            LocalSession::new(&self.replicas, &self.config, tokenizer, sizes, counters)
        };
        self.stream.executes(new)
    }
}

/// Reads configuration and tokenizer of a model directory, which must fit each other.
pub(crate) fn read_description(dir: &Path) -> Result<(ModelConfig, Tokenizer), CheckpointError> {
    let mut config = ModelConfig::from_dir(dir)?;
    let tokenizer = Tokenizer::from_dir(dir)?;
    // As vLLM does: a sequence ends with a token of any of the files.
    config.add_eos_tokens(tokenizer.eos_token_id());
    let tokenizer = tokenizer.with_control_tokens(&config.eos_token_ids);
    if tokenizer.vocab_size() > config.vocab_size {
        return Err(CheckpointError::TokenizerTooLarge {
            tokenizer: tokenizer.source().to_owned(),
            tokens: tokenizer.vocab_size(),
            vocab_size: config.vocab_size,
        });
    }
    Ok((config, tokenizer))
}

impl Generator for SamplingModel {
    fn tokenizer(&self) -> &Tokenizer {
        &self.tokenizer
    }

    fn context_length(&self) -> usize {
        self.config.max_position_embeddings
    }

    fn session(&self, num_sequences: usize) -> Box<dyn Session + '_> {
        Box::new(self.local_session(num_sequences))
    }

    fn generate_streaming(
        &self,
        prompts: &[(Vec<TokenId>, StreamKey)],
        params: &SamplingParams,
        on_token: &mut dyn FnMut(usize, TokenId),
        is_cancelled: IsCancelled<'_>,
    ) -> Result<Vec<Completion>, GenerateError> {
        let mut session = self.local_session(prompts.len()).for_single_turn();
        session.extend_unless(&single_turn(prompts), params, on_token, is_cancelled)
    }

    fn log_probs(&self, sequences: &[Vec<TokenId>]) -> Result<Vec<Vec<f32>>, GenerateError> {
        self.stream.executes(|| Self::score(&self.config, &self.replicas[0], sequences))
    }
}

#[cfg(test)]
#[cfg(feature = "flex")]
mod tests {
    use super::*;
    use crate::LanguageModel;
    use crate::testing::{byte_tokenizer, tiny_config};

    /// A directory loaded for sampling alone writes what the whole model writes.
    #[track_caller]
    fn check(config: ModelConfig, compute_dtype: ComputeDtype) {
        let scratch = tempfile::tempdir().unwrap();
        let model = LanguageModel::initialize(config, byte_tokenizer(), 3, &Device::flex());
        model.save(scratch.path()).unwrap();
        let memory = MemoryConfig { compute_dtype, ..MemoryConfig::default() };
        let whole = model.with_network(&model.network().clone().with_memory(memory));
        let alone = SamplingModel::load(scratch.path(), &[Device::flex()], compute_dtype).unwrap();
        let params = SamplingParams { max_new_tokens: 9, ..SamplingParams::default() };
        let prompts: Vec<(Vec<TokenId>, StreamKey)> =
            (1..4).map(|it| ((1..9 * it).collect(), StreamKey::new(it.into()))).collect();
        let expected = whole.generate(&prompts, &params).unwrap();
        assert_eq!(alone.generate(&prompts, &params).unwrap(), expected);
        let sequences: Vec<Vec<TokenId>> = prompts.into_iter().map(|(it, _)| it).collect();
        let scores = whole.log_probs(&sequences).unwrap().concat();
        let is_bf16 = alone.compute_dtype() == ComputeDtype::Bf16;
        let tolerance = if is_bf16 { 0.02 } else { 1e-5 };
        for (alone, whole) in alone.log_probs(&sequences).unwrap().concat().iter().zip(scores) {
            assert!((alone - whole).abs() < tolerance, "{alone} {whole}");
        }
        assert!(alone.log_probs(&[vec![u32::MAX]]).is_err());
    }

    #[test]
    fn samples_what_the_whole_model_samples() {
        for compute_dtype in [ComputeDtype::F32, ComputeDtype::Bf16, ComputeDtype::Auto] {
            check(tiny_config(), compute_dtype);
            let untied = ModelConfig { tie_word_embeddings: false, ..tiny_config() };
            check(untied, compute_dtype);
        }
    }

    #[test]
    fn errors_are_those_of_a_whole_model() {
        let scratch = tempfile::tempdir().unwrap();
        let model = LanguageModel::initialize(tiny_config(), byte_tokenizer(), 3, &Device::flex());
        model.save(scratch.path()).unwrap();
        let weights = scratch.path().join("model.safetensors");
        let bytes = std::fs::read(&weights).unwrap();
        std::fs::write(&weights, &bytes[..bytes.len() - 8]).unwrap();
        let alone = SamplingModel::load(scratch.path(), &[Device::flex()], ComputeDtype::Bf16);
        let whole = LanguageModel::load(scratch.path(), &Device::flex());
        assert_eq!(alone.unwrap_err().to_string(), whole.unwrap_err().to_string());
    }
}
