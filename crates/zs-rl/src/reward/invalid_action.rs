//! Penalty on turns without a valid action.

use serde::{Deserialize, Serialize};
use zs_core::Action;
use zs_core::registry::Settings;

use super::{EpisodeView, Reward, RewardOutput, TurnView};

/// Minus one for each turn without a valid action, at that turn.
///
/// Its weight in a sum is the penalty of an invalid turn; 0.01 in GiGPO's search runs, which
/// subtract it from the reward of the step.
///
/// # References
///
/// - [GiGPO](https://arxiv.org/abs/2505.10978), reference code
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct InvalidAction {}

impl Settings for InvalidAction {
    const KIND: &'static str = "invalid_action";
}

impl Reward for InvalidAction {
    fn name(&self) -> &'static str {
        "invalid_action"
    }

    fn score(&self, episode: &EpisodeView<'_>) -> RewardOutput {
        let price = |it: &TurnView<'_>| if *it.action == Action::Invalid { -1.0 } else { 0.0 };
        RewardOutput::by_turn(episode.turns.iter().map(price).collect())
    }
}

#[cfg(test)]
mod tests {
    use zs_core::Question;

    use super::*;
    use crate::reward::testing::trajectory;

    #[test]
    fn the_price_is_paid_where_it_is_earned() {
        let texts = ["hm", "<search> q </search>", "<search> </search>", "<answer></answer>"];
        let question = Question::new("q", "?", ["a"]);
        let trajectory = trajectory(&texts);
        let earned = InvalidAction {}.score(&EpisodeView::new(&question, &trajectory));
        assert_eq!(earned.turns, [-1.0, 0.0, -1.0, 0.0]);
        assert_eq!(earned.total, -2.0);
    }
}
