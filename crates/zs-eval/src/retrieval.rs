//! Retrieval metrics: golden titles and answers found by searching with the question.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use zs_core::{Document, Question, StreamKey, normalize_answer};

use crate::bootstrap::bootstrap;
use crate::paired::test_of;
use crate::{Estimate, PairedTest};

/// Last rank that counts for [`RetrievalMetric::Ndcg`].
const NDCG_DEPTH: usize = 10;

/// Metric of the documents that a search with the question finds.
///
/// ```text
/// title recall    = |golden titles found| / |golden titles|
/// reciprocal rank = 1 / rank of the first document with a golden title, 0 without one
/// nDCG            = sum over the first 10 documents with a new golden title: 1 / log2(1 + rank)
///                   / sum over ranks 1..=min(10, |golden titles|): 1 / log2(1 + rank)
/// answer          = 1 if a document contains a golden answer, else 0
/// ```
///
/// Titles are compared as they are, without white space around them. A document contains an answer
/// when its normalised title and text contain the normalised answer. All but the last are of questions
/// with golden titles alone. A search for fewer than ten documents has as many ranks.
///
/// # References
///
/// - Järvelin and Kekäläinen (2002), *Cumulated gain-based evaluation of IR techniques*, with relevance
///   0 or 1
/// - FlashRAG `Retrieval_Recall` for the recall of answers
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RetrievalMetric {
    /// Fraction of the golden titles that is found.
    TitleRecall,
    /// 1 where any golden title is found, else 0.
    AnyTitle,
    /// 1 where all golden titles are found, else 0.
    AllTitles,
    /// Reciprocal rank of the first golden title; its mean is the MRR.
    ReciprocalRank,
    /// Normalised discounted cumulative gain of the first ten documents.
    Ndcg,
    /// 1 where a document contains a golden answer, else 0.
    Answer,
}

impl RetrievalMetric {
    /// All metrics.
    pub const ALL: [Self; 6] = [
        Self::TitleRecall,
        Self::AnyTitle,
        Self::AllTitles,
        Self::ReciprocalRank,
        Self::Ndcg,
        Self::Answer,
    ];

    /// Value for a question and the documents found for it; `None` where the question has no titles.
    #[must_use]
    pub fn of(self, question: &Question, found: &[Document]) -> Option<f64> {
        let flag = |it: bool| f64::from(u8::from(it));
        if self == Self::Answer {
            return Some(flag(holds_answer(question, found)));
        }
        let golden: BTreeSet<&str> = question.gold_titles.iter().map(|it| it.trim()).collect();
        if golden.is_empty() {
            return None;
        }
        let mut left = golden.clone();
        let ranks = (1_u32..).zip(found).filter(|(_, it)| left.remove(it.title.trim()));
        let ranks: Vec<u32> = ranks.map(|(rank, _)| rank).collect();
        let gain = |rank: &u32| 1.0 / (1.0 + f64::from(*rank)).log2();
        let num_golden = question.gold_titles.len();
        let is_found = |it: &&String| !left.contains(it.trim());
        let num_found = question.gold_titles.iter().filter(is_found).count();
        Some(match self {
            Self::TitleRecall => num_found as f64 / num_golden as f64,
            Self::AnyTitle => flag(num_found > 0),
            Self::AllTitles => flag(num_found == num_golden),
            Self::ReciprocalRank => ranks.first().map_or(0.0, |it| 1.0 / f64::from(*it)),
            Self::Ndcg => {
                let counted = ranks.iter().filter(|it| **it as usize <= NDCG_DEPTH);
                let ideal: Vec<u32> = (1..).take(golden.len().min(NDCG_DEPTH)).collect();
                counted.map(gain).sum::<f64>() / ideal.iter().map(gain).sum::<f64>()
            }
            Self::Answer => unreachable!("returned above"),
        })
    }
}

