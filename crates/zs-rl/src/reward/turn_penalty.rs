//! Penalty on turns.

use serde::{Deserialize, Serialize};
use zs_core::registry::Settings;

use super::{EpisodeView, Reward, RewardOutput};

/// Minus one for each turn beyond those that are free.
///
/// ```text
/// r = -max(0, T - free)
/// ```
///
/// - `T`: turns of the episode, invalid ones and the answer included
/// - `free`: turns that cost nothing
///
/// Its weight in a sum is the penalty of a turn. The exponential form of InForage,
/// `beta^max(0, T - 2)`, multiplies other rewards and is [`TurnDecay`](super::TurnDecay).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TurnPenalty {
    /// Turns without a penalty; 2 is a search and an answer.
    pub free_turns: usize,
}

impl Settings for TurnPenalty {
    const KIND: &'static str = "turn_penalty";
}

impl Reward for TurnPenalty {
    fn name(&self) -> &'static str {
        "turn_penalty"
    }

    fn score(&self, episode: &EpisodeView<'_>) -> RewardOutput {
        RewardOutput::from(0.0 - episode.turns.len().saturating_sub(self.free_turns) as f32)
    }
}

#[cfg(test)]
mod tests {
    use zs_core::Question;

    use super::*;
    use crate::reward::testing::score;

    #[test]
    fn turns_beyond_the_free_ones_cost() {
        let question = Question::new("q", "?", ["a"]);
        for (turns, expected) in [(0, 0.0), (2, 0.0), (3, -1.0), (5, -3.0)] {
            let texts = vec!["<search> q </search>"; turns];
            assert_eq!(score(&TurnPenalty { free_turns: 2 }, &question, &texts), expected);
        }
    }
}
