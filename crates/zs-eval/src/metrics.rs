//! Result of one episode, and its metrics.

use serde::{Deserialize, Serialize};
use zs_core::{
    Action, Document, Question, Transcript, YesNoRule, cover_exact_match, exact_match, word_overlap,
};
use zs_rl::{Format, SearchesThatMattered, Trajectory};

use crate::answer::{missing_answer, read_answer};
use crate::{Protocol, Quirk};

/// Result of one episode.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct QuestionRecord {
    /// [`Question::id`].
    pub id: String,
    /// Index among the episodes of the question, from 0.
    #[serde(default)]
    pub sample: u32,
    /// [`Question::data_source`].
    #[serde(default)]
    pub data_source: Option<String>,
    /// [`Question::hops`].
    pub hops: Option<u8>,
    /// [`Question::question_type`].
    #[serde(default)]
    pub question_type: Option<String>,
    /// Answer under the protocol; `None` when there is none.
    pub prediction: Option<String>,
    /// True when the normalised answer equals a normalised golden answer, or contains one under
    /// [`Quirk::Containment`].
    pub exact_match: bool,
    /// True when the normalised answer contains a normalised golden answer.
    pub cover_exact_match: bool,
    /// Word-overlap F1, the maximum over golden answers.
    pub f1: f64,
    /// Fraction of the answer's words that a golden answer has, the maximum over golden answers.
    #[serde(default)]
    pub precision: f64,
    /// Fraction of a golden answer's words that the answer has, the maximum over golden answers.
    #[serde(default)]
    pub recall: f64,
    /// [`f1`](Self::f1) with HotpotQA's rule: 0 unless verdicts are equal.
    #[serde(default)]
    pub f1_yes_no: f64,
    /// [`precision`](Self::precision) with the same rule.
    #[serde(default)]
    pub precision_yes_no: f64,
    /// [`recall`](Self::recall) with the same rule.
    #[serde(default)]
    pub recall_yes_no: f64,
    /// True when the episode ends with an answer and every turn is text followed by one tag pair.
    #[serde(default)]
    pub well_formed: bool,
    /// Executed searches.
    pub num_searches: usize,
    /// Executed searches that failed.
    pub num_search_errors: usize,
    /// Turns that requested a search, well formed or not.
    #[serde(default)]
    pub num_search_attempts: usize,
    /// Turns of the policy model.
    pub num_turns: usize,
    /// Turns without a valid action.
    #[serde(default)]
    pub num_invalid: usize,
    /// Tokens that the policy model sampled.
    #[serde(default)]
    pub num_tokens: usize,
    /// Fraction of the golden titles among the titles of the retrieved documents; `None` for a question
    /// without golden titles.
    #[serde(default)]
    pub retrieval_recall: Option<f64>,
    /// True when the episode ended because the model's context was full.
    pub truncated: bool,
    /// Searches whose documents were replaced, where the evaluation does so.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub num_searches_valued: usize,
    /// Searches among them that mattered: with other documents, the F1 of the answer is another.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub num_searches_mattered: usize,
}

fn is_zero(count: &usize) -> bool {
    *count == 0
}

impl QuestionRecord {
    /// Scores one episode under the `strict` protocol: by the policy model's own final answer.
    /// Without one, every score is 0.
    #[must_use]
    pub fn new(question: &Question, trajectory: &Trajectory) -> Self {
        Self::of_trajectory(question, trajectory, "", &Protocol::strict())
    }

    /// Scores one episode. `prompt` is its prompt as text, which [`Quirk::PromptAnswers`] reads.
    #[must_use]
    pub fn of_trajectory(
        question: &Question,
        trajectory: &Trajectory,
        prompt: &str,
        protocol: &Protocol,
    ) -> Self {
        let mut transcript = trajectory.transcript();
        if protocol.has(Quirk::DocumentAnswers) {
            show_raw_documents(&mut transcript, trajectory);
        }
        let searches = || trajectory.searches();
        let counted = SearchesThatMattered::of(trajectory, &question.golden_answers);
        let found =
            || searches().flat_map(|it| it.documents.iter().map(|it| it.title.trim())).collect();
        Self {
            num_searches: searches().count(),
            num_search_errors: searches().filter(|it| it.error.is_some()).count(),
            num_tokens: trajectory.num_policy_tokens(),
            retrieval_recall: retrieval_recall(question, found),
            truncated: trajectory.truncated,
            num_searches_valued: counted.num_valued,
            num_searches_mattered: counted.num_mattered,
            ..Self::of_transcript(question, &transcript, prompt, protocol)
        }
    }

