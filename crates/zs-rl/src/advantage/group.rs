//! Group-relative advantages: each sample against its siblings.

use garde::Validate;
use serde::{Deserialize, Serialize};
use zs_core::registry::check;

use super::mean;

/// Settings of the comparison of rewards inside a group.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, Validate)]
#[serde(default)]
pub struct GroupAdvantageOptions {
    /// Division by the group's standard deviation.
    #[garde(skip)]
    pub normalize_std: bool,
    /// Keeps the standard deviation away from zero.
    #[garde(custom(check::non_negative))]
    pub std_epsilon: f64,
}

impl Default for GroupAdvantageOptions {
    fn default() -> Self {
        Self { normalize_std: true, std_epsilon: 1e-6 }
    }
}

/// Advantages of the samples of one question relative to one another.
///
/// ```text
/// A_i = (r_i - mean(r)) / (std(r) + epsilon)       with normalize_std
/// A_i =  r_i - mean(r)                             without
/// ```
///
/// - `r`: the outcome rewards of the group
/// - `std`: the sample standard deviation (`n - 1`)
///
/// A group of one has no siblings: mean 0 and standard deviation 1 are assumed, so its reward passes
/// through, as in verl. A group of equal rewards gets exact zeros. The formula of the paper does not
/// say which standard deviation is meant; `n - 1` is what verl and the ZeroSearch code compute.
///
/// # Shapes
///
/// - rewards, output: `[group]`
///
/// # References
///
/// - [DeepSeekMath](https://arxiv.org/abs/2402.03300), section 4.1.2
/// - [Dr. GRPO](https://arxiv.org/abs/2503.20783), for the form without `std`
///
/// ```
/// use zs_rl::advantage::{GroupAdvantageOptions, group_relative_advantages};
///
/// let options = GroupAdvantageOptions { normalize_std: false, ..Default::default() };
/// assert_eq!(group_relative_advantages(&[1.0, 0.0, 0.5], options), [0.5, -0.5, 0.0]);
/// ```
#[must_use]
pub fn group_relative_advantages(rewards: &[f32], options: GroupAdvantageOptions) -> Vec<f32> {
    let n = rewards.len();
    let mean = if n == 1 { 0.0 } else { mean(rewards) };
    let scale = match (options.normalize_std, n) {
        (false, _) => 1.0,
        (true, 0 | 1) => 1.0 + options.std_epsilon,
        (true, _) => {
            let squares: f64 = rewards.iter().map(|&it| (f64::from(it) - mean).powi(2)).sum();
            (squares / (n - 1) as f64).sqrt() + options.std_epsilon
        }
    };
    // Equal rewards with `std_epsilon = 0` would be 0 / 0.
    let divide = |centred: f64| if centred == 0.0 { 0.0 } else { centred / scale };
    rewards.iter().map(|&it| divide(f64::from(it) - mean) as f32).collect()
}

#[cfg(test)]
#[cfg(feature = "flex")]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::testing::reference;

    #[track_caller]
    fn check(rewards: &[f32], options: GroupAdvantageOptions, expected: &[f32]) {
        let actual = group_relative_advantages(rewards, options);
        assert_eq!(actual.len(), expected.len());
        for (a, e) in actual.iter().zip(expected) {
            assert!((a - e).abs() < 1e-6, "{actual:?} != {expected:?}");
        }
    }

    const PLAIN: GroupAdvantageOptions =
        GroupAdvantageOptions { normalize_std: false, std_epsilon: 0.0 };
    const EXACT: GroupAdvantageOptions =
        GroupAdvantageOptions { normalize_std: true, std_epsilon: 0.0 };

    #[test]
    fn by_hand() {
        // Two members: half the range over range / sqrt(2), whatever the range.
        let h = std::f32::consts::FRAC_1_SQRT_2;
        check(&[1.0, 0.0], EXACT, &[h, -h]);
        check(&[5.0, 3.0], EXACT, &[h, -h]);
        // Mean 1/4, std = sqrt((9/16 + 3/16) / 3) = 1/2.
        check(&[1.0, 0.0, 0.0, 0.0], EXACT, &[1.5, -0.5, -0.5, -0.5]);
        check(&[1.0, 0.0, 0.0, 0.0], PLAIN, &[0.75, -0.25, -0.25, -0.25]);
        check(&[0.1, 0.1, 0.1], EXACT, &[0.0; 3]);
        check(&[0.25], EXACT, &[0.25]);
        check(&[0.25], PLAIN, &[0.25]);
        check(&[], EXACT, &[]);
    }

    #[test]
    fn equal_rewards_give_exact_zeros() {
        let advantages = group_relative_advantages(&[0.638; 7], GroupAdvantageOptions::default());
        assert_eq!(advantages, [0.0; 7]);
    }

    #[test]
    fn agrees_with_verl() {
        let Some(reference) = reference::load() else { return };
        let options = GroupAdvantageOptions::default();
        reference.check_group_advantages("grpo", |it| group_relative_advantages(it, options));
        reference.check_group_advantages("dr_grpo", |it| group_relative_advantages(it, PLAIN));
    }

    proptest! {
        #[test]
        fn advantages_sum_to_zero_and_ignore_order(
            rewards in proptest::collection::vec(0.0_f32..1.0, 2..16)
        ) {
            let advantages = group_relative_advantages(&rewards, PLAIN);
            prop_assert!(advantages.iter().sum::<f32>().abs() < 1e-5);
            let mut reversed = rewards.clone();
            reversed.reverse();
            let mut expected = advantages;
            expected.reverse();
            for (a, e) in group_relative_advantages(&reversed, PLAIN).iter().zip(expected) {
                prop_assert!((a - e).abs() < 1e-6);
            }
        }
    }
}
