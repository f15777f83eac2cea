//! Sampling text: what a caller asks for, what it gets, and the trait that local models, remote
//! servers and test doubles implement.

mod cached_rows;
mod decode_step;
mod device_access;
mod local;
mod logits;
mod sampling;
mod shard;
mod stop;
mod warm_up;

use std::fmt::Debug;

use serde::{Deserialize, Serialize};
use zs_core::StreamKey;

pub use decode_step::{DecodeGraphStats, decode_graph_stats};
pub(crate) use local::LocalSession;
pub use warm_up::WarmUpShape;

use crate::Tokenizer;

/// A token identifier.
pub type TokenId = u32;

/// How to sample.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SamplingParams {
    /// Softmax temperature; `0` is greedy.
    pub temperature: f32,
    /// Nucleus mass, in `(0, 1]`; `1` keeps the whole distribution.
    pub top_p: f32,
    /// How many of the most likely tokens stay; `0` keeps all.
    pub top_k: usize,
    /// Tokens less likely than this times the most likely one are cut off, in `[0, 1]`; `0` keeps
    /// all.
    pub min_p: f32,
    /// Logits of tokens that the sequence holds already, prompt included, are divided (or, below
    /// zero, multiplied) by this; `1` leaves them alone.
    pub repetition_penalty: f32,
    /// New tokens at most.
    pub max_new_tokens: usize,
    /// Texts that end a completion, e.g. `"</search>"`. They stay part of it, and so does the whole
    /// token that completes one.
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
    /// Whether tokens are drawn from the model's own distribution, neither reshaped nor cut.
    #[must_use]
    pub fn is_full_softmax(&self) -> bool {
        self.temperature == 1.0 && self.keeps_all_tokens()
    }

    /// Whether no token is cut off or penalised, whatever the temperature.
    pub(crate) fn keeps_all_tokens(&self) -> bool {
        self.top_p >= 1.0 && self.top_k == 0 && self.min_p <= 0.0 && self.repetition_penalty == 1.0
    }

    /// Checks that every setting is in its range.
    ///
    /// # Errors
    ///
    /// Fails on the first that is not, and names it.
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

/// Why a completion ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StopReason {
    /// A stop text was produced. The token that completed it is kept whole.
    Stop,
    /// An end-of-sequence token was produced; it is the last token of the completion.
    EndOfSequence,
    /// `max_new_tokens` were produced, or the context is full.
    Length,
}

/// One sampled continuation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Completion {
    /// The sampled tokens, exactly as sampled.
    pub tokens: Vec<TokenId>,
    /// Their log-probabilities under the model's full softmax at temperature 1, one a token.
    pub log_probs: Vec<f32>,
    /// Their log-probabilities under the distribution that they were drawn from, one a token, where
    /// [`SamplingParams::is_full_softmax`] is false; `None` where it is the full softmax.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sampling_log_probs: Option<Vec<f32>>,
    /// Why it ended.
    pub stop_reason: StopReason,
}

/// One sequence of a session to be continued.
#[derive(Clone, Copy, Debug)]
pub struct SequenceRequest<'a> {
    /// Which sequence of the session, below the session's size.
    pub sequence: usize,
    /// Tokens to append before sampling: the prompt at first, an observation later. Not empty at
    /// first.
    pub append: &'a [TokenId],
    /// Where in the run this completion is sampled. Its tokens are a function of the weights, the
    /// sequence so far and this key, whatever else is in the batch.
    pub key: StreamKey,
}

/// Why generation failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GenerateError {
    /// A prompt or observation does not fit the model's context.
    #[error(
        "sequence {sequence} needs {needed} tokens, which exceeds the model's context of \
         {context_length}; shorten the prompt or the observations"
    )]
    ContextOverflow {
        /// The sequence.
        sequence: usize,
        /// Tokens that it would hold, one sampled token included.
        needed: usize,
        /// Tokens that the model holds.
        context_length: usize,
    },
    /// A token is outside of the model's vocabulary.
    #[error("token {token} of sequence {sequence} is outside of the vocabulary of {vocab_size}")]
    TokenOutOfVocabulary {
        /// The sequence.
        sequence: usize,
        /// The token.
        token: TokenId,
        /// Entries of the embedding.
        vocab_size: usize,
    },
    /// A sampling setting is out of its range.
    #[error("{field} = {value} is no sampling setting; use a number {allowed}")]
    Params {
        /// The field of [`SamplingParams`].
        field: &'static str,
        /// Its value.
        value: f32,
        /// What is allowed.
        allowed: &'static str,
    },
    /// A generator behind a wire or a test double failed in its own way.
    #[error("the generator failed: {message}")]
    Other {
        /// What it said.
        message: String,
    },
}

/// Sequences that grow turn by turn: `append`, sample, `append`, sample.
///
/// A local model keeps a key-value cache per sequence, so continuing after an observation costs the
/// observation only.
pub trait Session {
    /// Appends to each requested sequence and samples one completion each, in the order of the
    /// requests. Tokens of a completion become part of their sequence.
    ///
    /// `on_token(i, token)` is called for every sampled token of `requests[i]` as it is sampled.
    ///
    /// # Errors
    ///
    /// Fails, before sampling anything, when a request does not fit the context.
    ///
    /// # Panics
    ///
    /// When two requests name the same sequence, one is out of range, or a new sequence gets an
    /// empty `append`.
    fn extend(
        &mut self,
        requests: &[SequenceRequest<'_>],
        params: &SamplingParams,
        on_token: &mut dyn FnMut(usize, TokenId),
    ) -> Result<Vec<Completion>, GenerateError>;

    /// Tokens that a sequence holds.
    fn sequence_len(&self, sequence: usize) -> usize;
}

/// A source of sampled text with a tokenizer.
pub trait Generator: Debug + Send + Sync {
    /// The tokenizer that prompts are encoded with.
    fn tokenizer(&self) -> &Tokenizer;

    /// Tokens that one sequence may hold, prompt included.
    fn context_length(&self) -> usize;

    /// Opens `num_sequences` empty sequences.
    fn session(&self, num_sequences: usize) -> Box<dyn Session + '_>;

    /// Samples one completion a prompt, in order: a session with a single turn.
    ///
    /// # Errors
    ///
    /// As [`Session::extend`].
    fn generate(
        &self,
        prompts: &[(Vec<TokenId>, StreamKey)],
        params: &SamplingParams,
    ) -> Result<Vec<Completion>, GenerateError> {
        single_turn(self.session(prompts.len()).as_mut(), prompts, params)
    }
}

/// Samples one completion a prompt, the sequences of a fresh session in order.
pub(crate) fn single_turn(
    session: &mut dyn Session,
    prompts: &[(Vec<TokenId>, StreamKey)],
    params: &SamplingParams,
) -> Result<Vec<Completion>, GenerateError> {
    let requests: Vec<SequenceRequest<'_>> = prompts
        .iter()
        .enumerate()
        .map(|(sequence, (append, key))| SequenceRequest { sequence, append, key: *key })
        .collect();
    session.extend(&requests, params, &mut |_, _| {})
}
