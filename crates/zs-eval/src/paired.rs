//! Paired comparison of two runs on the same questions: mean difference, interval, p value.

use std::collections::BTreeMap;

use rand::RngExt;
use serde::{Deserialize, Serialize};
use zs_core::{Domain, StreamKey};

use crate::bootstrap::bootstrap;
use crate::report::mean_of;
use crate::{Estimate, Metric, QuestionRecord, ReportError};

/// Number of sign flips that a permutation test draws.
pub const NUM_PERMUTATIONS: usize = 10_000;

/// Comparison of two runs on one metric.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PairedTest {
    /// Questions that both runs have.
    pub n: usize,
    /// The mean of `after - before` with its 95 % bootstrap interval.
    pub difference: Estimate,
    /// Two-sided p value of the permutation test.
    pub permutation_p: f64,
    /// `McNemar`'s test, when every value is 0 or 1.
    pub mcnemar: Option<McNemar>,
}

/// `McNemar`'s exact test on the questions that exactly one run gets right.
///
/// ```text
/// p = min(1, 2 * sum_{i <= min(b, c)} C(b + c, i) / 2^(b + c))
/// ```
///
/// - `b`, `c`: questions that only the first, only the second run gets right
///
/// # References
///
/// - McNemar (1947), *Note on the sampling error of the difference between correlated proportions*;
///   the exact binomial form
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct McNemar {
    /// Questions that only the first run gets right.
    pub only_before: usize,
    /// Questions that only the second run gets right.
    pub only_after: usize,
    /// Two-sided p value.
    pub p: f64,
}

impl McNemar {
    /// Computes the test for two counts.
    #[must_use]
    pub fn new(only_before: usize, only_after: usize) -> Self {
        let n = only_before + only_after;
        // ln C(n, 0) - n ln 2, and from one term to the next by the ratio of coefficients.
        let mut log_term = -(n as f64) * std::f64::consts::LN_2;
        let mut sum = 0.0;
        for i in 0..=only_before.min(only_after) {
            sum += log_term.exp();
            log_term += ((n - i) as f64 / (i + 1) as f64).ln();
        }
        Self { only_before, only_after, p: (2.0 * sum).min(1.0) }
    }
}

/// Compares two runs question by question.
///
/// Differences cancel the difficulty of a question. The interval is the bootstrap of
/// [`paired_difference`]. The p value is that of a sign-flip permutation test: if the runs are equally
/// good, each difference is as likely to have the other sign.
///
/// ```text
/// d_j = after_j - before_j,  T = |sum_j d_j|
/// p = (1 + #{r : |sum_j s_rj d_j| >= T}) / (1 + R),  s_rj = -1 or 1 with equal probability
/// ```
///
/// - `R`: 10,000 draws; several episodes of a question are averaged first
///
/// # Errors
///
/// As [`paired_difference`].
///
/// # References
///
/// - Phipson and Smyth (2010), *Permutation p-values should never be zero*: the added ones
pub fn paired_test(
    before: &[QuestionRecord],
    after: &[QuestionRecord],
    metric: Metric,
    seed: u64,
) -> Result<PairedTest, ReportError> {
    Ok(test_of(&pairs(before, after, metric)?, seed))
}

/// Test of pairs of values, at least one.
pub(crate) fn test_of(pairs: &[(f64, f64)], seed: u64) -> PairedTest {
    let differences: Vec<f64> = pairs.iter().map(|(before, after)| after - before).collect();
    let is_binary = |it: f64| it == 0.0 || it == 1.0;
    let mcnemar =
        pairs.iter().all(|&(before, after)| is_binary(before) && is_binary(after)).then(|| {
            let only = |sign: f64| differences.iter().filter(|&&it| it == sign).count();
            McNemar::new(only(-1.0), only(1.0))
        });
    PairedTest {
        n: pairs.len(),
        difference: difference(&differences, seed),
        permutation_p: permutation_p(&differences, seed),
        mcnemar,
    }
}

