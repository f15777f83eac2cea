//! Means with bootstrap intervals.

use rand::RngExt;
use serde::{Deserialize, Serialize};
use zs_core::{Domain, StreamKey};

/// Number of resamples of an interval.
pub const NUM_RESAMPLES: usize = 2_000;

/// A mean and its 95 % bootstrap interval.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Estimate {
    /// The mean over questions.
    pub mean: f64,
    /// The 2.5th percentile of the resampled means.
    pub ci_low: f64,
    /// The 97.5th percentile of the resampled means.
    pub ci_high: f64,
}

/// Percentile bootstrap of the means of several columns over the same questions.
///
/// ```text
/// m_b = 1/n * sum_j x[i_bj],  i_bj ~ uniform{0..n},  b in 1..=2000
/// interval = [q(0.025), q(0.975)] of the sorted m
/// ```
///
/// - `x`: one number per question; `n`: questions, at least one
/// - `q(p)`: linear interpolation at `p * (2000 - 1)`, as numpy's default
///
/// All columns are resampled with the same questions. The draws depend on `key` and `n` alone.
///
/// # References
///
/// - Efron and Tibshirani, *An Introduction to the Bootstrap* (1993), chapter 13
pub(crate) fn bootstrap<const N: usize>(rows: &[[f64; N]], key: StreamKey) -> [Estimate; N] {
    let count = u32::try_from(rows.len()).unwrap_or(u32::MAX);
    let mean = |sum: f64| sum / f64::from(count);
    let mut rng = key.rng(Domain::Bootstrap);
    let mut means: [Vec<f64>; N] = std::array::from_fn(|_| Vec::with_capacity(NUM_RESAMPLES));
    for _ in 0..NUM_RESAMPLES {
        let mut sums = [0.0; N];
        for _ in 0..count {
            let row = &rows[rng.random_range(0..count) as usize];
            for (sum, value) in sums.iter_mut().zip(row) {
                *sum += value;
            }
        }
        for (means, sum) in means.iter_mut().zip(sums) {
            means.push(mean(sum));
        }
    }
    std::array::from_fn(|column| {
        let mean = mean(rows.iter().map(|row| row[column]).sum());
        interval(mean, &mut means[column])
    })
}

/// Percentile bootstrap of the unweighted mean of several sets' means.
///
/// ```text
/// m_b = 1/S * sum_s m_bs,  each m_bs a resampled mean of set s as in `bootstrap`
/// ```
///
/// Each set is resampled on its own, so every resample has the sets and sizes of the data. No set may
/// be empty.
pub(crate) fn bootstrap_average<const N: usize>(
    sets: &[Vec<[f64; N]>],
    key: StreamKey,
) -> [Estimate; N] {
    let mut rng = key.rng(Domain::Bootstrap);
    let of_sets = |sum: f64| sum / sets.len() as f64;
    let mut means: [Vec<f64>; N] = std::array::from_fn(|_| Vec::with_capacity(NUM_RESAMPLES));
    for _ in 0..NUM_RESAMPLES {
        let mut sums = [0.0; N];
        for rows in sets {
            let count = u32::try_from(rows.len()).unwrap_or(u32::MAX);
            for _ in 0..count {
                let row = &rows[rng.random_range(0..count) as usize];
                for (sum, value) in sums.iter_mut().zip(row) {
                    *sum += value / f64::from(count);
                }
            }
        }
        for (means, sum) in means.iter_mut().zip(sums) {
            means.push(of_sets(sum));
        }
    }
    std::array::from_fn(|column| {
        let of_set = |rows: &Vec<[f64; N]>| {
            rows.iter().map(|row| row[column]).sum::<f64>() / rows.len() as f64
        };
        interval(of_sets(sets.iter().map(of_set).sum()), &mut means[column])
    })
}

fn interval(mean: f64, resampled: &mut [f64]) -> Estimate {
    resampled.sort_by(f64::total_cmp);
    Estimate { mean, ci_low: quantile(resampled, 0.025), ci_high: quantile(resampled, 0.975) }
}

fn quantile(sorted: &[f64], p: f64) -> f64 {
    let position = p * (sorted.len() - 1) as f64;
    let (low, high) = (sorted[position.floor() as usize], sorted[position.ceil() as usize]);
    low + (high - low) * position.fract()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn quantiles_interpolate() {
        // numpy.quantile([0, 1, 2, 3, 10], p)
        for (p, expected) in [(0.0, 0.0), (0.25, 1.0), (0.3, 1.2), (0.975, 9.3), (1.0, 10.0)] {
            let actual = quantile(&[0.0, 1.0, 2.0, 3.0, 10.0], p);
            assert!((actual - expected).abs() < 1e-12, "{p}: {actual}");
        }
    }

    #[test]
    fn intervals_agree_with_the_normal_approximation() {
        // 400 questions, 30 % right: standard error sqrt(0.3 * 0.7 / 400) = 0.0229.
        let rows: Vec<[f64; 1]> = (0..400).map(|it| [f64::from(u8::from(it < 120))]).collect();
        let [estimate] = bootstrap(&rows, StreamKey::new(7));
        assert!((estimate.mean - 0.3).abs() < 1e-12);
        assert!((estimate.ci_low - (0.3 - 1.96 * 0.0229)).abs() < 0.005, "{estimate:?}");
        assert!((estimate.ci_high - (0.3 + 1.96 * 0.0229)).abs() < 0.005, "{estimate:?}");
        assert_eq!([estimate], bootstrap(&rows, StreamKey::new(7)));
        assert_ne!([estimate], bootstrap(&rows, StreamKey::new(8)));
    }

    #[test]
    fn sets_weigh_the_same() {
        // 100 questions at 0.5 and 400 at 0.1: standard error sqrt(0.25 / 100 + 0.09 / 400) / 2.
        let set = |n: usize, right: usize| -> Vec<[f64; 1]> {
            (0..n).map(|it| [f64::from(u8::from(it < right))]).collect()
        };
        let [estimate] = bootstrap_average(&[set(100, 50), set(400, 40)], StreamKey::new(7));
        let error = 1.96 * (0.25_f64 / 100.0 + 0.09 / 400.0).sqrt() / 2.0;
        assert!((estimate.mean - 0.3).abs() < 1e-12);
        assert!((estimate.ci_low - (0.3 - error)).abs() < 0.006, "{estimate:?}");
        assert!((estimate.ci_high - (0.3 + error)).abs() < 0.006, "{estimate:?}");
    }

    #[test]
    fn one_question_has_no_spread() {
        let [estimate] = bootstrap(&[[0.25]], StreamKey::new(0));
        assert_eq!(estimate, Estimate { mean: 0.25, ci_low: 0.25, ci_high: 0.25 });
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(16))]
        #[test]
        fn intervals_hold_the_mean(
            values in proptest::collection::vec(0.0..=1.0_f64, 1..30), seed in 0_u64..1000,
        ) {
            let rows: Vec<[f64; 1]> = values.iter().map(|&it| [it]).collect();
            let [estimate] = bootstrap(&rows, StreamKey::new(seed));
            let (low, high) = values.iter().fold((1.0_f64, 0.0_f64), |(low, high), &it| (low.min(it), high.max(it)));
            prop_assert!(estimate.ci_low <= estimate.mean + 1e-9);
            prop_assert!(estimate.mean <= estimate.ci_high + 1e-9);
            prop_assert!(low - 1e-9 <= estimate.ci_low && estimate.ci_high <= high + 1e-9);
        }
    }
}