/// Compares two engines on the questions that have a metric; `None` where none has.
///
/// ```
/// use zs_core::{Document, Question};
/// use zs_eval::{RetrievalMetric, retrieval_test};
///
/// let questions = ["ulm", "bern"].map(|it| Question::new(it, "?", [it]));
/// let before = [vec![Document::new("Ulm", "")], vec![]];
/// let after = [vec![Document::new("Ulm", "")], vec![Document::new("Bern", "")]];
/// let test = retrieval_test(&questions, &before, &after, RetrievalMetric::Answer, 0).unwrap();
/// assert_eq!((test.n, test.difference.mean), (2, 0.5));
/// ```
#[must_use]
pub fn retrieval_test(
    questions: &[Question],
    before: &[Vec<Document>],
    after: &[Vec<Document>],
    metric: RetrievalMetric,
    seed: u64,
) -> Option<PairedTest> {
    let found = before.iter().zip(after);
    let pair = |(question, (before, after)): (&Question, (&Vec<Document>, &Vec<Document>))| {
        Some((metric.of(question, before)?, metric.of(question, after)?))
    };
    let pairs: Vec<(f64, f64)> = questions.iter().zip(found).filter_map(pair).collect();
    (!pairs.is_empty()).then(|| test_of(&pairs, seed))
}

/// Metrics of a search engine over questions, each with its 95 % bootstrap interval.
///
/// ```
/// use zs_core::{Document, Question};
/// use zs_eval::RetrievalReport;
///
/// let question = Question {
///     gold_titles: vec!["Ulm".into(), "Albert Einstein".into()],
///     ..Question::new("q", "In which state was Einstein born?", ["Württemberg"])
/// };
/// let found = vec![vec![Document::new("Ulm", "A city in the Kingdom of Württemberg.")]];
/// let report = RetrievalReport::new(&[question], &found, 5, 0);
/// assert_eq!(report.title_recall.unwrap().mean, 0.5);
/// assert_eq!(report.all_titles.unwrap().mean, 0.0);
/// assert_eq!(report.answer.mean, 1.0);
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RetrievalReport {
    /// Documents per search.
    pub k: usize,
    /// Number of questions.
    pub n: usize,
    /// Number of questions with golden titles.
    pub num_with_titles: usize,
    /// Fraction of golden titles found, over questions that have some.
    pub title_recall: Option<Estimate>,
    /// Fraction of questions for which any golden title is found.
    pub any_title: Option<Estimate>,
    /// Fraction of questions for which all golden titles are found.
    pub all_titles: Option<Estimate>,
    /// Mean reciprocal rank of the first golden title.
    pub reciprocal_rank: Option<Estimate>,
    /// Mean nDCG of the first ten documents, or of all where fewer are asked for.
    pub ndcg: Option<Estimate>,
    /// Fraction of questions for which a document contains a golden answer.
    pub answer: Estimate,
}

impl RetrievalReport {
    /// Summarises the documents found for each question.
    ///
    /// # Panics
    ///
    /// Panics without questions, and when the number of document lists differs.
    #[must_use]
    pub fn new(questions: &[Question], found: &[Vec<Document>], k: usize, seed: u64) -> Self {
        assert_eq!(questions.len(), found.len(), "one list of documents a question");
        assert!(!questions.is_empty(), "at least one question");
        let pairs = || questions.iter().zip(found);
        let titles: Vec<[f64; 5]> =
            pairs().filter_map(|(question, found)| titles(question, found)).collect();
        let answer = |(question, found): (&Question, &Vec<Document>)| {
            [f64::from(u8::from(holds_answer(question, found)))]
        };
        let answers: Vec<[f64; 1]> = pairs().map(answer).collect();
        let key = StreamKey::new(seed);
        let estimates = (!titles.is_empty()).then(|| bootstrap(&titles, key));
        Self {
            k,
            n: questions.len(),
            num_with_titles: titles.len(),
            title_recall: estimates.map(|it| it[0]),
            any_title: estimates.map(|it| it[1]),
            all_titles: estimates.map(|it| it[2]),
            reciprocal_rank: estimates.map(|it| it[3]),
            ndcg: estimates.map(|it| it[4]),
            answer: bootstrap(&answers, key)[0],
        }
    }
}

/// Metrics of the golden titles; `None` for a question without.
fn titles(question: &Question, found: &[Document]) -> Option<[f64; 5]> {
    use RetrievalMetric::{AllTitles, AnyTitle, Ndcg, ReciprocalRank, TitleRecall};

    let of_titles = [TitleRecall, AnyTitle, AllTitles, ReciprocalRank, Ndcg];
    let [recall, any, all, rank, ndcg] = of_titles.map(|it| it.of(question, found));
    Some([recall?, any?, all?, rank?, ndcg?])
}