/// Returns the mean of `after - before` over the same questions, with its 95 % interval.
///
/// Questions are resampled in pairs, which cancels their difficulty; an interval above 0 means that
/// `after` is better on such questions.
///
/// # Errors
///
/// Fails when there are no records, an id occurs twice, or one list has a question that the other
/// lacks. The order of the lists does not matter.
///
/// ```
/// use zs_eval::{Metric, QuestionRecord, paired_difference};
///
/// let record =
///     |id: &str, f1: f64| QuestionRecord { id: id.to_owned(), f1, ..QuestionRecord::default() };
/// let before = [record("a", 0.0), record("b", 0.5)];
/// let after = [record("b", 1.0), record("a", 0.5)];
/// let difference = paired_difference(&before, &after, Metric::F1, 42)?;
/// assert_eq!(difference.mean, 0.5);
/// assert_eq!(difference.ci_low, 0.5);
/// # Ok::<(), zs_eval::ReportError>(())
/// ```
pub fn paired_difference(
    before: &[QuestionRecord],
    after: &[QuestionRecord],
    metric: Metric,
    seed: u64,
) -> Result<Estimate, ReportError> {
    let pairs = pairs(before, after, metric)?;
    let differences: Vec<f64> = pairs.iter().map(|(before, after)| after - before).collect();
    Ok(difference(&differences, seed))
}

fn difference(differences: &[f64], seed: u64) -> Estimate {
    let rows: Vec<[f64; 1]> = differences.iter().map(|&it| [it]).collect();
    let [estimate] = bootstrap(&rows, StreamKey::new(seed));
    estimate
}

fn permutation_p(differences: &[f64], seed: u64) -> f64 {
    // A difference of 0 has no sign to flip.
    let differences: Vec<f64> = differences.iter().copied().filter(|&it| it != 0.0).collect();
    let observed = differences.iter().sum::<f64>().abs();
    // Sums with other signs may differ in their last bits.
    let threshold = observed - 1e-9 * (1.0 + observed);
    let mut rng = StreamKey { turn: 1, ..StreamKey::new(seed) }.rng(Domain::Bootstrap);
    let mut as_large = 0_usize;
    for _ in 0..NUM_PERMUTATIONS {
        let mut sum = 0.0;
        for chunk in differences.chunks(64) {
            let signs: u64 = rng.random();
            for (bit, difference) in chunk.iter().enumerate() {
                sum += if signs >> bit & 1 == 1 { *difference } else { -difference };
            }
        }
        as_large += usize::from(sum.abs() >= threshold);
    }
    (1 + as_large) as f64 / (1 + NUM_PERMUTATIONS) as f64
}

/// Returns the metric of both runs for each question, in the order of the ids.
fn pairs(
    before: &[QuestionRecord],
    after: &[QuestionRecord],
    metric: Metric,
) -> Result<Vec<(f64, f64)>, ReportError> {
    let before = by_id(before, metric)?;
    let after = by_id(after, metric)?;
    if let Some(id) = before.keys().find(|id| !after.contains_key(*id)) {
        return Err(ReportError::Unpaired { id: (*id).to_owned() });
    }
    if let Some(id) = after.keys().find(|id| !before.contains_key(*id)) {
        return Err(ReportError::Unpaired { id: (*id).to_owned() });
    }
    if before.is_empty() {
        return Err(ReportError::NoRecords);
    }
    // Both maps hold the same ids in the same order.
    Ok(before.into_values().zip(after.into_values()).collect())
}

