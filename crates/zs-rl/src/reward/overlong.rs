//! Penalties on length itself: DAPO's soft penalty, and a spent token budget.

use garde::Validate;
use serde::{Deserialize, Serialize};
use zs_core::registry::{Settings, SettingsError, check};

use super::{EpisodeView, Reward, RewardOutput};

/// DAPO's soft penalty on overlong episodes.
///
/// ```text
/// r = 0                            where len <= max - cache
///     ((max - cache) - len) / cache    in between
///     -1                           where len > max
/// ```
///
/// - `len`: tokens that the policy wrote, over all turns
/// - `cache`: number of tokens over which the penalty rises
///
/// In DAPO an answer of more than `max` tokens has been cut off; here `max` is a limit of its own,
/// e.g. a few turns' worth of tokens, or [`TokenBudget`](crate::TokenBudget).
///
/// # References
///
/// - [DAPO](https://arxiv.org/abs/2503.14476), section 3.4, equation 13
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, Validate)]
pub struct Overlong {
    /// Number of tokens from which the penalty is full.
    #[garde(skip)]
    pub max_tokens: usize,
    /// Number of tokens before `max_tokens` over which it rises; at least 1 and at most `max_tokens`.
    #[garde(custom(check::at_least_one), custom(check::at_most("max_tokens", self.max_tokens)))]
    pub cache_tokens: usize,
}

impl Settings for Overlong {
    const KIND: &'static str = "overlong";

    fn check(&self) -> Result<(), SettingsError> {
        Ok(self.validate()?)
    }
}

impl Reward for Overlong {
    fn name(&self) -> &'static str {
        "overlong"
    }

    fn score(&self, episode: &EpisodeView<'_>) -> RewardOutput {
        let excess =
            episode.num_tokens().saturating_sub(self.max_tokens.saturating_sub(self.cache_tokens));
        let share = excess as f64 / self.cache_tokens.max(1) as f64;
        RewardOutput::from(0.0 - share.min(1.0) as f32)
    }
}

/// -1 for an episode that ended because its token budget was spent, else 0.
///
/// The penalty that goes with [`TokenBudget`](crate::TokenBudget), which cuts the episode off.
///
/// # References
///
/// - [Kimi K2](https://arxiv.org/abs/2507.20534), section 3.2.3; the size of the penalty is not
///   published
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OverBudget {}

impl Settings for OverBudget {
    const KIND: &'static str = "over_budget";
}

impl Reward for OverBudget {
    fn name(&self) -> &'static str {
        "over_budget"
    }

    fn score(&self, episode: &EpisodeView<'_>) -> RewardOutput {
        RewardOutput::from(if episode.over_budget { -1.0 } else { 0.0 })
    }
}

#[cfg(test)]
mod tests {
    use zs_core::Question;

    use super::*;
    use crate::reward::testing::trajectory;

    #[track_caller]
    fn check(num_tokens: usize, expected: f32) {
        // Two turns, one token a byte.
        let (first, second) = ("x".repeat(num_tokens / 3), "x".repeat(num_tokens.div_ceil(3) * 2));
        let mut trajectory = trajectory(&[&first, &second]);
        trajectory.turns[1].completion.tokens.truncate(num_tokens - first.len());
        let question = Question::new("q", "?", ["a"]);
        let episode = EpisodeView::new(&question, &trajectory);
        assert_eq!(episode.num_tokens(), num_tokens);
        let reward = Overlong { max_tokens: 100, cache_tokens: 20 };
        assert_eq!(reward.score(&episode).total, expected, "{num_tokens} tokens");
    }

    #[test]
    fn the_punishment_sets_in_slowly() {
        check(0, 0.0);
        check(80, 0.0);
        check(85, -0.25);
        check(90, -0.5);
        check(100, -1.0);
        check(101, -1.0);
        check(400, -1.0);
    }

    #[test]
    fn a_spent_budget_costs() {
        let question = Question::new("q", "?", ["a"]);
        let mut trajectory = trajectory(&["x"]);
        assert_eq!(OverBudget {}.score(&EpisodeView::new(&question, &trajectory)).total, 0.0);
        trajectory.over_budget = true;
        assert_eq!(OverBudget {}.score(&EpisodeView::new(&question, &trajectory)).total, -1.0);
    }
}
