//! REINFORCE: the return itself, or the return minus a baseline.

use garde::Validate;
use serde::{Deserialize, Serialize};
use zs_core::registry::check;

use super::mean;

/// Baseline that is subtracted from every return.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, Validate)]
#[serde(rename_all = "snake_case")]
pub enum Baseline {
    /// Nothing: the raw return, as in ZeroSearch.
    #[default]
    None,
    /// The mean return of the batch.
    BatchMean,
    /// A running mean of the mean returns of the batches before.
    Ema {
        /// Share that the running mean keeps of itself at each update, in `[0, 1)`.
        #[garde(custom(check::below_one))]
        decay: f64,
    },
}

impl Baseline {
    /// The running mean after a batch: `decay * running + (1 - decay) * mean(rewards)`, or the mean
    /// of the first batch; nothing for baselines that remember nothing.
    #[must_use]
    pub fn remember(self, running: Option<f64>, rewards: &[f32]) -> Option<f64> {
        let Self::Ema { decay } = self else { return None };
        let mean = mean(rewards);
        Some(running.map_or(mean, |it| decay * it + (1.0 - decay) * mean))
    }
}

/// Returns minus a baseline.
///
/// ```text
/// A_i = R_i - b,   b = 0                                       none
///                  b = 1/n * sum_j R_j                         batch_mean
///                  b = m,  m <- decay m + (1 - decay) mean(R)  ema
/// ```
///
/// - `R_i`: the return of episode `i`; rewards are terminal and undiscounted, so it is the reward
/// - `n`: episodes in the batch
/// - `m`: `running`, the running mean of the batches *before* this one; the mean of this one where
///   there was none
///
/// The batch mean contains `R_i` itself, which shrinks the expected gradient by `(n - 1) / n`; the
/// running mean does not, but lags behind.
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
/// let rewards = [1.0, 0.0];
/// assert_eq!(returns_minus_baseline(&rewards, Baseline::None, None), [1.0, 0.0]);
/// assert_eq!(returns_minus_baseline(&rewards, Baseline::BatchMean, None), [0.5, -0.5]);
/// let ema = Baseline::Ema { decay: 0.5 };
/// assert_eq!(returns_minus_baseline(&rewards, ema, Some(0.25)), [0.75, -0.25]);
/// assert_eq!(ema.remember(Some(0.25), &rewards), Some(0.375));
/// ```
#[must_use]
pub fn returns_minus_baseline(
    rewards: &[f32],
    baseline: Baseline,
    running: Option<f64>,
) -> Vec<f32> {
    let baseline = match (baseline, running) {
        (Baseline::None, _) => 0.0,
        (Baseline::Ema { .. }, Some(running)) => running,
        (Baseline::BatchMean | Baseline::Ema { .. }, _) => mean(rewards),
    };
    rewards.iter().map(|&it| (f64::from(it) - baseline) as f32).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[track_caller]
    fn check(rewards: &[f32], baseline: Baseline, expected: &[f32]) {
        assert_eq!(returns_minus_baseline(rewards, baseline, None), expected);
    }

    #[test]
    fn by_hand() {
        check(&[0.25, 1.0], Baseline::None, &[0.25, 1.0]);
        check(&[0.0, 1.0, 0.5, 0.5], Baseline::BatchMean, &[-0.5, 0.5, 0.0, 0.0]);
        check(&[0.1, 0.1, 0.1], Baseline::BatchMean, &[0.0; 3]);
        check(&[], Baseline::BatchMean, &[]);
        check(&[0.0, 1.0], Baseline::Ema { decay: 0.9 }, &[-0.5, 0.5]);
    }

    #[test]
    fn the_running_mean_follows() {
        let ema = Baseline::Ema { decay: 0.75 };
        let first = ema.remember(None, &[1.0, 0.0]);
        assert_eq!(first, Some(0.5));
        assert_eq!(ema.remember(first, &[1.0, 1.0]), Some(0.625));
        assert_eq!(Baseline::BatchMean.remember(first, &[1.0]), None);
    }

    proptest! {
        #[test]
        fn centred_returns_sum_to_zero(rewards in proptest::collection::vec(0.0_f32..1.0, 1..64)) {
            let sum: f32 = returns_minus_baseline(&rewards, Baseline::BatchMean, None).iter().sum();
            prop_assert!(sum.abs() < 1e-4);
        }
    }
}