fn by_id(records: &[QuestionRecord], metric: Metric) -> Result<BTreeMap<&str, f64>, ReportError> {
    let mut samples: BTreeMap<&str, Vec<&QuestionRecord>> = BTreeMap::new();
    for record in records {
        let samples = samples.entry(record.id.as_str()).or_default();
        if samples.iter().any(|it| it.sample == record.sample) {
            return Err(ReportError::DuplicateId { id: record.id.clone() });
        }
        samples.push(record);
    }
    Ok(samples.into_iter().map(|(id, samples)| (id, mean_of(metric, &samples))).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(id: &str, right: bool) -> QuestionRecord {
        let f1 = if right { 1.0 } else { 0.0 };
        QuestionRecord { id: id.to_owned(), exact_match: right, f1, ..QuestionRecord::default() }
    }

    #[test]
    fn pairs_are_narrower_than_their_parts() {
        // Both policies know the first 50 of 100 questions; the second also knows the last 5.
        let id = |index: usize| format!("q{index:03}");
        let before: Vec<_> = (0..100).map(|it| record(&id(it), it < 50)).collect();
        let after: Vec<_> = (0..100).map(|it| record(&id(it), !(50..95).contains(&it))).collect();
        let difference = paired_difference(&before, &after, Metric::ExactMatch, 1).unwrap();
        assert!((difference.mean - 0.05).abs() < 1e-12);
        assert!(difference.ci_low > 0.0 && difference.ci_high < 0.12, "{difference:?}");
    }

    #[track_caller]
    fn check_refuses(before: &[&str], after: &[&str], expected: &ReportError) {
        let records = |ids: &[&str]| -> Vec<_> { ids.iter().map(|id| record(id, true)).collect() };
        let error = paired_difference(&records(before), &records(after), Metric::F1, 0);
        assert_eq!(error.unwrap_err(), *expected);
    }

    #[test]
    fn only_the_same_questions_compare() {
        check_refuses(&["a", "b"], &["a"], &ReportError::Unpaired { id: "b".into() });
        check_refuses(&["a"], &["b", "a"], &ReportError::Unpaired { id: "b".into() });
        check_refuses(&["a", "a"], &["a"], &ReportError::DuplicateId { id: "a".into() });
    }

    #[test]
    fn nothing_is_refused() {
        assert_eq!(paired_difference(&[], &[], Metric::F1, 0), Err(ReportError::NoRecords));
    }

    #[test]
    fn mcnemar_by_hand() {
        // 1 against 5: 2 (1 + 6) / 64. 0 against 5: 2 / 32. 3 against 3: 1. The others by Python's
        // `math.comb`.
        for (before, after, p) in
            [(1, 5, 0.218_75), (0, 5, 0.0625), (3, 3, 1.0), (0, 0, 1.0), (10, 25, 0.016_674)]
        {
            let test = McNemar::new(before, after);
            assert!((test.p - p).abs() < 1e-5, "{before} {after}: {}", test.p);
            assert_eq!(McNemar::new(after, before).p, test.p);
        }
        // 2^-4000 underflows; the logarithm does not.
        let large = McNemar::new(1900, 2100).p;
        assert!((large - 0.001_649).abs() < 1e-6, "{large}");
    }

    #[test]
    fn permutations_agree_with_the_exact_test() {
        // 1 only before, 5 only after of 20: all 64 signs give |sum| >= 4 in 2 (1 + 6) of 64 cases.
        let id = |index: usize| format!("q{index:02}");
        let before: Vec<_> = (0..20).map(|it| record(&id(it), it < 10)).collect();
        let after: Vec<_> = (0..20).map(|it| record(&id(it), (1..15).contains(&it))).collect();
        let test = paired_test(&before, &after, Metric::ExactMatch, 3).unwrap();
        assert_eq!(test.n, 20);
        assert!((test.difference.mean - 0.2).abs() < 1e-12);
        assert_eq!(test.mcnemar, Some(McNemar::new(1, 5)));
        assert!((test.permutation_p - 0.218_75).abs() < 0.015, "{}", test.permutation_p);
        assert_eq!(test, paired_test(&before, &after, Metric::ExactMatch, 3).unwrap());
        let same = paired_test(&before, &before, Metric::F1, 3).unwrap();
        assert_eq!(same.permutation_p, 1.0);
    }

    #[test]
    fn episodes_of_a_question_are_averaged_before_they_are_compared() {
        let sampled = |sample, right| QuestionRecord { sample, ..record("a", right) };
        let before = [sampled(0, true), sampled(1, false)];
        let after = [sampled(0, true), sampled(1, true)];
        let test = paired_test(&before, &after, Metric::ExactMatch, 0).unwrap();
        assert_eq!((test.n, test.difference.mean, test.mcnemar), (1, 0.5, None));
    }
}
