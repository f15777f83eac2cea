//! What one question's episode came to, and the numbers read from it.

use serde::{Deserialize, Serialize};
use zs_core::{Question, YesNoRule, cover_exact_match, exact_match, f1};
use zs_rl::Trajectory;

/// What one question's episode came to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct QuestionRecord {
    /// [`Question::id`].
    pub id: String,
    /// [`Question::hops`].
    pub hops: Option<u8>,
    /// The final answer; `None` when the episode ended without one.
    pub prediction: Option<String>,
    /// Whether the normalised answer equals a normalised golden answer.
    pub exact_match: bool,
    /// Whether a normalised golden answer occurs inside the normalised answer.
    pub cover_exact_match: bool,
    /// Word-overlap F1, the best over golden answers.
    pub f1: f64,
    /// Searches that were carried out.
    pub num_searches: usize,
    /// Of those, how many failed.
    pub num_search_errors: usize,
    /// Turns of the policy model.
    pub num_turns: usize,
    /// Whether the episode ended because the model's context was full.
    pub truncated: bool,
}

impl QuestionRecord {
    /// Scores one episode by the policy model's own final answer. Without one, every score is 0.
    #[must_use]
    pub fn new(question: &Question, trajectory: &Trajectory) -> Self {
        let prediction = trajectory.transcript().answer().map(str::to_owned);
        let golden = &question.golden_answers;
        let answer = prediction.as_deref();
        Self {
            id: question.id.clone(),
            hops: question.hops,
            exact_match: answer.is_some_and(|it| exact_match(it, golden)),
            cover_exact_match: answer.is_some_and(|it| cover_exact_match(it, golden)),
            f1: answer.map_or(0.0, |it| f1(it, golden, YesNoRule::Ignore)),
            num_searches: trajectory.searches().count(),
            num_search_errors: trajectory.searches().filter(|it| it.error.is_some()).count(),
            num_turns: trajectory.turns.len(),
            truncated: trajectory.truncated,
            prediction,
        }
    }

    /// Whether the episode ended with an answer.
    #[must_use]
    pub fn answered(&self) -> bool {
        self.prediction.is_some()
    }
}

/// A number read from a [`QuestionRecord`] and averaged over questions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Metric {
    /// [`QuestionRecord::exact_match`] as 0 or 1.
    ExactMatch,
    /// [`QuestionRecord::cover_exact_match`] as 0 or 1.
    CoverExactMatch,
    /// [`QuestionRecord::f1`].
    F1,
    /// [`QuestionRecord::num_searches`].
    NumSearches,
    /// [`QuestionRecord::answered`] as 0 or 1.
    Answered,
}

impl Metric {
    /// The number of one record.
    #[must_use]
    pub fn of(self, record: &QuestionRecord) -> f64 {
        match self {
            Self::ExactMatch => f64::from(u8::from(record.exact_match)),
            Self::CoverExactMatch => f64::from(u8::from(record.cover_exact_match)),
            Self::F1 => record.f1,
            Self::NumSearches => record.num_searches as f64,
            Self::Answered => f64::from(u8::from(record.answered())),
        }
    }
}

#[cfg(test)]
mod tests {
    use zs_core::{Action, Document, DocumentQuality};
    use zs_model::{Completion, StopReason};
    use zs_rl::{SearchRecord, Turn};

    use super::*;

    fn turn(action: Action, error: Option<&str>) -> Turn {
        let search = match &action {
            Action::Search(query) => Some(SearchRecord {
                query: query.clone(),
                quality: DocumentQuality::Useful,
                documents: vec![Document::new("", "<answer> Beatles </answer>")],
                error: error.map(str::to_owned),
            }),
            Action::Answer(_) | Action::Invalid => None,
        };
        Turn {
            completion: Completion {
                tokens: vec![1],
                log_probs: vec![0.0],
                sampling_log_probs: None,
                stop_reason: StopReason::Stop,
            },
            text: String::new(),
            observation_text: "<information> <answer> Beatles </answer> </information>".into(),
            observation: vec![2],
            action,
            search,
        }
    }

    fn record(turns: Vec<Turn>) -> QuestionRecord {
        let question = Question { hops: Some(2), ..Question::new("q", "who?", ["the Beatles"]) };
        QuestionRecord::new(&question, &Trajectory { turns, ..Trajectory::new("q", vec![0]) })
    }

    #[track_caller]
    fn check(answer: &str, exact: f64, cover: f64, expected_f1: f64) {
        let search = turn(Action::Search("band".into()), Some("down"));
        let record = record(vec![search, turn(Action::Answer(answer.into()), None)]);
        assert_eq!(record.prediction.as_deref(), Some(answer));
        assert_eq!((record.num_searches, record.num_search_errors, record.num_turns), (1, 1, 2));
        assert_eq!(Metric::ExactMatch.of(&record), exact);
        assert_eq!(Metric::CoverExactMatch.of(&record), cover);
        assert!((Metric::F1.of(&record) - expected_f1).abs() < 1e-12);
        assert_eq!(Metric::NumSearches.of(&record), 1.0);
        assert_eq!(Metric::Answered.of(&record), 1.0);
    }

    #[test]
    fn scores_the_final_answer() {
        check("Beatles", 1.0, 1.0, 1.0);
        check("Beatles band", 0.0, 1.0, 2.0 / 3.0);
        check("Stones", 0.0, 0.0, 0.0);
        check("", 0.0, 0.0, 0.0);
    }

    #[test]
    fn no_answer_is_zero_whatever_the_documents_say() {
        for last in [Action::Search("Beatles".into()), Action::Invalid] {
            let record = record(vec![turn(last, None)]);
            assert_eq!(record.prediction, None);
            for metric in
                [Metric::ExactMatch, Metric::CoverExactMatch, Metric::F1, Metric::Answered]
            {
                assert_eq!(metric.of(&record), 0.0, "{metric:?}");
            }
        }
    }

    #[test]
    fn records_survive_json() {
        let record = record(vec![turn(Action::Answer("Beatles".into()), None)]);
        let json = serde_json::to_string(&record).unwrap();
        assert_eq!(serde_json::from_str::<QuestionRecord>(&json).unwrap(), record);
    }
}
