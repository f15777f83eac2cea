//! The evaluation loop: every question once, in batches, through the rollout that training uses.

use serde::{Deserialize, Serialize};
use zs_core::{Question, SearchEngine};
use zs_model::{Generator, TokenizerError};
use zs_rl::{RolloutConfig, RolloutError, RolloutStats, Trajectory};

use crate::{
    EvaluationReport, Evaluator, Method, PlayedBatch, Protocol, QuestionRecord, ReportError,
};

/// How an evaluation is run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct EvalConfig {
    /// How episodes are played; greedy unless said.
    pub rollout: RolloutConfig,
    /// Questions played at a time. With a deterministic engine it changes speed and memory, not
    /// results.
    pub batch_size: usize,
    /// Seed of sampling, of what the engine draws, and of the bootstrap.
    pub seed: u64,
    /// How often the engine is asked for noisy documents; engines that retrieve ignore it.
    pub noise_probability: f64,
}

impl Default for EvalConfig {
    fn default() -> Self {
        Self {
            rollout: RolloutConfig { temperature: 0.0, ..RolloutConfig::default() },
            batch_size: 64,
            seed: 42,
            noise_probability: 0.0,
        }
    }
}

/// What an evaluation came to. The lists are in the order of the questions.
#[derive(Clone, Debug, PartialEq)]
pub struct Evaluation {
    /// One record a question.
    pub records: Vec<QuestionRecord>,
    /// One episode a question.
    pub trajectories: Vec<Trajectory>,
    /// Counts over the episodes.
    pub stats: RolloutStats,
    /// Means with intervals.
    pub report: EvaluationReport,
}

/// How far an evaluation is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EvalProgress {
    /// Questions done.
    pub num_done: usize,
    /// Of those, how many were answered with an exact match.
    pub num_exact: usize,
    /// Questions in all.
    pub num_questions: usize,
}

/// Why an evaluation could not be run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EvaluateError {
    /// There is nothing to ask.
    #[error("there are no questions to evaluate on")]
    NoQuestions,
    /// Batches of no question would never end.
    #[error("`batch_size` of the evaluation is 0; it must be at least 1")]
    BatchSize,
    /// Questions are to be played no time.
    #[error("`samples` of the evaluation is 0; it must be at least 1")]
    Samples,
    /// A method's template cannot be used.
    #[error("the method's template cannot be used: {message}")]
    Template {
        /// What the template engine said.
        message: String,
    },
    /// A prompt could not be encoded.
    #[error(transparent)]
    Tokenizer(#[from] TokenizerError),
    /// The engine did not return one result a request.
    #[error(
        "search engine `{engine}` returned {results} results for {requests} requests; an engine \
         must return one a request"
    )]
    EngineContract {
        /// The engine.
        engine: String,
        /// Requests sent.
        requests: usize,
        /// Results received.
        results: usize,
    },
    /// The rollout failed.
    #[error(transparent)]
    Rollout(#[from] RolloutError),
    /// The records could not be summed up.
    #[error(transparent)]
    Report(#[from] ReportError),
}

/// Plays one episode a question and scores it under the `strict` protocol.
///
/// # Protocol
///
/// - Exact match is *equality* after `SQuAD` normalisation; containment has its own column,
///   [`QuestionRecord::cover_exact_match`].
/// - Every question counts, those of a last, short batch too. No answer is 0.
/// - The answer is read from the policy model's own last turn, never from prompt or documents.
/// - Temperature 0 is greedy in every batch.
///
/// An episode is a function of seed, question and the question's place in the list, so two policies
/// see the same draws. A search that fails costs that search, not the run; see
/// [`Evaluation::stats`].
///
/// # Differences from the reference code
///
/// There, exact match is containment, an unanswered episode is scored as the prompt's example
/// answer, the last batch is dropped and "greedy" validation samples at temperature 1.
///
/// # Errors
///
/// Fails without questions, on a batch size of zero, and where the rollout fails, e.g. on a prompt
/// that exceeds the context.
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
    let evaluator = Evaluator {
        generator,
        engine,
        config,
        protocol: &Protocol::strict(),
        method: Method::Trained,
        samples: 1,
    };
    let mut trajectories = Vec::with_capacity(questions.len());
    let mut records: Vec<QuestionRecord> = Vec::with_capacity(questions.len());
    evaluator.run(questions, 0, &mut |batch: PlayedBatch| {
        records.extend(batch.records);
        trajectories.extend(batch.trajectories);
        progress(EvalProgress {
            num_done: records.len(),
            num_exact: records.iter().filter(|it| it.exact_match).count(),
            num_questions: questions.len(),
        });
        Ok::<(), EvaluateError>(())
    })?;
    Ok(Evaluation {
        stats: RolloutStats::of(&trajectories),
        report: EvaluationReport::new(&records, config.seed)?,
        records,
        trajectories,
    })
}

#[cfg(test)]
mod tests {
    use zs_core::{Document, SearchRequest, SearchResult};
    use zs_model::testing::ScriptedGenerator;

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
    fn nonsense_is_refused() {
        let none = evaluate(&policy(), &Oracle, &[], &config(2), &mut |_| {});
        assert!(matches!(none, Err(EvaluateError::NoQuestions)));
        let empty_batch = evaluate(&policy(), &Oracle, &questions(), &config(0), &mut |_| {});
        assert!(matches!(empty_batch, Err(EvaluateError::BatchSize)));
    }
}
