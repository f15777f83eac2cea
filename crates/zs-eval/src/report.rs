//! From records to a report: overall, by hops, and the difference of two policies.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use zs_core::StreamKey;

use crate::bootstrap::bootstrap;
use crate::{Estimate, Metric, QuestionRecord};

/// An evaluation in numbers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EvaluationReport {
    /// Over all questions.
    pub overall: Summary,
    /// Over the questions of each hop count; questions without one are in `overall` only.
    pub by_hops: BTreeMap<u8, Summary>,
}

/// Means over some questions, each with its 95 % bootstrap interval.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Summary {
    /// Questions.
    pub n: usize,
    /// Normalised answers that equal a golden answer.
    pub exact_match: Estimate,
    /// Normalised answers that contain a golden answer.
    pub cover_exact_match: Estimate,
    /// Word-overlap F1.
    pub f1: Estimate,
    /// Searches a question.
    pub num_searches: Estimate,
    /// Episodes that ended with an answer.
    pub answered: Estimate,
}

/// Why records cannot be summed up or compared.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReportError {
    /// There is nothing to average.
    #[error("there are no records to report on")]
    NoRecords,
    /// An id occurs twice in one list.
    #[error("id `{id}` occurs twice in one list of records")]
    DuplicateId {
        /// The id.
        id: String,
    },
    /// The lists are about different questions.
    #[error("id `{id}` is in one list of records only; compare runs on the same questions")]
    Unpaired {
        /// The id.
        id: String,
    },
}

impl EvaluationReport {
    /// Sums up some records. The same records and seed give the same report.
    ///
    /// # Errors
    ///
    /// Fails when there are none.
    pub fn new(records: &[QuestionRecord], seed: u64) -> Result<Self, ReportError> {
        let mut by_hops: BTreeMap<u8, Vec<&QuestionRecord>> = BTreeMap::new();
        for record in records {
            if let Some(hops) = record.hops {
                by_hops.entry(hops).or_default().push(record);
            }
        }
        let key = StreamKey::new(seed);
        Ok(Self {
            overall: summarize(&records.iter().collect::<Vec<_>>(), key)?,
            by_hops: by_hops
                .into_iter()
                .map(|(hops, records)| {
                    let key = StreamKey { group: u32::from(hops), ..key };
                    summarize(&records, key).map(|summary| (hops, summary))
                })
                .collect::<Result<_, _>>()?,
        })
    }
}

fn summarize(records: &[&QuestionRecord], key: StreamKey) -> Result<Summary, ReportError> {
    use Metric::{Answered, CoverExactMatch, ExactMatch, F1, NumSearches};
    if records.is_empty() {
        return Err(ReportError::NoRecords);
    }
    let metrics = [ExactMatch, CoverExactMatch, F1, NumSearches, Answered];
    let rows: Vec<[f64; 5]> =
        records.iter().map(|record| metrics.map(|metric| metric.of(record))).collect();
    let [exact_match, cover_exact_match, f1, num_searches, answered] = bootstrap(&rows, key);
    Ok(Summary { n: records.len(), exact_match, cover_exact_match, f1, num_searches, answered })
}

/// The mean of `after - before` over the same questions, with its 95 % interval.
///
/// Questions are resampled in pairs, so what both policies find easy cancels out; an interval above
/// 0 means that `after` is better on such questions.
///
/// # Errors
///
/// Fails when there are no records, an id occurs twice, or one list has a question that the other
/// lacks. The order of the lists does not matter.
///
/// ```
/// use zs_eval::{Metric, QuestionRecord, paired_difference};
///
/// let record = |id: &str, f1: f64| QuestionRecord {
///     id: id.to_owned(),
///     hops: None,
///     prediction: Some("x".to_owned()),
///     exact_match: f1 == 1.0,
///     cover_exact_match: f1 == 1.0,
///     f1,
///     num_searches: 1,
///     num_search_errors: 0,
///     num_turns: 2,
///     truncated: false,
/// };
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
    let rows: Vec<[f64; 1]> =
        before.values().zip(after.values()).map(|(before, after)| [after - before]).collect();
    let [estimate] = bootstrap(&rows, StreamKey::new(seed));
    Ok(estimate)
}

