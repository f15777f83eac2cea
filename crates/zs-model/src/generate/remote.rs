//! Completions that were sampled elsewhere: cut and checked by the rules of this process.

use super::stop::{CompletionTail, StopTexts};
use super::{Completion, SamplingParams, StopReason};
use crate::{ModelConfig, TokenId, Tokenizer};

/// Rules by which a completion ends. A server's own idea of stop texts, limits and end-of-sequence
/// tokens does not matter: what it samples beyond the end is cut, and what it ends too early is refused.
///
/// ```
/// use zs_model::testing::{byte_tokenizer, tiny_config};
/// use zs_model::{CompletionRules, SampledTokens, SamplingParams, StopReason};
///
/// let (config, tokenizer) = (tiny_config(), byte_tokenizer());
/// let rules = CompletionRules::new(&config, &tokenizer);
/// let params = SamplingParams { stop: vec!["b".to_owned()], ..SamplingParams::default() };
/// let sampled = SampledTokens {
///     tokens: vec![97, 98, 99],
///     log_probs: vec![-0.5, -1.0, -2.0],
///     sampling_log_probs: None,
/// };
/// let completion = rules.complete(3, sampled, &params)?;
/// assert_eq!((completion.tokens, completion.stop_reason), (vec![97, 98], StopReason::Stop));
/// # Ok::<(), zs_model::SampledTokensError>(())
/// ```
#[derive(Clone, Copy, Debug)]
pub struct CompletionRules<'a> {
    config: &'a ModelConfig,
    tokenizer: &'a Tokenizer,
}

/// Tokens that a server sampled, with their log-probabilities as in [`Completion`].
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SampledTokens {
    /// Sampled tokens.
    pub tokens: Vec<TokenId>,
    /// Log-probability of each under the full softmax at temperature 1.
    pub log_probs: Vec<f32>,
    /// Log-probability of each under the distribution that it was drawn from; `None` if that is the
    /// full softmax.
    pub sampling_log_probs: Option<Vec<f32>>,
}

/// Reason that tokens from a server cannot be a completion.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum SampledTokensError {
    /// Another number of log-probabilities than tokens.
    #[error("it has {log_probs} log-probabilities for {tokens} tokens")]
    Lengths {
        /// Number of tokens.
        tokens: usize,
        /// Number of log-probabilities.
        log_probs: usize,
    },
    /// A token that the model does not have.
    #[error("token {token} is outside the vocabulary of {vocab_size} tokens")]
    OutOfVocabulary {
        /// The token.
        token: TokenId,
        /// Size of the vocabulary.
        vocab_size: usize,
    },
    /// A log-probability that is not one.
    #[error("the log-probability of token {position} is {value}")]
    LogProb {
        /// Index of the token.
        position: usize,
        /// The value.
        value: f32,
    },
    /// The completion ends where nothing ends it.
    #[error(
        "it ends after {tokens} tokens, where neither an end-of-sequence token of the policy, a stop \
         text nor a limit of this run ends it"
    )]
    Unended {
        /// Number of tokens.
        tokens: usize,
    },
}

impl<'a> CompletionRules<'a> {
    /// Rules of a model.
    #[must_use]
    pub fn new(config: &'a ModelConfig, tokenizer: &'a Tokenizer) -> Self {
        Self { config, tokenizer }
    }

