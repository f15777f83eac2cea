//! State of a turn: the completions in progress.

use rand_chacha::ChaCha8Rng;
use zs_core::Domain;

use super::stop::{CompletionTail, StopTexts};
use super::{Completion, GenerateError, IsCancelled, SamplingParams, SequenceRequest, StopReason};
use crate::TokenId;

/// State of a turn in progress.
pub(super) struct Turn<'r> {
    pub(super) requests: &'r [SequenceRequest<'r>],
    pub(super) params: &'r SamplingParams,
    pub(super) stop: StopTexts<'r>,
    pub(super) growing: Vec<PartialCompletion>,
    /// Sampled tokens with their requests, not yet reported.
    pub(super) sampled: Vec<(usize, TokenId)>,
    /// First failure; it ends the turn.
    pub(super) failure: Option<GenerateError>,
    pub(super) on_token: &'r mut dyn FnMut(usize, TokenId),
    pub(super) is_cancelled: IsCancelled<'r>,
}

/// Completion in progress.
pub(super) struct PartialCompletion {
    pub(super) completion: Completion,
    pub(super) rng: ChaCha8Rng,
    pub(super) tail: CompletionTail,
    pub(super) done: bool,
}

impl Turn<'_> {
    /// Reports the sampled tokens.
    pub(super) fn report_tokens(&mut self) {
        self.sampled.drain(..).for_each(|(request, token)| (self.on_token)(request, token));
    }

    /// Ends the completions that are no longer wanted.
    pub(super) fn end_cancelled(&mut self) {
        for (request, growing) in self.growing.iter_mut().enumerate() {
            if !growing.done && (self.is_cancelled)(request) {
                growing.finish(StopReason::Length);
            }
        }
    }

    /// Remaining token budget of a request.
    pub(super) fn left(&self, request: usize) -> usize {
        self.params.max_new_tokens - self.growing[request].completion.tokens.len()
    }
}

impl PartialCompletion {
    pub(super) fn new(request: &SequenceRequest<'_>, params: &SamplingParams) -> Self {
        let completion = Completion {
            tokens: Vec::new(),
            log_probs: Vec::new(),
            sampling_log_probs: (!params.is_full_softmax()).then(Vec::new),
            stop_reason: StopReason::Length,
        };
        let rng = request.key.rng(Domain::Sampling);
        Self { completion, rng, tail: CompletionTail::default(), done: false }
    }

    pub(super) fn finish(&mut self, reason: StopReason) {
        self.completion.stop_reason = reason;
        self.done = true;
    }
}
