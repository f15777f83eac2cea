//! Settings of branching: the episodes and turns from which further continuations are sampled.

use garde::Validate;
use serde::{Deserialize, Serialize};
use zs_core::StreamKey;
use zs_core::registry::check;

use crate::{Branch, PlayedEpisode};

/// Branching of episodes: from the state before each turn of some episodes, further continuations are
/// sampled.
///
/// The state before the first turn is that of all episodes of a question; they are its continuations.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, Validate)]
#[serde(deny_unknown_fields, default)]
pub struct Branching {
    /// Share of the episodes of a question that are branched, rounded to whole episodes; the first
    /// ones.
    #[garde(custom(check::fraction))]
    pub share: f64,
    /// Further continuations from each state.
    #[garde(range(min = 1, max = 1024))]
    pub continuations: usize,
    /// Turns of an episode that are branched, after its first.
    #[garde(range(min = 1, max = 32))]
    pub depth: usize,
}

impl Default for Branching {
    fn default() -> Self {
        Self { share: 0.5, continuations: 2, depth: 3 }
    }
}

impl Branching {
    /// Number of branched episodes in a group.
    #[must_use]
    pub fn num_branched(self, group_size: usize) -> usize {
        ((self.share * group_size as f64).round() as usize).min(group_size)
    }

    /// Upper bound of the continuations of a group, for episodes of so many turns.
    #[must_use]
    pub fn max_continuations(self, group_size: usize, max_turns: usize) -> usize {
        let points = self.depth.min(max_turns.saturating_sub(1));
        self.num_branched(group_size) * points * self.continuations
    }

    /// Samples of a turn for each that an unbranched episode would have, in expectation: the episode and
    /// the continuations from the states up to the turn.
    #[must_use]
    pub fn samples_of_turn(self, turn: usize) -> usize {
        1 + self.continuations * turn.min(self.depth)
    }

    /// The continuations of a group's episodes, those from one state next to one another.
    ///
    /// Each has random numbers of the policy's own: its key is the episode's, with the number of the
    /// continuation, from 1, in the upper half of [`StreamKey::sample`].
    #[must_use]
    pub fn branches<'a>(self, played: &[PlayedEpisode<'a>]) -> Vec<Branch<'a>> {
        let mut branches = Vec::new();
        let branched = &played[..self.num_branched(played.len())];
        for (parent, &played) in branched.iter().enumerate() {
            let key = played.episode.key;
            let end = played.trajectory.turns.len().min(self.depth + 1);
            for turn in 1..end {
                for continuation in 0..self.continuations {
                    let number = (turn - 1) * self.continuations + continuation + 1;
                    let sample = key.sample + ((number as u32) << 16);
                    let played =
                        PlayedEpisode { policy_key: StreamKey { sample, ..key }, ..played };
                    branches.push(Branch { played, parent, turn, documents: None });
                }
            }
        }
        branches
    }
}

#[cfg(test)]
#[cfg(feature = "flex")]
mod tests {
    use std::collections::HashSet;

    use zs_core::Question;

    use super::*;
    use crate::Episode;
    use crate::testing::episodes::trajectory;

    #[test]
    fn continuations_start_before_each_turn_of_the_first_episodes() {
        let question = Question::new("q", "?", ["a"]);
        let (long, short) = (trajectory(&[1, 1, 1, 1]), trajectory(&[1]));
        let episode = |sample| {
            let key = StreamKey { sample, ..StreamKey::new(1) };
            Episode { question: &question, key }
        };
        let played: Vec<PlayedEpisode<'_>> = [&short, &long, &long]
            .into_iter()
            .enumerate()
            .map(|(at, it)| PlayedEpisode::new(episode(at as u32), it))
            .collect();
        let branching = Branching { share: 0.6, continuations: 2, depth: 2 };
        let branches = branching.branches(&played);
        let places: Vec<(usize, usize)> = branches.iter().map(|it| (it.parent, it.turn)).collect();
        assert_eq!(places, [(1, 1), (1, 1), (1, 2), (1, 2)]);
        let keys: HashSet<StreamKey> =
            branches.iter().map(|it| &it.played).chain(&played).map(|it| it.policy_key).collect();
        assert_eq!(keys.len(), 7);
        assert_eq!(branching.max_continuations(3, 4), 8);
        assert_eq!([0, 1, 2, 3].map(|it| branching.samples_of_turn(it)), [1, 3, 5, 5]);
    }
}
