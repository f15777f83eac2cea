//! Judges that label documents useful or noisy.

use std::fmt::Debug;

use serde::{Deserialize, Serialize};
use zs_core::{Document, DocumentQuality, normalize_answer};

use crate::tuning::contains_answer;

/// One document to be judged, with what it was found for.
#[derive(Clone, Copy, Debug)]
pub struct JudgeCase<'a> {
    /// The question.
    pub question: &'a str,
    /// Its accepted answers.
    pub golden_answers: &'a [String],
    /// The query.
    pub query: &'a str,
    /// The document.
    pub document: &'a Document,
}

/// Errors of labelling a document.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum JudgeError {
    /// The judge's rule does not apply to this question.
    #[error("the answers to `{question}` cannot be found by searching a text")]
    Undecidable {
        /// The question.
        question: String,
    },
    /// The judge could not be asked, or gave no verdict.
    #[error("the judge gave no verdict: {message}")]
    Failed {
        /// Message of the judge.
        message: String,
    },
}

/// Labels documents, each on its own.
///
/// ```
/// use zs_core::{Document, DocumentQuality};
/// use zs_simulator::collect::{ContainmentJudge, Judge, JudgeCase};
///
/// let document = Document::new("Dune", "A novel by Frank Herbert.");
/// let golden_answers = ["Frank Herbert".to_owned()];
/// let case = JudgeCase {
///     question: "Who wrote Dune?", golden_answers: &golden_answers, query: "Dune", document: &document,
/// };
/// assert_eq!(ContainmentJudge.judge(&[case]), [Ok(DocumentQuality::Useful)]);
/// ```
pub trait Judge: Debug + Send + Sync {
    /// Name of the judge in manifests.
    fn name(&self) -> &str;

    /// One label a case, in order; a case without one fails alone.
    fn judge(&self, cases: &[JudgeCase<'_>]) -> Vec<Result<DocumentQuality, JudgeError>>;
}

/// Labels a document useful if it contains a golden answer as whole words, after normalisation.
///
/// Needs no model, but calls the right documents of an early hop noisy, and can say nothing where
/// all answers are `yes`, `no` or empty after normalisation.
#[derive(Clone, Copy, Debug, Default)]
pub struct ContainmentJudge;

impl Judge for ContainmentJudge {
    fn name(&self) -> &str {
        "containment"
    }

    fn judge(&self, cases: &[JudgeCase<'_>]) -> Vec<Result<DocumentQuality, JudgeError>> {
        let label = |case: &JudgeCase<'_>| {
            let can_be_found = |it: &&String| {
                let answer = normalize_answer(it);
                !matches!(answer.as_str(), "" | "yes" | "no")
            };
            let answers: Vec<String> =
                case.golden_answers.iter().filter(can_be_found).cloned().collect();
            if answers.is_empty() {
                return Err(JudgeError::Undecidable { question: case.question.to_owned() });
            }
            Ok(match contains_answer(&case.document.text, &answers) {
                true => DocumentQuality::Useful,
                false => DocumentQuality::Noisy,
            })
        };
        cases.iter().map(label).collect()
    }
}

/// Agreement of two judges on the documents that both have labelled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Agreement {
    /// Documents that both labelled.
    pub num_compared: usize,
    /// Documents that both label useful.
    pub both_useful: usize,
    /// Documents that both label noisy.
    pub both_noisy: usize,
    /// Documents that the first labels useful and the second noisy.
    pub only_first_useful: usize,
    /// Documents that the second labels useful and the first noisy.
    pub only_second_useful: usize,
    /// Share of documents with the same label.
    pub observed: f64,
    /// Cohen's kappa.
    pub kappa: f64,
}

/// Compares two lists of labels of the same documents.
///
/// ```text
/// kappa = (o - e) / (1 - e),   e = u1 u2 + (1 - u1)(1 - u2)
/// ```
///
/// - `o`: share of equal labels; `e`: the share that two judges would agree on by chance
/// - `u1`, `u2`: shares that each of them calls useful
/// - where chance explains everything (`e = 1`: both always say the same one thing), `kappa` is 0,
///   since such labels show no skill
///
/// # References
///
/// - Cohen 1960, [doi 10.1177/001316446002000104](https://doi.org/10.1177/001316446002000104)
#[must_use]
pub fn agreement(pairs: &[(DocumentQuality, DocumentQuality)]) -> Agreement {
    use DocumentQuality::{Noisy, Useful};
    let count = |pair| pairs.iter().filter(|it| **it == pair).count();
    let (both_useful, both_noisy) = (count((Useful, Useful)), count((Noisy, Noisy)));
    let (first, second) = (count((Useful, Noisy)), count((Noisy, Useful)));
    let share = |count: usize| count as f64 / pairs.len().max(1) as f64;
    let observed = share(both_useful + both_noisy);
    let (u1, u2) = (share(both_useful + first), share(both_useful + second));
    let expected = u1 * u2 + (1.0 - u1) * (1.0 - u2);
    Agreement {
        num_compared: pairs.len(),
        both_useful,
        both_noisy,
        only_first_useful: first,
        only_second_useful: second,
        observed,
        kappa: if expected < 1.0 { (observed - expected) / (1.0 - expected) } else { 0.0 },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(answers: &[&str], text: &str, expected: Option<DocumentQuality>) {
        let golden_answers: Vec<String> = answers.iter().map(|it| (*it).to_owned()).collect();
        let document = Document::new("", text);
        let case = JudgeCase {
            question: "q",
            golden_answers: &golden_answers,
            query: "q",
            document: &document,
        };
        assert_eq!(ContainmentJudge.judge(&[case]).remove(0).ok(), expected, "{answers:?} {text}");
    }

    #[test]
    fn containment_knows_what_it_cannot_know() {
        check(&["Anna"], "It was Anna.", Some(DocumentQuality::Useful));
        check(&["Anna"], "It was Annabel.", Some(DocumentQuality::Noisy));
        check(&["No"], "No, it was not.", None);
        check(&["yes", "The"], "yes", None);
        check(&["yes", "indeed"], "indeed", Some(DocumentQuality::Useful));
    }

    #[test]
    fn agreement_is_corrected_for_chance() {
        use DocumentQuality::{Noisy, Useful};
        // The worked example of many textbooks: 20 yes/yes, 5 yes/no, 10 no/yes, 15 no/no.
        let mut pairs = vec![(Useful, Useful); 20];
        pairs.extend(vec![(Useful, Noisy); 5]);
        pairs.extend(vec![(Noisy, Useful); 10]);
        pairs.extend(vec![(Noisy, Noisy); 15]);
        let result = agreement(&pairs);
        assert!((result.observed - 0.7).abs() < 1e-12 && (result.kappa - 0.4).abs() < 1e-12);
        assert_eq!((result.only_first_useful, result.only_second_useful), (5, 10));
        assert_eq!(agreement(&[(Useful, Useful)]).kappa, 0.0);
        assert_eq!(agreement(&[]), Agreement::default());
    }
}
