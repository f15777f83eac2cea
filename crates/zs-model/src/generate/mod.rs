//! Text generation: sampling parameters, completions, and the traits that local models, remote
//! servers and test doubles implement.

mod cached_rows;
#[cfg(feature = "flex")]
mod cpu_rows;
mod decode_step;
mod device_access;
mod local;
mod logits;
mod remote;
mod sampling;
mod shape_buckets;
mod shard;
mod stop;
mod turn;

use std::fmt::Debug;

use serde::{Deserialize, Serialize};
use zs_core::StreamKey;

pub(crate) use cached_rows::CachedRows;
pub use decode_step::DecodeGraphStats;
pub(crate) use decode_step::{GraphCounters, GraphSwitch, StepContext};
pub(crate) use device_access::DeviceAccess;
pub(crate) use local::LocalSession;
pub(crate) use logits::{Logits, SampledRow};
pub use remote::{CompletionRules, SampledTokens, SampledTokensError};
pub(crate) use sampling::Choice;
pub(crate) use shape_buckets::ShapeBuckets;

use crate::{ModelConfig, TokenId, Tokenizer};

/// Sampling parameters.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SamplingParams {
    /// Softmax temperature; `0` is greedy.
    pub temperature: f32,
    /// Nucleus probability mass, in `(0, 1]`; `1` keeps the whole distribution.
    pub top_p: f32,
    /// Number of most likely tokens to keep; `0` keeps all.
    pub top_k: usize,
    /// Minimum probability relative to the most likely token, in `[0, 1]`; less likely tokens are
    /// removed, and `0` keeps all.
    pub min_p: f32,
    /// Repetition penalty. Positive logits of tokens that occur in the sequence, prompt included,
    /// are divided by it and negative ones multiplied; `1` disables it.
    pub repetition_penalty: f32,
    /// Maximum number of new tokens.
    pub max_new_tokens: usize,
    /// Stop texts, e.g. `"</search>"`. A stop text stays in the completion, as does the whole token
    /// that completes it.
    pub stop: Vec<String>,
}

impl Default for SamplingParams {
    fn default() -> Self {
        Self {
            temperature: 1.0,
            top_p: 1.0,
            top_k: 0,
            min_p: 0.0,
            repetition_penalty: 1.0,
            max_new_tokens: 256,
            stop: Vec::new(),
        }
    }
}

impl SamplingParams {
    /// True if tokens are drawn from the model's unmodified softmax distribution.
    #[must_use]
    pub fn is_full_softmax(&self) -> bool {
        self.temperature == 1.0 && self.keeps_all_tokens()
    }

    /// True if no token is truncated or penalised, at any temperature.
    pub(crate) fn keeps_all_tokens(&self) -> bool {
        self.top_p >= 1.0 && self.top_k == 0 && self.min_p <= 0.0 && self.repetition_penalty == 1.0
    }

    /// Validates the range of every parameter.
    ///
    /// # Errors
    ///
    /// Fails on the first parameter out of range and names it.
    ///
    /// ```
    /// use zs_model::SamplingParams;
    ///
    /// let params = SamplingParams { min_p: 1.5, ..SamplingParams::default() };
    /// assert!(params.check().unwrap_err().to_string().contains("min_p = 1.5"));
    /// ```
    pub fn check(&self) -> Result<(), GenerateError> {
        let fields = [
            ("temperature", self.temperature, self.temperature >= 0.0, "0 or more"),
            ("top_p", self.top_p, self.top_p > 0.0 && self.top_p <= 1.0, "above 0 and at most 1"),
            ("min_p", self.min_p, (0.0..=1.0).contains(&self.min_p), "from 0 to 1"),
            (
                "repetition_penalty",
                self.repetition_penalty,
                self.repetition_penalty > 0.0 && self.repetition_penalty.is_finite(),
                "above 0",
            ),
        ];
        match fields.into_iter().find(|(_, _, is_fine, _)| !is_fine) {
            Some((field, value, _, allowed)) => {
                Err(GenerateError::Params { field, value, allowed })
            }
            None => Ok(()),
        }
    }
}

/// Reason that a completion ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StopReason {
    /// A stop text was sampled. The token that completed it is kept whole.
    Stop,
    /// An end-of-sequence token was sampled; it is the last token of the completion.
    EndOfSequence,
    /// `max_new_tokens` were sampled, or the context is full.
    Length,
}

