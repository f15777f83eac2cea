//! The length reward of Kimi K1.5: short right answers over long ones, inside a group.

use serde::{Deserialize, Serialize};
use zs_core::exact_match;
use zs_core::registry::Settings;

use super::{EpisodeView, GroupReward, RewardOutput};

/// Rewards shorter correct episodes and penalises longer wrong ones.
///
/// Lengths are tokens that the policy wrote; an episode is right on an exact match of its answer.
/// The formula is [`length_rewards`]. K1.5 adds it only after a first stretch of training: set
/// `warm_up_steps` of the term.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Length {}

impl Settings for Length {
    const KIND: &'static str = "length";
}

impl GroupReward for Length {
    fn name(&self) -> &'static str {
        "length"
    }

    fn score_group(&self, episodes: &[EpisodeView<'_>]) -> Vec<RewardOutput> {
        let episode = |it: &EpisodeView<'_>| {
            let is_right = |answer: &str| exact_match(answer, &it.question.golden_answers);
            (it.num_tokens(), it.answer().is_some_and(is_right))
        };
        let episodes: Vec<(usize, bool)> = episodes.iter().map(episode).collect();
        length_rewards(&episodes).into_iter().map(RewardOutput::from).collect()
    }
}

/// Length rewards of the episodes of one question, given their lengths and whether they are right.
///
/// ```text
/// lambda_i = 0.5 - (len_i - min len) / (max len - min len)
/// r_i      = lambda_i             where episode i is right
///            min(0, lambda_i)     where it is wrong
///            0                    where all lengths are equal
/// ```
///
/// # Shapes
///
/// - episodes, output: `[group]`
///
/// # References
///
/// - [Kimi k1.5](https://arxiv.org/abs/2501.12599), section 2.3.3
///
/// ```
/// use zs_rl::length_rewards;
///
/// let group = [(100, true), (200, true), (300, true), (300, false)];
/// assert_eq!(length_rewards(&group), [0.5, 0.0, -0.5, -0.5]);
/// ```
#[must_use]
pub fn length_rewards(episodes: &[(usize, bool)]) -> Vec<f32> {
    let lengths = || episodes.iter().map(|(length, _)| *length);
    let (min, max) = (lengths().min().unwrap_or(0), lengths().max().unwrap_or(0));
    let reward = |&(length, is_right): &(usize, bool)| {
        if min == max {
            return 0.0;
        }
        let lambda = (0.5 - (length - min) as f64 / (max - min) as f64) as f32;
        if is_right { lambda } else { lambda.min(0.0) }
    };
    episodes.iter().map(reward).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use zs_core::Question;

    use super::*;
    use crate::reward::testing::trajectory;

    #[test]
    fn by_hand() {
        assert_eq!(length_rewards(&[(10, true), (30, false), (20, false)]), [0.5, -0.5, 0.0]);
        assert_eq!(length_rewards(&[(10, false), (30, true)]), [0.0, -0.5]);
        assert_eq!(length_rewards(&[(7, true), (7, false)]), [0.0, 0.0]);
        assert_eq!(length_rewards(&[(7, true)]), [0.0]);
        assert!(length_rewards(&[]).is_empty());
    }

    #[test]
    fn reads_lengths_and_answers_of_episodes() {
        let question = Question::new("q", "?", ["a"]);
        let texts = ["<answer>a</answer>", "<answer>a   </answer>", "I do not know, so I go on"];
        let episodes = texts.map(|it| trajectory(&[it]));
        let views: Vec<_> = episodes.iter().map(|it| EpisodeView::new(&question, it)).collect();
        // Lengths 18, 21 and 25.
        let rewards: Vec<f32> = Length {}.score_group(&views).iter().map(|it| it.total).collect();
        assert_eq!(rewards, [0.5, (0.5 - 3.0 / 7.0_f64) as f32, -0.5]);
    }

    proptest! {
        #[test]
        fn bounded_and_blind_to_order(
            mut group in proptest::collection::vec((0_usize..500, any::<bool>()), 1..12)
        ) {
            let rewards = length_rewards(&group);
            for (reward, (_, is_right)) in rewards.iter().zip(&group) {
                prop_assert!((-0.5..=0.5).contains(reward) && (*is_right || *reward <= 0.0));
            }
            group.reverse();
            let mut reversed = length_rewards(&group);
            reversed.reverse();
            prop_assert_eq!(rewards, reversed);
        }
    }
}