    /// Scores an episode from its text alone.
    #[must_use]
    pub fn of_transcript(
        question: &Question,
        transcript: &Transcript,
        prompt: &str,
        protocol: &Protocol,
    ) -> Self {
        let prediction = read_answer(protocol, prompt, transcript);
        let asks = |text: &str| text.contains("<search>");
        let turns = &transcript.turns;
        let format = Format { require_think: false };
        Self {
            well_formed: transcript.answer().is_some()
                && turns.iter().all(|it| format.is_well_formed(&it.text)),
            num_searches: transcript.queries().count(),
            num_search_attempts: turns
                .iter()
                .filter(|it| match it.action {
                    Action::Search(_) => true,
                    Action::Invalid => asks(&it.text),
                    Action::Answer(_) => false,
                })
                .count(),
            num_turns: turns.len(),
            num_invalid: transcript.num_invalid(),
            ..Self::of_answer(question, prediction, protocol)
        }
    }

    /// Scores a prediction without an episode. `None` is a missing answer.
    #[must_use]
    pub fn of_prediction(
        question: &Question,
        prediction: Option<String>,
        protocol: &Protocol,
    ) -> Self {
        let prediction = prediction.or_else(|| missing_answer(protocol));
        Self::of_answer(question, prediction, protocol)
    }

    fn of_answer(question: &Question, prediction: Option<String>, protocol: &Protocol) -> Self {
        let golden = &question.golden_answers;
        let answer = prediction.as_deref();
        let overlap = |rule| answer.map(|it| word_overlap(it, golden, rule)).unwrap_or_default();
        let (plain, verdicts) = (overlap(YesNoRule::Ignore), overlap(YesNoRule::Strict));
        let equals = answer.is_some_and(|it| exact_match(it, golden));
        let covers = answer.is_some_and(|it| cover_exact_match(it, golden));
        let exact_match = if protocol.has(Quirk::Containment) { covers } else { equals };
        let copies = protocol.has(Quirk::F1IsExactMatch);
        let f1 = |f1| if copies { f64::from(u8::from(exact_match)) } else { f1 };
        Self {
            id: question.id.clone(),
            data_source: question.data_source.clone(),
            hops: question.hops,
            question_type: question.question_type.clone(),
            exact_match,
            cover_exact_match: covers,
            f1: f1(plain.f1),
            precision: plain.precision,
            recall: plain.recall,
            f1_yes_no: f1(verdicts.f1),
            precision_yes_no: verdicts.precision,
            recall_yes_no: verdicts.recall,
            prediction,
            ..Self::default()
        }
    }

    /// Adds a search that was made for the prompt, before the episode.
    pub(crate) fn count_search(
        &mut self,
        question: &Question,
        documents: &[Document],
        has_failed: bool,
    ) {
        self.num_searches += 1;
        self.num_search_attempts += 1;
        self.num_search_errors += usize::from(has_failed);
        let titles = || documents.iter().map(|it| it.title.trim()).collect();
        self.retrieval_recall = retrieval_recall(question, titles);
    }

    /// Returns true when the episode ended with an answer.
    #[must_use]
    pub fn answered(&self) -> bool {
        self.prediction.is_some()
    }
}

/// Replaces the observations, whose tags are neutralised, by the retrieved documents.
fn show_raw_documents(transcript: &mut Transcript, trajectory: &Trajectory) {
    for (shown, turn) in transcript.turns.iter_mut().zip(&trajectory.turns) {
        if let Some(search) = &turn.search {
            let documents = search.documents.iter().map(|it| it.text.as_str());
            shown.observation = documents.collect::<Vec<_>>().join("\n");
        }
    }
}

fn retrieval_recall<'a>(question: &Question, found: impl FnOnce() -> Vec<&'a str>) -> Option<f64> {
    let golden = &question.gold_titles;
    if golden.is_empty() {
        return None;
    }
    let found = found();
    let hits = golden.iter().filter(|it| found.contains(&it.trim())).count();
    Some(hits as f64 / golden.len() as f64)
}