/// Sampled continuation of a sequence.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Completion {
    /// Sampled tokens, never re-encoded.
    pub tokens: Vec<TokenId>,
    /// Log-probability of each token under the model's full softmax at temperature 1.
    #[serde(deserialize_with = "zs_core::null_as_nan")]
    pub log_probs: Vec<f32>,
    /// Log-probability of each token under the distribution that it was drawn from; `None` if that
    /// is the full softmax ([`SamplingParams::is_full_softmax`]).
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "zs_core::null_as_nan"
    )]
    pub sampling_log_probs: Option<Vec<f32>>,
    /// Reason that the completion ended.
    pub stop_reason: StopReason,
}

/// Request to continue one sequence of a session.
#[derive(Clone, Copy, Debug)]
pub struct SequenceRequest<'a> {
    /// Index of the sequence in the session.
    pub sequence: usize,
    /// Tokens to append before sampling: first the prompt, later an observation. Must not be empty
    /// for a new sequence.
    pub append: &'a [TokenId],
    /// Key of the random stream. Sampled tokens are a function of the weights, the sequence so far
    /// and this key, independent of the rest of the batch.
    pub key: StreamKey,
}

impl SequenceRequest<'_> {
    /// Checks that a sequence of `held` tokens can be continued.
    ///
    /// # Errors
    ///
    /// Fails when the context has no room for the appended tokens and one more, and on a token outside
    /// of the vocabulary.
    pub fn check(&self, held: usize, config: &ModelConfig) -> Result<(), GenerateError> {
        check_tokens(self.sequence, self.append, held + self.append.len() + 1, config)
    }
}

/// Checks that a context has `needed` places, and a vocabulary the tokens of a sequence.
pub(crate) fn check_tokens(
    sequence: usize,
    tokens: &[TokenId],
    needed: usize,
    config: &ModelConfig,
) -> Result<(), GenerateError> {
    let context_length = config.max_position_embeddings;
    if needed > context_length {
        return Err(GenerateError::ContextOverflow { sequence, needed, context_length });
    }
    let vocab_size = config.vocab_size;
    match tokens.iter().find(|it| **it as usize >= vocab_size) {
        Some(&token) => Err(GenerateError::TokenOutOfVocabulary { sequence, token, vocab_size }),
        None => Ok(()),
    }
}

/// Error of text generation.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GenerateError {
    /// A prompt or observation exceeds the model's context.
    #[error(
        "sequence {sequence} needs {needed} tokens, which exceeds the model's context of \
         {context_length}; shorten the prompt or the observations"
    )]
    ContextOverflow {
        /// The sequence.
        sequence: usize,
        /// Tokens that the sequence would hold, including one sampled token.
        needed: usize,
        /// Context length of the model.
        context_length: usize,
    },
    /// A token is not in the model's vocabulary.
    #[error(
        "token {token} of sequence {sequence} is outside the vocabulary of {vocab_size} tokens"
    )]
    TokenOutOfVocabulary {
        /// The sequence.
        sequence: usize,
        /// The token.
        token: TokenId,
        /// Size of the vocabulary.
        vocab_size: usize,
    },
    /// A sampling parameter is out of range.
    #[error("{field} = {value} is out of range; use a number {allowed}")]
    Params {
        /// The field of [`SamplingParams`].
        field: &'static str,
        /// Its value.
        value: f32,
        /// Allowed range.
        allowed: &'static str,
    },
    /// Logits were NaN or infinite, so nothing can be sampled from them.
    #[error(
        "sequence {sequence}: the logits of token {position} are not finite; load an earlier \
         checkpoint of the model, or lower the learning rate that it was trained with"
    )]
    NotFinite {
        /// The sequence.
        sequence: usize,
        /// Index of the token that was to be sampled.
        position: usize,
    },
    /// The generator cannot compute the log-probabilities of given tokens.
    #[error("this generator does not score sequences")]
    NoScores,
    /// A remote generator or a test double failed.
    #[error("the generator failed: {message}")]
    Other {
        /// Error message of the generator.
        message: String,
    },
}

impl GenerateError {
    /// The error of a block of sequences, in a session in which the block begins at `first`.
    pub(crate) fn in_block(self, first: usize) -> Self {
        match self {
            Self::NotFinite { sequence, position } => {
                Self::NotFinite { sequence: first + sequence, position }
            }
            other => other,
        }
    }
}

