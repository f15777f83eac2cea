//! REINFORCE: the return itself, or the return minus a baseline.

use serde::{Deserialize, Serialize};

use super::mean;

/// What is taken off every return.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Baseline {
    /// Nothing: the raw return, as in ZeroSearch.
    #[default]
    None,
    /// The mean return of the batch.
    BatchMean,
}

/// Returns minus a baseline.
///
/// ```text
/// A_i = R_i - b,   b = 0  or  b = 1/n * sum_j R_j
/// ```
///
/// - `R_i`: the return of episode `i`; rewards are terminal and undiscounted, so it is the reward
/// - `n`: episodes in the batch
///
/// The batch mean contains `R_i` itself, which shrinks the expected gradient by `(n - 1) / n`.
///
/// # Shapes
///
/// - rewards, output: `[batch]`
///
/// # References
///
/// - [Williams 1992](https://doi.org/10.1007/BF00992696)
/// - ZeroSearch reference code, `core_algos.py` 158-165 (no baseline, no whitening)
///
/// ```
/// use zs_rl::advantage::{Baseline, returns_minus_baseline};
///
/// assert_eq!(returns_minus_baseline(&[1.0, 0.0], Baseline::None), [1.0, 0.0]);
/// assert_eq!(returns_minus_baseline(&[1.0, 0.0], Baseline::BatchMean), [0.5, -0.5]);
/// ```
#[must_use]
pub fn returns_minus_baseline(rewards: &[f32], baseline: Baseline) -> Vec<f32> {
    let baseline = match baseline {
        Baseline::None => 0.0,
        Baseline::BatchMean => mean(rewards),
    };
    rewards.iter().map(|&it| (f64::from(it) - baseline) as f32).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[track_caller]
    fn check(rewards: &[f32], baseline: Baseline, expected: &[f32]) {
        assert_eq!(returns_minus_baseline(rewards, baseline), expected);
    }

    #[test]
    fn by_hand() {
        check(&[0.25, 1.0], Baseline::None, &[0.25, 1.0]);
        check(&[0.0, 1.0, 0.5, 0.5], Baseline::BatchMean, &[-0.5, 0.5, 0.0, 0.0]);
        check(&[0.1, 0.1, 0.1], Baseline::BatchMean, &[0.0; 3]);
        check(&[], Baseline::BatchMean, &[]);
    }

    proptest! {
        #[test]
        fn centred_returns_sum_to_zero(rewards in proptest::collection::vec(0.0_f32..1.0, 1..64)) {
            let sum: f32 = returns_minus_baseline(&rewards, Baseline::BatchMean).iter().sum();
            prop_assert!(sum.abs() < 1e-4);
        }
    }
}