    /// Completion of a sequence of `held` tokens: ends where a local model would have ended it.
    ///
    /// # Errors
    ///
    /// Fails on tokens or numbers that no model of these rules can have sampled, and on a completion
    /// that ends too early.
    pub fn complete(
        &self,
        held: usize,
        mut sampled: SampledTokens,
        params: &SamplingParams,
    ) -> Result<Completion, SampledTokensError> {
        let num_tokens = sampled.tokens.len();
        let lists = [Some(&sampled.log_probs), sampled.sampling_log_probs.as_ref()];
        for log_probs in lists.into_iter().flatten() {
            if log_probs.len() != num_tokens {
                let (tokens, log_probs) = (num_tokens, log_probs.len());
                return Err(SampledTokensError::Lengths { tokens, log_probs });
            }
            // Rounding may leave a certain token a little above 0.
            let is_one = |it: &f32| it.is_finite() && *it < 1e-3;
            if let Some(position) = log_probs.iter().position(|it| !is_one(it)) {
                return Err(SampledTokensError::LogProb { position, value: log_probs[position] });
            }
        }
        let vocab_size = self.config.vocab_size;
        if let Some(&token) = sampled.tokens.iter().find(|it| **it as usize >= vocab_size) {
            return Err(SampledTokensError::OutOfVocabulary { token, vocab_size });
        }
        let room = self.config.max_position_embeddings.saturating_sub(held);
        let most = params.max_new_tokens.min(room);
        let stop = StopTexts::new(Some(self.tokenizer), &params.stop);
        let mut tail = CompletionTail::default();
        let eos = &self.config.eos_token_ids;
        let end = sampled.tokens.iter().enumerate().find_map(|(at, &token)| {
            Some((at + 1, stop.stop_reason(&mut tail, token, eos, at + 1 >= most)?))
        });
        let (len, stop_reason) = match end {
            Some(end) => end,
            None if most == 0 => (0, StopReason::Length),
            None => return Err(SampledTokensError::Unended { tokens: num_tokens }),
        };
        sampled.tokens.truncate(len);
        sampled.log_probs.truncate(len);
        let sampling_log_probs = sampled.sampling_log_probs.map(|mut it| {
            it.truncate(len);
            it
        });
        let SampledTokens { tokens, log_probs, .. } = sampled;
        Ok(Completion { tokens, log_probs, sampling_log_probs, stop_reason })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{BYTE_EOS, byte_tokenizer, tiny_config};

    /// Tokens sampled after `held` tokens, and the length and reason of their completion.
    #[track_caller]
    fn check(
        tokens: &[TokenId],
        held: usize,
        expected: Result<(usize, StopReason), SampledTokensError>,
    ) {
        let config = crate::ModelConfig { eos_token_ids: vec![BYTE_EOS], ..tiny_config() };
        let tokenizer = byte_tokenizer();
        let params = SamplingParams {
            max_new_tokens: 5,
            stop: vec!["xy".to_owned()],
            ..SamplingParams::default()
        };
        let log_probs: Vec<f32> = (0..tokens.len()).map(|it| -0.1 - it as f32).collect();
        let sampled = SampledTokens {
            tokens: tokens.to_vec(),
            sampling_log_probs: Some(log_probs.clone()),
            log_probs,
        };
        let rules = CompletionRules::new(&config, &tokenizer);
        let completion = rules.complete(held, sampled, &params);
        if let Ok(it) = &completion {
            assert_eq!(it.tokens, tokens[..it.tokens.len()]);
            assert_eq!(it.log_probs.len(), it.tokens.len());
            assert_eq!(it.sampling_log_probs.as_ref(), Some(&it.log_probs));
        }
        let actual = completion.map(|it| (it.tokens.len(), it.stop_reason));
        assert_eq!(actual, expected, "{tokens:?}");
    }

    #[test]
    fn completions_end_by_the_rules_of_this_process() {
        let [x, y] = ['x', 'y'].map(|it| it as TokenId);
        check(&[1, BYTE_EOS], 3, Ok((2, StopReason::EndOfSequence)));
        check(&[1, x, y], 3, Ok((3, StopReason::Stop)));
        check(&[1, 2, 3, 4, 5], 3, Ok((5, StopReason::Length)));
        // What a server sampled beyond the end.
        check(&[1, BYTE_EOS, 2, 3], 3, Ok((2, StopReason::EndOfSequence)));
        check(&[x, y, 2, 3], 3, Ok((2, StopReason::Stop)));
        check(&[1; 9], 3, Ok((5, StopReason::Length)));
        // The context of 64 tokens is full.
        check(&[1, 2], 62, Ok((2, StopReason::Length)));
        check(&[], 64, Ok((0, StopReason::Length)));
        // Another end-of-sequence token, or an aborted request.
        check(&[1, 2], 3, Err(SampledTokensError::Unended { tokens: 2 }));
        check(&[], 3, Err(SampledTokensError::Unended { tokens: 0 }));
        let vocab_size = tiny_config().vocab_size;
        let token = vocab_size as TokenId;
        check(&[token], 3, Err(SampledTokensError::OutOfVocabulary { token, vocab_size }));
    }

    #[test]
    fn numbers_that_are_no_log_probabilities_are_refused() {
        let (config, tokenizer) = (tiny_config(), byte_tokenizer());
        let rules = CompletionRules::new(&config, &tokenizer);
        let params = SamplingParams { max_new_tokens: 1, ..SamplingParams::default() };
        for log_probs in [vec![], vec![f32::NAN], vec![0.5], vec![f32::NEG_INFINITY]] {
            let sampled = SampledTokens { tokens: vec![1], log_probs, sampling_log_probs: None };
            assert!(rules.complete(1, sampled.clone(), &params).is_err(), "{sampled:?}");
        }
    }
}
