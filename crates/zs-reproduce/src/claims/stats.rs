//! Differences over seeds: mean, t interval and p value.

use serde::{Deserialize, Serialize};
use statrs::distribution::{ContinuousCDF, StudentsT};

/// Share of intervals that hold the true mean, under normal differences.
pub const CONFIDENCE: f64 = 0.95;

/// The mean of some numbers, one a seed, with its interval.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SeedMean {
    /// Number of seeds.
    pub n: usize,
    /// Their mean.
    pub mean: f64,
    /// Their standard deviation; none for a single seed.
    pub sd: Option<f64>,
    /// The ends of the interval; none for a single seed, unless it is one over questions.
    pub interval: Option<[f64; 2]>,
    /// Two-sided p value of a mean of zero; none for a single seed.
    pub p: Option<f64>,
}

/// Student's t interval of a mean, and the test against zero.
///
/// ```text
/// s^2      = 1/(n - 1) sum_i (x_i - mean)^2
/// interval = mean -+ t(0.975, n - 1) s / sqrt(n)
/// p        = 2 P(T_{n-1} > |mean| sqrt(n) / s)
/// ```
///
/// - `x_i`: the number of seed `i`; for two arms, the difference of their numbers of the same seed,
///   so that what a seed makes easy for both cancels
/// - `t(q, k)`: the `q` quantile of Student's distribution with `k` degrees of freedom
///
/// `None` without numbers. Where all numbers are equal, the interval has no width and `p` is 0, or 1
/// if they are zero.
///
/// # References
///
/// - Student (1908), *The probable error of a mean*
///
/// ```
/// use zs_reproduce::claims::seed_mean;
///
/// // Student's own table of sleep gained: t = 4.0621 with 9 degrees of freedom, p = 0.002833.
/// let gained = [1.2, 2.4, 1.3, 1.3, 0.0, 1.0, 1.8, 0.8, 4.6, 1.4];
/// let mean = seed_mean(&gained).unwrap();
/// assert!((mean.p.unwrap() - 0.002833).abs() < 1e-6);
/// let [low, high] = mean.interval.unwrap();
/// assert!((low - 0.7001).abs() < 1e-4 && (high - 2.4599).abs() < 1e-4);
/// ```
#[must_use]
pub fn seed_mean(values: &[f64]) -> Option<SeedMean> {
    let n = values.len();
    if n == 0 {
        return None;
    }
    let mean = values.iter().sum::<f64>() / n as f64;
    let single = SeedMean { n, mean, sd: None, interval: None, p: None };
    let Some(t) = (n > 1).then(|| StudentsT::new(0.0, 1.0, (n - 1) as f64).ok()).flatten() else {
        return Some(single);
    };
    let variance = values.iter().map(|it| (it - mean).powi(2)).sum::<f64>() / (n - 1) as f64;
    let error = (variance / n as f64).sqrt();
    let half = t.inverse_cdf(0.5 + CONFIDENCE / 2.0) * error;
    let p = match (error > 0.0, mean == 0.0) {
        (true, _) => 2.0 * t.sf(mean.abs() / error),
        (false, true) => 1.0,
        (false, false) => 0.0,
    };
    let interval = Some([mean - half, mean + half]);
    Some(SeedMean { sd: Some(variance.sqrt()), interval, p: Some(p), ..single })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(values: &[f64], mean: f64, interval: Option<[f64; 2]>, p: Option<f64>) {
        let found = seed_mean(values).unwrap();
        let close = |a: f64, b: f64| (a - b).abs() < 1e-4;
        assert!(close(found.mean, mean), "{found:?}");
        assert_eq!(found.interval.is_some(), interval.is_some());
        for (a, b) in found.interval.into_iter().flatten().zip(interval.into_iter().flatten()) {
            assert!(close(a, b), "{found:?}");
        }
        assert_eq!(found.p.is_some(), p.is_some());
        assert!(close(found.p.unwrap_or(0.0), p.unwrap_or(0.0)), "{found:?}");
    }

    #[test]
    fn by_hand() {
        // Two numbers: t has one degree of freedom and is Cauchy; t(0.975) = 12.7062.
        check(&[0.0, 2.0], 1.0, Some([1.0 - 12.7062, 1.0 + 12.7062]), Some(0.5));
        // Five: s^2 = 2.5, error = sqrt(0.5), t(0.975, 4) = 2.7764, t = 3 / 0.7071, p by R.
        let half = 2.7764 * 0.5_f64.sqrt();
        check(&[1.0, 2.0, 3.0, 4.0, 5.0], 3.0, Some([3.0 - half, 3.0 + half]), Some(0.013_236));
        check(&[0.5, 0.5], 0.5, Some([0.5, 0.5]), Some(0.0));
        check(&[0.0, 0.0], 0.0, Some([0.0, 0.0]), Some(1.0));
        check(&[0.5], 0.5, None, None);
        assert_eq!(seed_mean(&[]), None);
    }
}