/// Multi-turn generation of several sequences: append, sample, append, sample.
///
/// A local model keeps a KV cache per sequence, so continuing after an observation costs only the
/// observation's tokens.
pub trait Session {
    /// Appends tokens to each requested sequence and samples one completion each, in the order of
    /// the requests. Sampled tokens are appended to the sequence.
    ///
    /// Calls `on_token(i, token)` for every sampled token of `requests[i]` as it is sampled.
    ///
    /// # Errors
    ///
    /// Fails before sampling if a request does not fit the context, and while sampling if logits are
    /// not finite.
    ///
    /// # Panics
    ///
    /// Panics if two requests name the same sequence, an index is out of range, or a new sequence
    /// gets an empty `append`.
    fn extend(
        &mut self,
        requests: &[SequenceRequest<'_>],
        params: &SamplingParams,
        on_token: &mut dyn FnMut(usize, TokenId),
    ) -> Result<Vec<Completion>, GenerateError>;

    /// Number of tokens of a sequence.
    fn sequence_len(&self, sequence: usize) -> usize;
}

/// Text generator with a tokenizer.
pub trait Generator: Debug + Send + Sync {
    /// Tokenizer that prompts are encoded with.
    fn tokenizer(&self) -> &Tokenizer;

    /// Maximum number of tokens of a sequence, prompt included.
    fn context_length(&self) -> usize;

    /// Opens a session of `num_sequences` empty sequences.
    fn session(&self, num_sequences: usize) -> Box<dyn Session + '_>;

    /// Samples one completion per prompt, in order, in a session with a single turn.
    ///
    /// # Errors
    ///
    /// Fails like [`Session::extend`].
    fn generate(
        &self,
        prompts: &[(Vec<TokenId>, StreamKey)],
        params: &SamplingParams,
    ) -> Result<Vec<Completion>, GenerateError> {
        self.generate_streaming(prompts, params, &mut |_, _| {}, &|_| false)
    }

    /// Samples one completion per prompt as [`generate`](Self::generate) does, and calls
    /// `on_token(i, token)` for every sampled token of `prompts[i]` as it is sampled.
    ///
    /// Asks `is_cancelled(i)` before each step, from any thread; once it is true, no further token
    /// of `prompts[i]` is sampled, and its completion ends with [`StopReason::Length`]. The provided
    /// method samples every completion to its end.
    ///
    /// # Errors
    ///
    /// Fails like [`Session::extend`].
    ///
    /// ```
    /// use zs_core::StreamKey;
    /// use zs_model::testing::ScriptedGenerator;
    /// use zs_model::{Generator, SamplingParams};
    ///
    /// let parrot = ScriptedGenerator::new(|text, _| text.to_owned());
    /// let prompts = [(parrot.tokenizer().encode("ab").unwrap(), StreamKey::new(0))];
    /// let (params, mut streamed) = (SamplingParams::default(), Vec::new());
    /// let on_token = &mut |_, token| streamed.push(token);
    /// let completions = parrot.generate_streaming(&prompts, &params, on_token, &|_| false).unwrap();
    /// assert_eq!(streamed, completions[0].tokens);
    /// ```
    fn generate_streaming(
        &self,
        prompts: &[(Vec<TokenId>, StreamKey)],
        params: &SamplingParams,
        on_token: &mut dyn FnMut(usize, TokenId),
        is_cancelled: IsCancelled<'_>,
    ) -> Result<Vec<Completion>, GenerateError> {
        let _ = is_cancelled;
        self.session(prompts.len()).extend(&single_turn(prompts), params, on_token)
    }

    /// Log-probability of each token of some sequences given those before it, under the model's full
    /// softmax at temperature 1; 0 for the first token.
    ///
    /// # Errors
    ///
    /// Fails on a sequence that exceeds the context or has a token outside of the vocabulary. The
    /// provided method always fails.
    fn log_probs(&self, sequences: &[Vec<TokenId>]) -> Result<Vec<Vec<f32>>, GenerateError> {
        let _ = sequences;
        Err(GenerateError::NoScores)
    }
}

/// Query of a sampling loop: true when the completion of the request with this index is no longer
/// wanted.
pub type IsCancelled<'a> = &'a (dyn Fn(usize) -> bool + Sync);

/// Requests of a session's only turn: sequence `i` continues `prompts[i]`.
pub(crate) fn single_turn(prompts: &[(Vec<TokenId>, StreamKey)]) -> Vec<SequenceRequest<'_>> {
    prompts
        .iter()
        .enumerate()
        .map(|(sequence, (append, key))| SequenceRequest { sequence, append, key: *key })
        .collect()
}