fn holds_answer(question: &Question, found: &[Document]) -> bool {
    let answers: Vec<String> =
        question.golden_answers.iter().map(|it| normalize_answer(it)).collect();
    found.iter().any(|document| {
        let text = normalize_answer(&format!("{}\n{}", document.title, document.text));
        answers.iter().any(|it| text.contains(it.as_str()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn questions_without_titles_count_for_answers_only() {
        let question = |titles: &[&str], answer: &str| Question {
            gold_titles: titles.iter().map(|&it| it.to_owned()).collect(),
            ..Question::new(answer, "?", [answer])
        };
        let questions = [question(&["A", "B"], "x"), question(&["A"], "y"), question(&[], "zed")];
        let found = [
            vec![Document::new("B ", "-"), Document::new("A", "-")],
            vec![Document::new("a", "-")],
            vec![Document::new("Zed", "-")],
        ];
        let report = RetrievalReport::new(&questions, &found, 2, 1);
        assert_eq!((report.n, report.num_with_titles), (3, 2));
        for recall in [report.title_recall, report.any_title, report.all_titles] {
            assert_eq!(recall.unwrap().mean, 0.5);
        }
        // Ranks 1 and 2 of `A` and `B`; nothing of the second question.
        assert_eq!(report.reciprocal_rank.unwrap().mean, 0.5);
        assert_eq!(report.ndcg.unwrap().mean, 0.5);
        assert!((report.answer.mean - 1.0 / 3.0).abs() < 1e-12);
        assert_eq!(RetrievalReport::new(&questions[2..], &found[2..], 2, 1).title_recall, None);
    }

    /// nDCG by hand: golden titles at ranks 2 and 4 of 3 golden ones are
    /// (1/log2(3) + 1/log2(5)) / (1 + 1/log2(3) + 1/log2(4)) = (0.63093 + 0.43068) / 2.13093.
    #[test]
    fn ranks_count() {
        let check = |golden: &[&str], found: &[&str], rank: f64, ndcg: f64| {
            let question = Question {
                gold_titles: golden.iter().map(|&it| it.to_owned()).collect(),
                ..Question::new("q", "?", ["x"])
            };
            let found: Vec<Document> = found.iter().map(|it| Document::new(*it, "-")).collect();
            let of = |metric: RetrievalMetric| metric.of(&question, &found).unwrap();
            assert!((of(RetrievalMetric::ReciprocalRank) - rank).abs() < 1e-12, "{found:?}");
            assert!((of(RetrievalMetric::Ndcg) - ndcg).abs() < 1e-5, "{found:?}");
        };
        check(&["A", "B", "C"], &["x", "A", "y", "C"], 0.5, 1.061_61 / 2.130_93);
        check(&["A"], &["A"], 1.0, 1.0);
        check(&["A"], &[], 0.0, 0.0);
        // A title counts once, passages of it may be many.
        check(&["A", "B"], &["A", "A", "A"], 1.0, 1.0 / 1.630_93);
        // What stands behind the tenth document counts for the rank alone.
        let late: Vec<&str> = ["x"; 10].into_iter().chain(["A"]).collect();
        check(&["A"], &late, 1.0 / 11.0, 0.0);
    }

    #[test]
    fn engines_are_compared_on_questions_with_titles() {
        let titled = Question { gold_titles: vec!["A".into()], ..Question::new("q", "?", ["x"]) };
        let questions = [titled.clone(), Question::new("r", "?", ["x"]), titled];
        let (none, a) = (Vec::new(), vec![Document::new("A", "-")]);
        let before = [none.clone(), none.clone(), a.clone()];
        let after = [a.clone(), a.clone(), a];
        let test = |metric| retrieval_test(&questions, &before, &after, metric, 3);
        let titles = test(RetrievalMetric::ReciprocalRank).unwrap();
        assert_eq!((titles.n, titles.difference.mean), (2, 0.5));
        assert_eq!(titles.mcnemar.map(|it| it.only_after), Some(1));
        assert_eq!(test(RetrievalMetric::Answer).unwrap().n, 3);
        let untitled = &questions[1..2];
        let metric = RetrievalMetric::Ndcg;
        assert_eq!(retrieval_test(untitled, &before[1..2], &after[1..2], metric, 3), None);
    }
}
