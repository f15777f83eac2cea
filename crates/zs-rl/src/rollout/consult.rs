//! Requests of a batch's rows to helper models, all of one kind in one batch.

use zs_core::StreamKey;

use super::RolloutError;
use super::helper_reply::ShownReply;
use super::row::{RolloutRow, Rules};
use crate::consult::{HelperRegistry, HelperRequest};

/// Random key of a completion that follows `part` requests of the same turn.
///
/// Turns are counted in the lower half of [`StreamKey::turn`], parts in the upper half.
pub(super) fn part_key(key: StreamKey, turn: u32, part: u32) -> StreamKey {
    StreamKey { turn: turn + (part << 16), ..key }
}

/// Random key of the helper model at the same point; its draws must differ from the policy's.
fn agent_key(key: StreamKey, turn: u32, part: u32) -> StreamKey {
    StreamKey { turn: (turn + (part << 16)) | (1 << 31), ..key }
}

/// Gets the replies of the rows whose last request has none, and appends them.
pub(super) fn consult(
    rows: &mut [RolloutRow<'_>],
    asking: &[usize],
    registry: &HelperRegistry,
    rules: &Rules<'_>,
    max_tokens: usize,
    part: u32,
) -> Result<(), RolloutError> {
    for kind in registry.kinds() {
        let asked = |it: &RolloutRow<'_>| it.trajectory.consults.last().map(|last| last.agent);
        let indices: Vec<usize> =
            asking.iter().copied().filter(|&it| asked(&rows[it]) == Some(kind)).collect();
        let Some(agent) = registry.agent(kind).filter(|_| !indices.is_empty()) else { continue };
        let replies = {
            let requests: Vec<HelperRequest<'_>> = indices
                .iter()
                .map(|&index| {
                    let row = &rows[index];
                    HelperRequest {
                        question: &row.episode.question.text,
                        request: row.trajectory.consults.last().map_or("", |it| &it.request),
                        key: agent_key(row.episode.key, row.num_turns(), part),
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
            let reply = ShownReply::new(reply, kind, rules.tokenizer, limit)?;
            rows[index].take_reply(reply);
        }
    }
    Ok(())
}