/// A metric of a [`QuestionRecord`] that is averaged over questions.
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
    /// [`QuestionRecord::precision`].
    Precision,
    /// [`QuestionRecord::recall`].
    Recall,
    /// [`QuestionRecord::f1_yes_no`].
    F1YesNo,
    /// [`QuestionRecord::precision_yes_no`].
    PrecisionYesNo,
    /// [`QuestionRecord::recall_yes_no`].
    RecallYesNo,
    /// [`QuestionRecord::well_formed`] as 0 or 1.
    WellFormed,
    /// [`QuestionRecord::num_tokens`].
    NumTokens,
}

impl Metric {
    /// Returns the metric of one record.
    #[must_use]
    pub fn of(self, record: &QuestionRecord) -> f64 {
        match self {
            Self::ExactMatch => f64::from(u8::from(record.exact_match)),
            Self::CoverExactMatch => f64::from(u8::from(record.cover_exact_match)),
            Self::F1 => record.f1,
            Self::NumSearches => record.num_searches as f64,
            Self::Answered => f64::from(u8::from(record.answered())),
            Self::Precision => record.precision,
            Self::Recall => record.recall,
            Self::F1YesNo => record.f1_yes_no,
            Self::PrecisionYesNo => record.precision_yes_no,
            Self::RecallYesNo => record.recall_yes_no,
            Self::WellFormed => f64::from(u8::from(record.well_formed)),
            Self::NumTokens => record.num_tokens as f64,
        }
    }
}

/// Records of one question.
pub(crate) type Samples<'a> = Vec<&'a QuestionRecord>;

#[cfg(test)]
mod tests {
    use zs_core::DocumentQuality;
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
            text: match &action {
                Action::Search(query) => format!("<search> {query} </search>"),
                Action::Answer(answer) => format!("<answer> {answer} </answer>"),
                Action::Invalid => "<search> never closed".to_owned(),
            },
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
    fn counts_what_the_policy_did() {
        let record = record(vec![
            turn(Action::Search("band".into()), None),
            turn(Action::Invalid, None),
            turn(Action::Answer("a Beatles".into()), None),
        ]);
        assert_eq!(
            (record.num_search_attempts, record.num_searches, record.num_invalid),
            (2, 1, 1)
        );
        assert_eq!(record.num_tokens, 3);
        assert!(!record.well_formed);
        assert_eq!(record.retrieval_recall, None);
        let tidy = [Action::Search("q".into()), Action::Answer("x".into())];
        assert!(self::record(tidy.map(|it| turn(it, None)).into()).well_formed);
    }

    #[test]
    fn recall_is_the_share_of_golden_titles_found() {
        let titles = |it: &[&str]| it.iter().map(|&it| it.to_owned()).collect();
        let question =
            Question { gold_titles: titles(&["A", "B"]), ..Question::new("q", "?", ["x"]) };
        assert_eq!(retrieval_recall(&question, || vec!["B", "C", "B"]), Some(0.5));
        assert_eq!(retrieval_recall(&question, Vec::new), Some(0.0));
    }

    #[test]
    fn quirks_change_what_is_scored() {
        let question = Question::new("q", "who?", ["the Beatles"]);
        let trajectory = Trajectory {
            turns: vec![turn(Action::Search("band".into()), None)],
            ..Trajectory::new("q", vec![0])
        };
        let score = |protocol: &str| {
            let protocol = protocol.parse().unwrap();
            let record = QuestionRecord::of_trajectory(&question, &trajectory, "", &protocol);
            (record.prediction, record.exact_match)
        };
        assert_eq!(score("strict"), (None, false));
        assert_eq!(score("strict + prompt-answers"), (Some("Beijing".into()), false));
        // The document contains tags; the observation does not.
        assert_eq!(score("zs-compat"), (Some("Beatles".into()), true));
        let cover = |protocol: &str, answer: &str| {
            let answer = Some(answer.to_owned());
            QuestionRecord::of_prediction(&question, answer, &protocol.parse().unwrap())
        };
        assert!(!cover("strict", "the Beatles band").exact_match);
        assert!(cover("strict + containment", "the Beatles band").exact_match);
        assert_eq!(cover("strict + f1-is-exact-match", "the Beatles band").f1, 0.0);
        assert_eq!(cover("zs-compat + f1-is-exact-match", "the Beatles band").f1, 1.0);
    }

    #[test]
    fn records_survive_json() {
        let record = record(vec![turn(Action::Answer("Beatles".into()), None)]);
        let json = serde_json::to_string(&record).unwrap();
        assert_eq!(serde_json::from_str::<QuestionRecord>(&json).unwrap(), record);
    }
}
