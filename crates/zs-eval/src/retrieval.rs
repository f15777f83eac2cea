//! Retrieval metrics: golden titles and answers found by searching with the question.

use serde::{Deserialize, Serialize};
use zs_core::{Document, Question, StreamKey, normalize_answer};

use crate::Estimate;
use crate::bootstrap::bootstrap;

/// Recall of a search engine over questions, each with its 95 % bootstrap interval.
///
/// ```text
/// title recall = |golden titles among the k found| / |golden titles|, averaged over questions
/// answer       = fraction of questions for which a found document contains a golden answer
/// ```
///
/// Titles are compared as they are, without white space around them. A document contains an answer
/// when its normalised title and text contain the normalised answer.
///
/// # References
///
/// - FlashRAG `Retrieval_Recall` for the recall of answers
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
        let titles: Vec<[f64; 3]> = pairs().filter_map(|(it, found)| titles(it, found)).collect();
        let answers: Vec<[f64; 1]> = pairs()
            .map(|(question, found)| [f64::from(u8::from(holds_answer(question, found)))])
            .collect();
        let key = StreamKey::new(seed);
        let estimates = (!titles.is_empty()).then(|| bootstrap(&titles, key));
        Self {
            k,
            n: questions.len(),
            num_with_titles: titles.len(),
            title_recall: estimates.map(|it| it[0]),
            any_title: estimates.map(|it| it[1]),
            all_titles: estimates.map(|it| it[2]),
            answer: bootstrap(&answers, key)[0],
        }
    }
}

/// Fraction, any and all of the golden titles; `None` for a question without.
fn titles(question: &Question, found: &[Document]) -> Option<[f64; 3]> {
    let golden = &question.gold_titles;
    if golden.is_empty() {
        return None;
    }
    let is_found = |title: &&String| found.iter().any(|it| it.title.trim() == title.trim());
    let hits = golden.iter().filter(is_found).count();
    let flag = |it: bool| f64::from(u8::from(it));
    Some([hits as f64 / golden.len() as f64, flag(hits > 0), flag(hits == golden.len())])
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
        assert!((report.answer.mean - 1.0 / 3.0).abs() < 1e-12);
        assert_eq!(RetrievalReport::new(&questions[2..], &found[2..], 2, 1).title_recall, None);
    }
}