fn by_id(records: &[QuestionRecord], metric: Metric) -> Result<BTreeMap<&str, f64>, ReportError> {
    let mut values = BTreeMap::new();
    for record in records {
        if values.insert(record.id.as_str(), metric.of(record)).is_some() {
            return Err(ReportError::DuplicateId { id: record.id.clone() });
        }
    }
    Ok(values)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(id: &str, hops: Option<u8>, right: bool) -> QuestionRecord {
        QuestionRecord {
            id: id.to_owned(),
            hops,
            prediction: right.then(|| "x".to_owned()),
            exact_match: right,
            cover_exact_match: right,
            f1: if right { 1.0 } else { 0.0 },
            num_searches: usize::from(hops.unwrap_or(0)),
            num_search_errors: 0,
            num_turns: 1,
            truncated: false,
        }
    }

    #[test]
    fn breaks_down_by_hops() {
        let records = [
            record("a", Some(1), true),
            record("b", Some(1), true),
            record("c", Some(2), false),
            record("d", None, false),
        ];
        let report = EvaluationReport::new(&records, 3).unwrap();
        assert_eq!(report.overall.n, 4);
        assert_eq!(report.overall.exact_match.mean, 0.5);
        assert_eq!(report.overall.answered.mean, 0.5);
        assert_eq!(report.overall.num_searches.mean, 1.0);
        assert_eq!(report.by_hops.keys().copied().collect::<Vec<_>>(), [1, 2]);
        assert_eq!(report.by_hops[&1].f1, Estimate { mean: 1.0, ci_low: 1.0, ci_high: 1.0 });
        assert_eq!(report.by_hops[&2].n, 1);
        assert_eq!(report, EvaluationReport::new(&records, 3).unwrap());
        let json = serde_json::to_string(&report).unwrap();
        assert_eq!(serde_json::from_str::<EvaluationReport>(&json).unwrap(), report);
    }

    #[test]
    fn nothing_is_refused() {
        assert_eq!(EvaluationReport::new(&[], 0), Err(ReportError::NoRecords));
        assert_eq!(paired_difference(&[], &[], Metric::F1, 0), Err(ReportError::NoRecords));
    }

    #[test]
    fn pairs_are_narrower_than_their_parts() {
        // Both policies know the first 50 of 100 questions; the second also knows the last 5.
        let id = |index: usize| format!("q{index:03}");
        let before: Vec<_> = (0..100).map(|it| record(&id(it), None, it < 50)).collect();
        let after: Vec<_> =
            (0..100).map(|it| record(&id(it), None, !(50..95).contains(&it))).collect();
        let difference = paired_difference(&before, &after, Metric::ExactMatch, 1).unwrap();
        assert!((difference.mean - 0.05).abs() < 1e-12);
        assert!(difference.ci_low > 0.0 && difference.ci_high < 0.12, "{difference:?}");
    }

    #[track_caller]
    fn check_refuses(before: &[&str], after: &[&str], expected: &ReportError) {
        let records =
            |ids: &[&str]| -> Vec<_> { ids.iter().map(|id| record(id, None, true)).collect() };
        let error = paired_difference(&records(before), &records(after), Metric::F1, 0);
        assert_eq!(error.unwrap_err(), *expected);
    }

    #[test]
    fn only_the_same_questions_compare() {
        check_refuses(&["a", "b"], &["a"], &ReportError::Unpaired { id: "b".into() });
        check_refuses(&["a"], &["b", "a"], &ReportError::Unpaired { id: "b".into() });
        check_refuses(&["a", "a"], &["a"], &ReportError::DuplicateId { id: "a".into() });
    }
}
