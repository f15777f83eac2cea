//! Report over records: overall, and by set, hops and type of question.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use zs_core::StreamKey;

use crate::bootstrap::{bootstrap, bootstrap_average};
use crate::metrics::Samples;
use crate::pass_at::pass_at;
use crate::{Estimate, Metric, QuestionRecord};

/// Scores of an evaluation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EvaluationReport {
    /// Over all questions.
    pub overall: Summary,
    /// Over the questions of each hop count; questions without one are in `overall` only.
    pub by_hops: BTreeMap<u8, Summary>,
    /// Over the questions of each set, when questions name theirs.
    #[serde(default)]
    pub by_set: BTreeMap<String, Summary>,
    /// Over the questions of each type, when questions name theirs.
    #[serde(default)]
    pub by_type: BTreeMap<String, Summary>,
    /// Unweighted mean over sets, when there are at least two.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub average: Option<SetAverage>,
    /// Probability that at least one of `k` episodes of a question is an exact match, when several were
    /// played.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub pass_at: BTreeMap<u32, Estimate>,
}

/// Means over some questions, each with its 95 % bootstrap interval.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Summary {
    /// Number of questions.
    pub n: usize,
    /// Exact match as the protocol defines it.
    pub exact_match: Estimate,
    /// Normalised answers that contain a golden answer.
    pub cover_exact_match: Estimate,
    /// Word-overlap F1.
    pub f1: Estimate,
    /// Searches per question.
    pub num_searches: Estimate,
    /// Episodes that ended with an answer.
    pub answered: Estimate,
    /// Fraction of the answer's words that are right.
    #[serde(default)]
    pub precision: Estimate,
    /// Fraction of the golden answer's words that the answer has.
    #[serde(default)]
    pub recall: Estimate,
    /// F1, 0 unless verdicts are equal.
    #[serde(default)]
    pub f1_yes_no: Estimate,
    /// Precision with the same rule.
    #[serde(default)]
    pub precision_yes_no: Estimate,
    /// Recall with the same rule.
    #[serde(default)]
    pub recall_yes_no: Estimate,
    /// Episodes in the requested format from the first turn to the answer.
    #[serde(default)]
    pub answer_format: Estimate,
    /// Tokens that the policy model sampled, per question.
    #[serde(default)]
    pub num_tokens: Estimate,
    /// Fraction of an episode's search attempts that were executed without failure, over episodes with
    /// an attempt.
    #[serde(default)]
    pub valid_search: Option<Estimate>,
    /// Fraction of an episode's turns without a valid action, over episodes with a turn.
    #[serde(default)]
    pub invalid_action: Option<Estimate>,
    /// Fraction of golden titles retrieved, over questions that have some.
    #[serde(default)]
    pub retrieval_recall: Option<Estimate>,
    /// Fraction of an episode's searches that mattered, over episodes with a search whose documents were
    /// replaced.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub searches_mattered: Option<Estimate>,
}

/// Unweighted mean over sets.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SetAverage {
    /// Number of questions of each set.
    pub sets: BTreeMap<String, usize>,
    /// Mean over sets of exact match.
    pub exact_match: Estimate,
    /// Mean over sets of F1.
    pub f1: Estimate,
}

/// Failure to summarise or compare records.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReportError {
    /// There are no records.
    #[error("there are no records to report on")]
    NoRecords,
    /// An id occurs twice in one list.
    #[error("id `{id}` occurs twice in one list of records")]
    DuplicateId {
        /// The id.
        id: String,
    },
    /// The lists have different questions.
    #[error("id `{id}` is in only one list of records; compare runs on the same questions")]
    Unpaired {
        /// The id.
        id: String,
    },
}

