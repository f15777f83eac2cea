//! Asks the agents that rows of a batch want to consult, all of one kind in one batch.

use zs_core::{StreamKey, neutralize_tags};
use zs_model::{TokenId, Tokenizer};

use super::RolloutError;
use super::row::{RolloutRow, Rules};
use super::search::message_with_causes;
use crate::consult::{AgentError, AgentKind, ConsultRegistry, ConsultReply, ConsultRequest};

/// What a consulted agent's silence looks like to the policy.
pub(super) const NO_REPLY: &str = " (no reply) ";

/// What follows a question to an agent once the budget is used up.
pub(super) const CONSULT_REFUSED: &str =
    "\nNo further consultation is possible. I should go on by myself.\n";

/// The place of a completion that follows `part` consultations of the same turn.
///
/// Turns are counted in the lower half of [`StreamKey::turn`], parts in the upper half.
pub(super) fn part_key(key: StreamKey, turn: u32, part: u32) -> StreamKey {
    StreamKey { turn: turn + (part << 16), ..key }
}

/// The same for the agent that is asked there; its draws must not be those of the policy.
fn agent_key(key: StreamKey, turn: u32, part: u32) -> StreamKey {
    StreamKey { turn: (turn + (part << 16)) | (1 << 31), ..key }
}

/// Gets the replies of the rows whose last consultation has none, and appends them.
pub(super) fn consult(
    rows: &mut [RolloutRow<'_>],
    asking: &[usize],
    registry: &ConsultRegistry,
    rules: &Rules<'_>,
    max_tokens: usize,
    (turn, part): (u32, u32),
) -> Result<(), RolloutError> {
    for kind in registry.kinds() {
        let asked = |it: &RolloutRow<'_>| it.trajectory.consults.last().map(|last| last.agent);
        let indices: Vec<usize> =
            asking.iter().copied().filter(|&it| asked(&rows[it]) == Some(kind)).collect();
        let Some(agent) = registry.agent(kind).filter(|_| !indices.is_empty()) else { continue };
        let replies = {
            let requests: Vec<ConsultRequest<'_>> = indices
                .iter()
                .map(|&index| {
                    let row = &rows[index];
                    ConsultRequest {
                        question: &row.episode.question.text,
                        request: row.trajectory.consults.last().map_or("", |it| &it.request),
                        key: agent_key(row.episode.key, turn, part),
                    }
                })
                .collect();
            agent.consult_batch(&requests)
        };
        if replies.len() != indices.len() {
            return Err(RolloutError::AgentContract {
                agent: kind.tag(),
                requests: indices.len(),
                replies: replies.len(),
            });
        }
        for (&index, reply) in indices.iter().zip(replies) {
            let limit = max_tokens.min(rows[index].room(rules.observation_limit));
            let reply = HelperReply::new(reply, kind, rules.tokenizer, limit)?;
            rows[index].take_reply(reply);
        }
    }
    Ok(())
}

/// A reply as it is shown to the policy.
pub(super) struct HelperReply {
    pub(super) text: String,
    pub(super) tokens: Vec<TokenId>,
    /// Those of the agent; empty where they are not known.
    pub(super) log_probs: Vec<f32>,
    pub(super) error: Option<String>,
}

impl HelperReply {
    /// At most `limit` tokens of what the agent said, in the policy's tokens. The agent's
    /// log-probabilities are kept where its tokens are the same ones.
    fn new(
        reply: Result<ConsultReply, AgentError>,
        kind: AgentKind,
        tokenizer: &Tokenizer,
        limit: usize,
    ) -> Result<Self, RolloutError> {
        let reply = match reply {
            Ok(reply) if reply.text.trim().is_empty() => {
                Err(AgentError::Empty { agent: kind.tag() })
            }
            reply => reply,
        };
        let (text, sampled, error) = match reply {
            Ok(reply) => (neutralize_tags(&reply.text), (reply.tokens, reply.log_probs), None),
            Err(error) => {
                let message = message_with_causes(&error);
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
        let reply = ConsultReply { text: text.to_owned(), tokens: bytes, log_probs };
        let reply =
            HelperReply::new(Ok(reply), AgentKind::Verify, &byte_tokenizer(), limit).unwrap();
        assert_eq!((reply.text.as_str(), reply.log_probs.len()), (shown, num_known));
    }

    #[test]
    fn log_probs_are_kept_for_the_same_tokens_only() {
        check("yes", "yes", 99, "yes", 3);
        check("yes", "yes!", 99, "yes", 3);
        check("yes", "yes", 2, "ye", 2);
        check("yes", "no", 99, "yes", 0);
        // A tag is neutralised, so these are no longer the agent's tokens.
        check("<answer>", "<answer>", 99, "‹answer›", 0);
    }

    #[test]
    fn silence_is_an_error() {
        let reply = ConsultReply { text: " \n".to_owned(), ..ConsultReply::default() };
        let reply = HelperReply::new(Ok(reply), AgentKind::Verify, &byte_tokenizer(), 99).unwrap();
        assert_eq!(reply.text, NO_REPLY);
        assert_eq!(reply.error.as_deref(), Some("agent `verify` gave an empty reply"));
    }
}
