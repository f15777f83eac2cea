//! The numbers of one trained policy: from its episodes on the test questions, and from its curve.

use std::collections::BTreeMap;

use zs_core::{Action, Document, Question, StreamKey, normalize_answer};
use zs_core::{contains_words, query_names_entity};
use zs_eval::Evaluation;
use zs_model::{GenerateError, Generator, SamplingParams, TokenId};
use zs_rl::{RolloutConfig, Trajectory};

use super::result::CurvePoint;
use crate::config::ClaimMetric;

/// Metrics of one policy.
pub(super) type Measures = BTreeMap<ClaimMetric, f64>;

/// The metrics of greedy episodes on the real engine.
pub(super) fn of_evaluation(questions: &[Question], evaluation: &Evaluation) -> Measures {
    let overall = &evaluation.report.overall;
    let searches = Searches::of(questions, &evaluation.trajectories);
    BTreeMap::from([
        (ClaimMetric::ExactMatch, overall.exact_match.mean),
        (ClaimMetric::F1, overall.f1.mean),
        (ClaimMetric::CoverExactMatch, overall.cover_exact_match.mean),
        (ClaimMetric::NumSearches, overall.num_searches.mean),
        (ClaimMetric::AnswerWords, answer_words(evaluation)),
        (ClaimMetric::NamesEntity, searches.names_entity),
        (ClaimMetric::Evidence, searches.evidence),
    ])
}

/// The metrics of validation during training; none where it was not validated.
pub(super) fn of_curve(curve: &[CurvePoint]) -> Measures {
    let values: Vec<f64> = curve.iter().filter_map(|it| it.validation_exact_match).collect();
    if values.is_empty() {
        return Measures::new();
    }
    let area = values.iter().sum::<f64>() / values.len() as f64;
    let mut highest = f64::NEG_INFINITY;
    let mut drawdown: f64 = 0.0;
    for value in values {
        highest = highest.max(value);
        drawdown = drawdown.max(highest - value);
    }
    BTreeMap::from([(ClaimMetric::LearningArea, area), (ClaimMetric::Drawdown, drawdown)])
}

/// Mean words of the answers that were given; 0 where none was.
fn answer_words(evaluation: &Evaluation) -> f64 {
    let answers = evaluation.records.iter().filter_map(|it| it.prediction.as_deref());
    let words: Vec<usize> =
        answers.map(|it| normalize_answer(it).split_whitespace().count()).collect();
    words.iter().sum::<usize>() as f64 / words.len().max(1) as f64
}

/// Quality of the policy's own queries.
struct Searches {
    /// Share of queries that name an entity of the question or of what was read before.
    names_entity: f64,
    /// Share of questions with a golden answer among all that was returned.
    evidence: f64,
}

impl Searches {
    fn of(questions: &[Question], trajectories: &[Trajectory]) -> Self {
        let (mut num_queries, mut num_naming, mut num_found) = (0_usize, 0_usize, 0_usize);
        for (question, trajectory) in questions.iter().zip(trajectories) {
            let mut read: Vec<Document> = Vec::new();
            for search in trajectory.searches() {
                num_queries += 1;
                num_naming += usize::from(query_names_entity(question, &read, &search.query));
                read.extend_from_slice(&search.documents);
            }
            let holds_answer = |it: &Document| {
                question.golden_answers.iter().any(|answer| contains_words(&it.text, answer))
            };
            num_found += usize::from(read.iter().any(holds_answer));
        }
        Self {
            names_entity: num_naming as f64 / num_queries.max(1) as f64,
            evidence: num_found as f64 / questions.len().max(1) as f64,
        }
    }
}

/// Tokens and answers that greedy sampling without stop texts would discard and change, turn by turn.
///
/// The reference code samples each turn to the end of the sequence or to its longest, and then cuts
/// the text after the first `</search>`, or after the first `</answer>` where there is none. Up to
/// the tag that should have ended the turn the tokens are the same as with stop texts.
///
/// - [`ClaimMetric::DiscardedShare`]: share of the sampled tokens that lie behind the cut
/// - [`ClaimMetric::TrailingAnswers`]: share of answers that keep text behind them, which is then
///   trained on, since a search follows
pub(super) fn without_stops(
    policy: &dyn Generator,
    trajectories: &[Trajectory],
    config: &RolloutConfig,
) -> Result<Measures, GenerateError> {
    let mut prompts: Vec<(Vec<TokenId>, StreamKey)> = Vec::new();
    let mut turns: Vec<(&Action, usize)> = Vec::new();
    for trajectory in trajectories {
        let mut tokens = trajectory.prompt.clone();
        for turn in &trajectory.turns {
            prompts.push((tokens.clone(), StreamKey::new(0)));
            turns.push((&turn.action, turn.completion.tokens.len()));
            tokens.extend_from_slice(&turn.completion.tokens);
            tokens.extend_from_slice(&turn.observation);
        }
    }
    let params = SamplingParams {
        temperature: 0.0,
        top_p: 1.0,
        max_new_tokens: config.max_new_tokens,
        stop: Vec::new(),
        ..SamplingParams::default()
    };
    let completions = policy.generate(&prompts, &params)?;
    let (mut sampled, mut discarded) = (0_usize, 0_usize);
    let (mut answers, mut trailing) = (0_usize, 0_usize);
    for ((action, kept), completion) in turns.iter().zip(&completions) {
        if matches!(action, Action::Answer(_)) {
            let text = policy.tokenizer().decode(&completion.tokens);
            answers += 1;
            trailing += usize::from(text.contains("</search>"));
        }
        sampled += completion.tokens.len();
        discarded += completion.tokens.len().saturating_sub(*kept);
    }
    Ok(BTreeMap::from([
        (ClaimMetric::DiscardedShare, discarded as f64 / sampled.max(1) as f64),
        (ClaimMetric::TrailingAnswers, trailing as f64 / answers.max(1) as f64),
    ]))
}

