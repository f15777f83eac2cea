//! Leave-one-out advantages: each sample against the mean of the *others*.

/// Rewards minus the mean reward of the other samples for the same question.
///
/// ```text
/// A_i = r_i - 1/(n - 1) sum_{j != i} r_j = n/(n - 1) (r_i - mean(r))
/// ```
///
/// - `r`: the outcome rewards of the group; `n`: its size
///
/// The baseline does not contain `r_i`, so the gradient stays unbiased. A group of one has no
/// others: its reward passes through, as in verl.
///
/// # Shapes
///
/// - rewards, output: `[group]`
///
/// # References
///
/// - [Kool et al. 2019](https://openreview.net/forum?id=r1lgTGL5DE)
/// - [Back to Basics](https://arxiv.org/abs/2402.14740), section 3.3, equation 7
///
/// ```
/// use zs_rl::advantage::leave_one_out_advantages;
///
/// assert_eq!(leave_one_out_advantages(&[1.0, 0.0, 0.5]), [0.75, -0.75, 0.0]);
/// ```
#[must_use]
pub fn leave_one_out_advantages(rewards: &[f32]) -> Vec<f32> {
    let n = rewards.len();
    if n < 2 {
        return rewards.to_vec();
    }
    let mean = super::mean(rewards);
    let factor = n as f64 / (n - 1) as f64;
    rewards.iter().map(|&it| (factor * (f64::from(it) - mean)) as f32).collect()
}

#[cfg(test)]
#[cfg(feature = "flex")]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::testing::reference;

    #[test]
    fn by_hand() {
        assert_eq!(leave_one_out_advantages(&[3.0, 1.0]), [2.0, -2.0]);
        assert_eq!(leave_one_out_advantages(&[0.1; 4]), [0.0; 4]);
        assert_eq!(leave_one_out_advantages(&[0.25]), [0.25]);
        assert!(leave_one_out_advantages(&[]).is_empty());
    }

    #[test]
    fn agrees_with_verl() {
        let Some(reference) = reference::load() else { return };
        reference.check_group_advantages("rloo", leave_one_out_advantages);
    }

    proptest! {
        #[test]
        fn each_is_compared_with_the_others(
            rewards in proptest::collection::vec(-2.0_f32..2.0, 2..12)
        ) {
            let advantages = leave_one_out_advantages(&rewards);
            prop_assert!(advantages.iter().sum::<f32>().abs() < 1e-4);
            for (index, advantage) in advantages.iter().enumerate() {
                let others: f32 = rewards.iter().sum::<f32>() - rewards[index];
                let expected = rewards[index] - others / (rewards.len() - 1) as f32;
                prop_assert!((advantage - expected).abs() < 1e-4);
            }
        }
    }
}