impl EvaluationReport {
    /// Summarises records. The same records and seed give the same report.
    ///
    /// The records of a question that was played several times (`sample` above 0) are averaged first,
    /// so that `n` and the intervals refer to questions.
    ///
    /// # Errors
    ///
    /// Fails when there are none.
    pub fn new(records: &[QuestionRecord], seed: u64) -> Result<Self, ReportError> {
        let questions = by_question(records);
        let key = StreamKey::new(seed);
        let by_set = breakdown(&questions, key, 1, |it| it.data_source.clone())?;
        let average = (by_set.len() > 1).then(|| set_average(&questions, key));
        Ok(Self {
            overall: summarize(&questions, key)?,
            by_hops: group(&questions, |it| it.hops)
                .into_iter()
                .map(|(hops, questions)| {
                    let key = StreamKey { group: u32::from(hops), ..key };
                    summarize(&questions, key).map(|summary| (hops, summary))
                })
                .collect::<Result<_, _>>()?,
            by_set,
            by_type: breakdown(&questions, key, 2, |it| it.question_type.clone())?,
            average,
            pass_at: pass_at(&questions, key),
        })
    }
}

/// Groups records by question, in the order of the first record of each. Every record is a group of its
/// own when no question was played several times.
fn by_question(records: &[QuestionRecord]) -> Vec<Samples<'_>> {
    if records.iter().all(|it| it.sample == 0) {
        return records.iter().map(|it| vec![it]).collect();
    }
    let mut places = BTreeMap::new();
    let mut questions: Vec<Samples<'_>> = Vec::new();
    for record in records {
        let next = questions.len();
        let place = *places.entry((&record.data_source, &record.id)).or_insert(next);
        if place == next {
            questions.push(Vec::new());
        }
        questions[place].push(record);
    }
    questions
}

fn group<'a, K: Ord>(
    questions: &[Samples<'a>],
    label: impl Fn(&QuestionRecord) -> Option<K>,
) -> BTreeMap<K, Vec<Samples<'a>>> {
    let mut groups: BTreeMap<K, Vec<Samples<'a>>> = BTreeMap::new();
    for samples in questions {
        if let Some(label) = samples.first().and_then(|it| label(it)) {
            groups.entry(label).or_default().push(samples.clone());
        }
    }
    groups
}