#[cfg(test)]
mod tests {
    use zs_core::{Action, DocumentQuality};
    use zs_model::testing::ScriptedGenerator;
    use zs_model::{Completion, StopReason};
    use zs_rl::{SearchRecord, Turn};

    use super::*;

    #[track_caller]
    fn check_curve(values: &[f64], area: f64, drawdown: f64) {
        let point = |(step, &value): (usize, &f64)| CurvePoint {
            step: 10 * step,
            validation_exact_match: Some(value),
            ..CurvePoint::default()
        };
        let mut curve: Vec<CurvePoint> = values.iter().enumerate().map(point).collect();
        // Steps between validations count in nothing.
        curve.push(CurvePoint { step: 99, reward: Some(0.5), ..CurvePoint::default() });
        let found = of_curve(&curve);
        assert!((found[&ClaimMetric::LearningArea] - area).abs() < 1e-9, "{found:?}");
        assert!((found[&ClaimMetric::Drawdown] - drawdown).abs() < 1e-9, "{found:?}");
    }

    #[test]
    fn curves_by_hand() {
        check_curve(&[0.0, 0.5, 0.4, 0.9], 0.45, 0.1);
        check_curve(&[0.8, 0.2, 0.5, 0.1], 0.4, 0.7);
        check_curve(&[0.1, 0.2], 0.15, 0.0);
        assert!(of_curve(&[]).is_empty());
    }

    fn trajectory(tokens: &[&str], searches: &[(&str, &str)]) -> Trajectory {
        let tokenizer = zs_model::testing::byte_tokenizer();
        let mut trajectory = Trajectory::new("q", vec![1]);
        for (index, text) in tokens.iter().enumerate() {
            let written = tokenizer.encode(text).unwrap();
            let search = searches.get(index).map(|(query, found)| SearchRecord {
                query: (*query).to_owned(),
                quality: DocumentQuality::Useful,
                documents: vec![Document::new("", *found)],
                error: None,
            });
            trajectory.turns.push(Turn {
                completion: Completion {
                    log_probs: vec![0.0; written.len()],
                    tokens: written,
                    sampling_log_probs: None,
                    stop_reason: StopReason::Stop,
                },
                text: (*text).to_owned(),
                action: match search {
                    Some(_) => Action::Search("s".into()),
                    None => Action::Answer("a".into()),
                },
                observation: Vec::new(),
                observation_text: String::new(),
                search,
            });
        }
        trajectory
    }

    #[test]
    fn queries_are_judged_by_what_they_name_and_bring() {
        let question = || Question::new("q", "Who is the spouse of David Bada?", ["Anna Bofer"]);
        let found = "The spouse of David Bada is Anna Bofer.";
        let trajectories = [
            trajectory(&["s", "a"], &[("David Bada spouse", found)]),
            trajectory(&["s", "a"], &[("spouse", "Nothing.")]),
            trajectory(&["a"], &[]),
        ];
        let searches = Searches::of(&[question(), question(), question()], &trajectories);
        assert_eq!((searches.names_entity, searches.evidence), (0.5, 1.0 / 3.0));
        let none = Searches::of(&[], &[]);
        assert_eq!((none.names_entity, none.evidence), (0.0, 0.0));
    }

    #[test]
    fn without_stops_the_rest_is_thrown_away() {
        // Each turn goes on with ten characters; the answer with a search among them.
        let policy = ScriptedGenerator::new(|prompt, _| match prompt.contains("<search>") {
            true => "<answer>a</answer></search>".to_owned(),
            false => "<search>s</search>0123456789".to_owned(),
        });
        let played = [trajectory(&["<search>s</search>", "<answer>a</answer>"], &[("s", "x")])];
        let config = RolloutConfig { max_new_tokens: 100, ..RolloutConfig::default() };
        let found = without_stops(&policy, &played, &config).unwrap();
        // 18 of 28 and 18 of 27 bytes are kept, and neither end of sequence.
        let share = (11.0 + 10.0) / (29.0 + 28.0);
        assert!((found[&ClaimMetric::DiscardedShare] - share).abs() < 1e-9, "{found:?}");
        assert_eq!(found[&ClaimMetric::TrailingAnswers], 1.0);
    }
}
