//! The evaluation loop: every question once, in batches, through the rollout that training uses.

use zs_core::{Question, SearchEngine};
use zs_model::Generator;

use crate::{EvalConfig, EvalProgress, EvaluateError, Evaluation, Evaluator, Protocol};

/// Plays one episode per question and scores it under the `strict` protocol.
///
/// # Protocol
///
/// - Exact match is *equality* after `SQuAD` normalisation; containment has its own column,
///   [`cover_exact_match`](crate::QuestionRecord::cover_exact_match).
/// - Every question counts, including those of a short last batch. A missing answer scores 0.
/// - The answer is read from the policy model's own last turn, never from prompt or documents.
/// - Temperature 0 is greedy in every batch.
///
/// An episode is a function of seed, question and the question's position in the list, so two policies
/// see the same draws. A failed search does not end the evaluation; [`Evaluation::stats`] counts it.
///
/// # Differences from the reference code
///
/// There, exact match is containment, an unanswered episode is scored as the prompt's example
/// answer, the last batch is dropped, and "greedy" validation samples at temperature 1.
///
/// # Errors
///
/// Fails without questions, on a batch size of zero, and when the rollout fails, e.g. on a prompt that
/// exceeds the context.
///
/// ```
/// use zs_core::{Document, Question, SearchEngine, SearchRequest, SearchResult};
/// use zs_eval::{EvalConfig, evaluate};
/// use zs_model::testing::ScriptedGenerator;
///
/// #[derive(Debug)]
/// struct Almanac;
///
/// impl SearchEngine for Almanac {
///     fn name(&self) -> &str {
///         "almanac"
///     }
///
///     fn search_batch(&self, requests: &[SearchRequest<'_>]) -> Vec<SearchResult> {
///         requests.iter().map(|_| Ok(vec![Document::new("", "The capital is Paris.")])).collect()
///     }
/// }
///
/// // A policy that searches once and then copies what it read.
/// let policy = ScriptedGenerator::new(|text, _| match text.contains("is Paris.") {
///     true => "<answer> Paris </answer>".to_owned(),
///     false => "<search> capital of France </search>".to_owned(),
/// });
/// let questions = [Question::new("q1", "What is the capital of France?", ["Paris"])];
/// let evaluation = evaluate(&policy, &Almanac, &questions, &EvalConfig::default(), &mut |_| {})?;
/// assert_eq!(evaluation.report.overall.exact_match.mean, 1.0);
/// assert_eq!(evaluation.records[0].num_searches, 1);
/// # Ok::<(), zs_eval::EvaluateError>(())
/// ```
pub fn evaluate(
    generator: &dyn Generator,
    engine: &dyn SearchEngine,
    questions: &[Question],
    config: &EvalConfig,
    progress: &mut dyn FnMut(EvalProgress),
) -> Result<Evaluation, EvaluateError> {
    Evaluator::new(generator, engine, config, &Protocol::strict()).evaluate(questions, progress)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use zs_core::registry::Spec;
    use zs_core::{Document, SearchRequest, SearchResult};
    use zs_model::testing::ScriptedGenerator;
    use zs_rl::RolloutConfig;
    use zs_rl::consult::{
        HelperError, HelperKind, HelperModel, HelperRegistry, HelperReply, HelperRequest,
    };
    use zs_rl::program::Harness;

    use super::*;

    /// Answers every query with a document that holds the golden answer.
    #[derive(Debug)]
    struct Oracle;

    impl SearchEngine for Oracle {
        fn name(&self) -> &'static str {
            "oracle"
        }

        fn search_batch(&self, requests: &[SearchRequest<'_>]) -> Vec<SearchResult> {
            let answer = |it: &SearchRequest<'_>| it.question.golden_answers[0].clone();
            requests.iter().map(|it| Ok(vec![Document::new("", answer(it))])).collect()
        }
    }

    fn questions() -> Vec<Question> {
        (0..5)
            .map(|index| Question {
                hops: Some(1 + index % 2),
                ..Question::new(
                    format!("q{index}"),
                    format!("find n{index}"),
                    [format!("n{index}")],
                )
            })
            .collect()
    }

    /// Searches, then copies the first document; never answers about `n3`.
    fn policy() -> ScriptedGenerator {
        ScriptedGenerator::new(|text, _| match text.split("Doc 1: ").nth(1) {
            _ if text.contains("find n3") => "I wonder.".to_owned(),
            None => "<search> n </search>".to_owned(),
            Some(rest) => {
                format!("<answer>{}</answer>", rest.lines().next().unwrap_or_default())
            }
        })
    }

    fn config(batch_size: usize) -> EvalConfig {
        let rollout = RolloutConfig {
            prompt_template: "{{ question }}\n".to_owned(),
            ..EvalConfig::default().rollout
        };
        EvalConfig { rollout, batch_size, ..EvalConfig::default() }
    }

    #[test]
    fn every_question_counts_whatever_the_batch() {
        let mut seen = Vec::new();
        let whole = evaluate(&policy(), &Oracle, &questions(), &config(5), &mut |it| seen.push(it))
            .unwrap();
        let last = EvalProgress { num_done: 5, num_exact: 4, num_questions: 5 };
        assert_eq!(seen, [last]);
        assert_eq!(whole.report.overall.n, 5);
        assert!((whole.report.overall.exact_match.mean - 0.8).abs() < 1e-12);
        assert_eq!(whole.report.by_hops[&1].exact_match.mean, 1.0);
        assert_eq!(whole.report.by_hops[&2].exact_match.mean, 0.5);
        assert_eq!(whole.records[3].prediction, None);
        assert_eq!(whole.stats.num_searches, 4);
        seen.clear();
        let batched =
            evaluate(&policy(), &Oracle, &questions(), &config(2), &mut |it| seen.push(it))
                .unwrap();
        assert_eq!(seen.iter().map(|it| it.num_done).collect::<Vec<_>>(), [2, 4, 5]);
        assert_eq!(batched, whole);
    }

    #[test]
    fn program_functions_help_a_policy_that_never_searches() {
        // It copies what it reads, and guesses where it has read nothing.
        let policy = || {
            ScriptedGenerator::new(|text, _| match text.split("Doc 1: ").nth(1) {
                None => "<answer> Atlantis </answer>".to_owned(),
                Some(rest) => {
                    format!("<answer>{}</answer>", rest.lines().next().unwrap_or_default())
                }
            })
        };
        let score = |config: &EvalConfig| {
            let evaluation = evaluate(&policy(), &Oracle, &questions(), config, &mut |_| {});
            evaluation.unwrap().report.overall.exact_match.mean
        };
        assert_eq!(score(&config(2)), 0.0);
        let mut with = config(2);
        with.rollout.programs = vec![Spec::named("insufficient_exploration")];
        assert_eq!(score(&with), 1.0);
        // The same library by hand.
        let (policy, config) = (policy(), config(2));
        let harness = Harness::of(&zs_rl::program::builtin(), &with.rollout.programs).unwrap();
        let protocol = Protocol::strict();
        let evaluator = Evaluator {
            harness: Some(&harness),
            ..Evaluator::new(&policy, &Oracle, &config, &protocol)
        };
        let by_hand = evaluator.evaluate(&questions(), &mut |_| {}).unwrap();
        let by_name = evaluate(&policy, &Oracle, &questions(), &with, &mut |_| {}).unwrap();
        assert_eq!(by_hand, by_name);
    }

    /// An agent that must not be asked.
    #[derive(Debug)]
    struct Forbidden;

    impl HelperModel for Forbidden {
        fn consult_batch(
            &self,
            _requests: &[HelperRequest<'_>],
        ) -> Vec<Result<HelperReply, HelperError>> {
            panic!("an evaluation without agents asked one")
        }
    }

    #[test]
    fn an_evaluation_asks_no_agent_that_it_is_not_given() {
        let policy = ScriptedGenerator::new(|text, _| match text.contains("</verify>") {
            false => "<verify> n </verify>".to_owned(),
            true => "<answer> n0 </answer>".to_owned(),
        });
        let registry = HelperRegistry::new(5).with(HelperKind::Verify, Arc::new(Forbidden));
        let config = config(5);
        let plain = evaluate(&policy, &Oracle, &questions(), &config, &mut |_| {}).unwrap();
        assert_eq!(plain.stats.num_consults, 0);
        let protocol = Protocol::strict();
        let given = Evaluator {
            consultants: Some(&registry),
            ..Evaluator::new(&policy, &Oracle, &config, &protocol)
        };
        let asked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            given.evaluate(&questions(), &mut |_| {})
        }));
        assert!(asked.is_err(), "the policy does ask where it may");
    }

    #[test]
    fn nonsense_is_refused() {
        let none = evaluate(&policy(), &Oracle, &[], &config(2), &mut |_| {});
        assert!(matches!(none, Err(EvaluateError::NoQuestions)));
        let empty_batch = evaluate(&policy(), &Oracle, &questions(), &config(0), &mut |_| {});
        assert!(matches!(empty_batch, Err(EvaluateError::BatchSize)));
    }
}
