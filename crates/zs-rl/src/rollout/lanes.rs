//! Scheduling of lanes: while one of them is sampled, the others search.

use std::collections::VecDeque;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::mpsc::{Sender, channel};
use std::thread::{Result as Outcome, scope};

use zs_model::Session;

use super::lane::{Lane, Table};
use super::{Episode, RolloutError, RolloutEvent};

/// Plays lanes until their episodes end, and returns them in order.
///
/// A single lane runs on this thread, step by step. With several, this thread samples one at a
/// time, in the order in which they become ready, and each lane has a thread for its searches; so
/// the policy model and its device are used from one thread only.
///
/// # Errors
///
/// Returns the first lane's error, once every searching lane has returned; none is sampled after
/// the first error.
pub(super) fn play_lanes<'e>(
    table: &Table<'_>,
    lanes: Vec<Lane<'e>>,
    observer: &mut dyn FnMut(RolloutEvent<'_>),
) -> Result<Vec<Lane<'e>>, RolloutError> {
    let generator = table.rollout.generator;
    let mut sessions: Vec<Box<dyn Session + '_>> =
        lanes.iter().map(|it| generator.session(it.num_rows())).collect();
    match <[Lane<'e>; 1]>::try_from(lanes) {
        Ok([mut lane]) => {
            while lane.has_work() {
                lane.sample(sessions[0].as_mut(), table, observer)?;
                lane.respond(table)?;
                lane.report(table, observer);
            }
            Ok(vec![lane])
        }
        Err(lanes) => take_turns(table, lanes, &mut sessions, observer),
    }
}

fn take_turns<'e>(
    table: &Table<'_>,
    lanes: Vec<Lane<'e>>,
    sessions: &mut [Box<dyn Session + '_>],
    observer: &mut dyn FnMut(RolloutEvent<'_>),
) -> Result<Vec<Lane<'e>>, RolloutError> {
    type Response<'e> = (usize, Lane<'e>, Outcome<Result<(), RolloutError>>);
    let num_lanes = lanes.len();
    // However this scope ends, the senders go first, and with them the threads that wait for work.
    scope(|scope| {
        let (responses, responded) = channel::<Response<'e>>();
        let start = |index: usize| -> Sender<Lane<'e>> {
            let (sender, asked) = channel::<Lane<'e>>();
            let responses = responses.clone();
            scope.spawn(move || {
                for mut lane in asked {
                    let outcome = catch_unwind(AssertUnwindSafe(|| lane.respond(table)));
                    if responses.send((index, lane, outcome)).is_err() {
                        break;
                    }
                }
            });
            sender
        };
        let searchers: Vec<Sender<Lane<'e>>> = (0..num_lanes).map(start).collect();
        let mut ready: VecDeque<(usize, Lane<'e>)> = lanes.into_iter().enumerate().collect();
        let mut finished: Vec<Option<Lane<'e>>> = (0..num_lanes).map(|_| None).collect();
        let mut errors: Vec<(usize, RolloutError)> = Vec::new();
        let mut num_searching = 0;
        loop {
            if let Some((index, mut lane)) = ready.pop_front().filter(|_| errors.is_empty()) {
                if !lane.has_work() {
                    finished[index] = Some(lane);
                    continue;
                }
                match lane.sample(sessions[index].as_mut(), table, observer) {
                    Err(error) => errors.push((index, error)),
                    Ok(()) => {
                        num_searching += 1;
                        // A searcher ends only after its sender is gone.
                        let _ = searchers[index].send(lane);
                    }
                }
                continue;
            }
            // This thread holds a sender of responses itself, so there is one to come for each.
            if num_searching == 0 {
                break;
            }
            let Ok((index, mut lane, outcome)) = responded.recv() else { break };
            num_searching -= 1;
            match outcome.unwrap_or_else(|payload| resume_unwind(payload)) {
                Err(error) => errors.push((index, error)),
                Ok(()) => {
                    lane.report(table, observer);
                    ready.push_back((index, lane));
                }
            }
        }
        match errors.into_iter().min_by_key(|(index, _)| *index) {
            Some((_, error)) => Err(error),
            None => Ok(finished.into_iter().flatten().collect()),
        }
    })
}

/// Splits episodes into at most `num_lanes` blocks of neighbours of about the same size. Neighbours
/// with the same question have the same prompt, which is fed once, and stay together.
///
/// ```text
/// lane(group) = floor(lanes * (first(group) + size(group) / 2) / episodes)
/// ```
///
/// Lanes that get no group are left out; without episodes one is left.
pub(super) fn blocks(episodes: &[Episode<'_>], num_lanes: usize) -> Vec<Range<usize>> {
    let num_lanes = num_lanes.min(episodes.len());
    let mut blocks: Vec<(usize, Range<usize>)> = Vec::new();
    let mut start = 0;
    for group in episodes.chunk_by(|a, b| a.question.text == b.question.text) {
        let end = start + group.len();
        // The sum is twice the middle of the group.
        let lane = num_lanes * (start + end) / (2 * episodes.len());
        match blocks.last_mut() {
            Some((last, block)) if *last == lane => block.end = end,
            _ => blocks.push((lane, start..end)),
        }
        start = end;
    }
    if blocks.is_empty() {
        blocks.push((0, 0..0));
    }
    blocks.into_iter().map(|(_, block)| block).collect()
}

#[cfg(test)]
mod tests {
    use zs_core::{Question, StreamKey};

    use super::*;

    /// Groups of so many episodes each, and the sizes of the blocks.
    #[track_caller]
    fn check(groups: &[usize], num_lanes: usize, expected: &[usize]) {
        let questions: Vec<Question> =
            (0..groups.len()).map(|it| Question::new("", it.to_string(), ["a"])).collect();
        let episodes: Vec<Episode<'_>> = questions
            .iter()
            .zip(groups)
            .flat_map(|(question, size)| {
                (0..*size).map(move |_| Episode { question, key: StreamKey::new(1) })
            })
            .collect();
        let blocks = blocks(&episodes, num_lanes);
        let sizes: Vec<usize> = blocks.iter().map(ExactSizeIterator::len).collect();
        assert_eq!(sizes, expected, "{groups:?} in {num_lanes} lanes");
        assert_eq!(blocks.iter().cloned().flatten().count(), episodes.len());
        assert!(blocks.windows(2).all(|it| it[0].end == it[1].start) && blocks[0].start == 0);
    }

    #[test]
    fn groups_stay_together_in_blocks_of_about_the_same_size() {
        check(&[3, 3, 3, 3], 1, &[12]);
        check(&[3, 3, 3, 3], 2, &[6, 6]);
        check(&[3, 3, 3, 3], 3, &[3, 6, 3]);
        check(&[3, 3, 3, 3], 9, &[3, 3, 3, 3]);
        check(&[1, 1, 1, 1, 1], 2, &[2, 3]);
        check(&[8, 1, 1], 2, &[8, 2]);
        check(&[1, 1, 8], 2, &[2, 8]);
        check(&[4], 3, &[4]);
        check(&[], 3, &[0]);
    }
}
