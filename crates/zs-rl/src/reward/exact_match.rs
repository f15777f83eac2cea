//! Exact match of the final answer, and its lenient sibling.

use serde::{Deserialize, Serialize};
use zs_core::registry::Settings;
use zs_core::{cover_exact_match, exact_match};

use super::{EpisodeView, Reward, RewardOutput};

/// 1 when the normalised final answer equals a golden answer, else 0.
///
/// # References
///
/// - [ZeroSearch](https://arxiv.org/abs/2505.04588), section 4.1
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExactMatch {}

impl Settings for ExactMatch {
    const KIND: &'static str = "exact_match";
}

impl Reward for ExactMatch {
    fn name(&self) -> &'static str {
        "exact_match"
    }

    fn score(&self, episode: &EpisodeView<'_>) -> RewardOutput {
        let is_match = |it: &str| exact_match(it, &episode.question.golden_answers);
        RewardOutput::from(episode.answer().is_some_and(is_match))
    }
}

/// 1 when the normalised final answer contains a golden answer, else 0.
///
/// The reference code of ZeroSearch computes this under the name exact match; it rewards answers
/// that list every candidate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CoverExactMatch {}

impl Settings for CoverExactMatch {
    const KIND: &'static str = "cover_exact_match";
}

impl Reward for CoverExactMatch {
    fn name(&self) -> &'static str {
        "cover_exact_match"
    }

    fn score(&self, episode: &EpisodeView<'_>) -> RewardOutput {
        let is_match = |it: &str| cover_exact_match(it, &episode.question.golden_answers);
        RewardOutput::from(episode.answer().is_some_and(is_match))
    }
}

#[cfg(test)]
mod tests {
    use zs_core::Question;

    use super::*;
    use crate::reward::testing::score;

    #[track_caller]
    fn check(text: &str, exact: f32, cover: f32) {
        let question = Question::new("q", "?", ["Lyon", "The Paris"]);
        assert_eq!(score(&ExactMatch {}, &question, &[text]), exact, "{text}");
        assert_eq!(score(&CoverExactMatch {}, &question, &[text]), cover, "{text}");
    }

    #[test]
    fn equality_and_containment() {
        check("<answer> paris. </answer>", 1.0, 1.0);
        check("<answer> Rome, Paris or Lyon </answer>", 0.0, 1.0);
        check("<answer> Rome </answer>", 0.0, 0.0);
        check("Paris", 0.0, 0.0);
    }
}