fn breakdown(
    questions: &[Samples<'_>],
    key: StreamKey,
    kind: u32,
    label: impl Fn(&QuestionRecord) -> Option<String>,
) -> Result<BTreeMap<String, Summary>, ReportError> {
    (0..)
        .zip(group(questions, label))
        .map(|(index, (label, questions))| {
            let key = StreamKey { group: index, sample: kind, ..key };
            summarize(&questions, key).map(|summary| (label, summary))
        })
        .collect()
}

/// Mean of a metric over the episodes of a question.
pub(crate) fn mean_of(metric: Metric, samples: &[&QuestionRecord]) -> f64 {
    samples.iter().map(|it| metric.of(it)).sum::<f64>() / samples.len() as f64
}

fn summarize(questions: &[Samples<'_>], key: StreamKey) -> Result<Summary, ReportError> {
    use Metric as M;
    if questions.is_empty() {
        return Err(ReportError::NoRecords);
    }
    let metrics = [
        M::ExactMatch,
        M::CoverExactMatch,
        M::F1,
        M::NumSearches,
        M::Answered,
        M::Precision,
        M::Recall,
        M::F1YesNo,
        M::PrecisionYesNo,
        M::RecallYesNo,
        M::WellFormed,
        M::NumTokens,
    ];
    let rows: Vec<[f64; 12]> =
        questions.iter().map(|it| metrics.map(|metric| mean_of(metric, it))).collect();
    let [
        exact_match,
        cover_exact_match,
        f1,
        num_searches,
        answered,
        precision,
        recall,
        f1_yes_no,
        precision_yes_no,
        recall_yes_no,
        answer_format,
        num_tokens,
    ] = bootstrap(&rows, key);
    let share = |share: fn(&QuestionRecord) -> Option<f64>| {
        let rows: Vec<[f64; 1]> = questions
            .iter()
            .filter_map(|samples| {
                let shares: Vec<f64> = samples.iter().filter_map(|it| share(it)).collect();
                (!shares.is_empty()).then(|| [shares.iter().sum::<f64>() / shares.len() as f64])
            })
            .collect();
        (!rows.is_empty()).then(|| bootstrap(&rows, key)[0])
    };
    Ok(Summary {
        n: questions.len(),
        exact_match,
        cover_exact_match,
        f1,
        num_searches,
        answered,
        precision,
        recall,
        f1_yes_no,
        precision_yes_no,
        recall_yes_no,
        answer_format,
        num_tokens,
        valid_search: share(|it| {
            let valid = it.num_searches.saturating_sub(it.num_search_errors);
            ratio(valid, it.num_search_attempts)
        }),
        invalid_action: share(|it| ratio(it.num_invalid, it.num_turns)),
        retrieval_recall: share(|it| it.retrieval_recall),
        searches_mattered: share(|it| ratio(it.num_searches_mattered, it.num_searches_valued)),
    })
}

fn ratio(count: usize, of: usize) -> Option<f64> {
    (of > 0).then(|| count as f64 / of as f64)
}

fn set_average(questions: &[Samples<'_>], key: StreamKey) -> SetAverage {
    let sets = group(questions, |it| it.data_source.clone());
    let rows: Vec<Vec<[f64; 2]>> = sets
        .values()
        .map(|questions| {
            let metrics = [Metric::ExactMatch, Metric::F1];
            questions.iter().map(|it| metrics.map(|metric| mean_of(metric, it))).collect()
        })
        .collect();
    let [exact_match, f1] = bootstrap_average(&rows, StreamKey { sample: 3, ..key });
    SetAverage {
        sets: sets.into_iter().map(|(name, questions)| (name, questions.len())).collect(),
        exact_match,
        f1,
    }
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
            num_turns: 1,
            ..QuestionRecord::default()
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
    }

    #[test]
    fn sets_and_types_are_told_apart() {
        let labelled = |id: &str, set: &str, kind: Option<&str>, right| QuestionRecord {
            data_source: Some(set.to_owned()),
            question_type: kind.map(str::to_owned),
            ..record(id, None, right)
        };
        let records = [
            labelled("a", "nq", None, true),
            labelled("b", "nq", None, true),
            labelled("c", "nq", None, false),
            labelled("d", "hotpotqa", Some("bridge"), false),
        ];
        let report = EvaluationReport::new(&records, 1).unwrap();
        assert_eq!(report.by_set["nq"].n, 3);
        assert_eq!(report.by_type["bridge"].exact_match.mean, 0.0);
        let average = report.average.unwrap();
        assert_eq!(average.sets, [("hotpotqa".to_owned(), 1), ("nq".to_owned(), 3)].into());
        // (2/3 + 0) / 2, and not 2/4.
        assert!((average.exact_match.mean - 1.0 / 3.0).abs() < 1e-12);
        assert!(average.exact_match.ci_low >= 0.0 && average.exact_match.ci_high <= 0.5);
        let one_set = EvaluationReport::new(&records[..3], 1).unwrap();
        assert_eq!(one_set.average, None);
    }

    #[test]
    fn episodes_of_one_question_count_once() {
        let sampled =
            |id: &str, sample, right| QuestionRecord { sample, ..record(id, None, right) };
        let records = [
            sampled("a", 0, true),
            sampled("b", 0, false),
            sampled("a", 1, true),
            sampled("b", 1, true),
        ];
        let report = EvaluationReport::new(&records, 1).unwrap();
        assert_eq!(report.overall.n, 2);
        assert_eq!(report.overall.exact_match.mean, 0.75);
        assert_eq!(report.pass_at[&1].mean, 0.75);
        assert_eq!(report.pass_at[&2].mean, 1.0);
    }

    #[test]
    fn shares_leave_out_what_has_none() {
        let records = [
            QuestionRecord { num_search_attempts: 2, num_searches: 1, ..record("a", None, true) },
            QuestionRecord { num_turns: 4, num_invalid: 1, ..record("b", None, true) },
        ];
        let summary = EvaluationReport::new(&records, 1).unwrap().overall;
        assert_eq!(summary.valid_search.unwrap().mean, 0.5);
        assert_eq!(summary.invalid_action.unwrap().mean, 0.125);
        assert_eq!(summary.retrieval_recall, None);
    }
}
