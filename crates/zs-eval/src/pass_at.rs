//! Probability that one of several episodes is right.

use std::collections::BTreeMap;

use zs_core::StreamKey;

use crate::Estimate;
use crate::bootstrap::bootstrap;
use crate::metrics::Samples;

/// Computes pass@k for k = 1, 2, 4 … and for the number of episodes that every question has. The result
/// is empty when a question has one episode.
pub(crate) fn pass_at(questions: &[Samples<'_>], key: StreamKey) -> BTreeMap<u32, Estimate> {
    let fewest = questions.iter().map(Vec::len).min().unwrap_or(0);
    if fewest < 2 {
        return BTreeMap::new();
    }
    let powers = (0..).map(|it| 1_usize << it).take_while(|&it| it < fewest);
    let estimate = |k: usize| {
        let rows: Vec<[f64; 1]> = questions
            .iter()
            .map(|samples| {
                let right = samples.iter().filter(|it| it.exact_match).count();
                [unbiased_pass_at(k, samples.len(), right)]
            })
            .collect();
        let [estimate] = bootstrap(&rows, key);
        estimate
    };
    let ks = powers.chain(std::iter::once(fewest));
    ks.map(|k| (u32::try_from(k).unwrap_or(u32::MAX), estimate(k))).collect()
}

/// Probability that at least one of `k` episodes drawn from `n` is right, of which `c` are.
///
/// ```text
/// pass@k = 1 - C(n - c, k) / C(n, k) = 1 - prod_{i = n-c+1}^{n} (1 - k / i)
/// ```
///
/// # References
///
/// - Chen et al. (2021), *Evaluating Large Language Models Trained on Code*, equation 1 and figure 3
fn unbiased_pass_at(k: usize, n: usize, c: usize) -> f64 {
    if n - c < k {
        return 1.0;
    }
    1.0 - (n - c + 1..=n).map(|it| 1.0 - k as f64 / it as f64).product::<f64>()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn estimates_by_hand() {
        // 1 - C(3, 2) / C(5, 2) = 1 - 3 / 10; 1 - C(3, 1) / C(4, 1) = 1 / 4.
        for (k, n, c, expected) in
            [(2, 5, 2, 0.7), (1, 4, 1, 0.25), (2, 4, 0, 0.0), (3, 4, 2, 1.0), (4, 4, 4, 1.0)]
        {
            let actual = unbiased_pass_at(k, n, c);
            assert!((actual - expected).abs() < 1e-12, "{k} {n} {c}: {actual}");
        }
    }
}
