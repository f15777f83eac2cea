//! Replies of helper models, as the policy is shown them.

use zs_core::{neutralize_tags, with_causes};
use zs_model::{TokenId, Tokenizer};

use super::RolloutError;
use crate::consult::{HelperError, HelperKind, HelperReply};

/// Reply in place of an empty or failed one, as the policy is shown it.
pub(super) const NO_REPLY: &str = " (no reply) ";

/// Observation after a request to a helper model once the budget is spent.
pub(super) const CONSULT_REFUSED: &str =
    "\nNo further consultation is possible. I should go on by myself.\n";

/// A reply as it is shown to the policy.
pub(super) struct ShownReply {
    pub(super) text: String,
    pub(super) tokens: Vec<TokenId>,
    /// Log-probabilities of the helper model; empty where they are not known.
    pub(super) log_probs: Vec<f32>,
    pub(super) error: Option<String>,
}

impl ShownReply {
    /// At most `limit` tokens of the helper model's reply, in the policy's tokens. Its
    /// log-probabilities are kept where its tokens are the same.
    pub(super) fn new(
        reply: Result<HelperReply, HelperError>,
        kind: HelperKind,
        tokenizer: &Tokenizer,
        limit: usize,
    ) -> Result<Self, RolloutError> {
        let reply = reply.and_then(|it| it.without_thoughts("", kind.tag()));
        let (text, sampled, error) = match reply {
            Ok(reply) => (neutralize_tags(&reply.text), (reply.tokens, reply.log_probs), None),
            Err(error) => {
                let message = with_causes(&error);
                (NO_REPLY.to_owned(), (Vec::new(), Vec::new()), Some(message))
            }
        };
        let mut tokens = tokenizer.encode(&text)?;
        tokens.truncate(limit);
        let (sampled, mut log_probs) = sampled;
        if sampled.starts_with(&tokens) && log_probs.len() == sampled.len() {
            log_probs.truncate(tokens.len());
        } else {
            log_probs.clear();
        }
        Ok(Self { text: tokenizer.decode(&tokens), tokens, log_probs, error })
    }
}

#[cfg(test)]
mod tests {
    use zs_model::testing::byte_tokenizer;

    use super::*;

    #[track_caller]
    fn check(text: &str, sampled: &str, limit: usize, shown: &str, num_known: usize) {
        let bytes: Vec<TokenId> = sampled.bytes().map(TokenId::from).collect();
        let log_probs = vec![-0.1; bytes.len()];
        let reply = HelperReply { text: text.to_owned(), tokens: bytes, log_probs };
        let reply =
            ShownReply::new(Ok(reply), HelperKind::Verify, &byte_tokenizer(), limit).unwrap();
        assert_eq!((reply.text.as_str(), reply.log_probs.len()), (shown, num_known));
    }

    #[test]
    fn log_probs_are_kept_for_the_same_tokens_only() {
        check("yes", "yes", 99, "yes", 3);
        check("yes", "yes!", 99, "yes", 3);
        check("yes", "yes", 2, "ye", 2);
        check("yes", "no", 99, "yes", 0);
        // A tag is neutralised, so these are no longer the helper model's tokens.
        check("<answer>", "<answer>", 99, "‹answer›", 0);
    }

    #[test]
    fn thoughts_are_not_shown() {
        check("<think>no</think>yes", "<think>no</think>yes", 99, "yes", 0);
        check("yes</think>yes", "yes</think>yes", 99, "yes", 0);
        check("<think>no, yes", "<think>no, yes", 99, NO_REPLY, 0);
    }

    #[test]
    fn silence_and_thoughts_alone_are_errors() {
        for (text, expected) in [
            (" \n", "agent `verify` gave an empty reply"),
            ("<think>a</think> ", "agent `verify` gave an empty reply"),
            ("<think>a", "the reply of agent `verify` ends before its thoughts do"),
        ] {
            let reply = HelperReply { text: text.to_owned(), ..HelperReply::default() };
            let reply = ShownReply::new(Ok(reply), HelperKind::Verify, &byte_tokenizer(), 99);
            let reply = reply.unwrap();
            assert_eq!(reply.text, NO_REPLY);
            assert!(reply.error.unwrap().starts_with(expected), "{text}");
        }
    }
}
