//! Settings, result and failure of an evaluation.

use serde::{Deserialize, Serialize};
use zs_model::TokenizerError;
use zs_rl::{RolloutConfig, RolloutError, RolloutStats, Trajectory};

use crate::{EvaluationReport, QuestionRecord, ReportError};

/// Settings of an evaluation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct EvalConfig {
    /// Rollout of the episodes; greedy by default.
    pub rollout: RolloutConfig,
    /// Number of episodes per batch. With a deterministic engine it changes speed and memory, not
    /// results.
    pub batch_size: usize,
    /// Seed of sampling, of the engine's draws and of the bootstrap.
    pub seed: u64,
    /// Probability of requesting noisy documents; retrieval engines ignore it.
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

/// Result of an evaluation. The lists are in the order of the questions.
#[derive(Clone, Debug, PartialEq)]
pub struct Evaluation {
    /// One record per question.
    pub records: Vec<QuestionRecord>,
    /// One episode per question.
    pub trajectories: Vec<Trajectory>,
    /// Counts over the episodes.
    pub stats: RolloutStats,
    /// Means with intervals.
    pub report: EvaluationReport,
}

/// Progress of an evaluation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EvalProgress {
    /// Finished questions.
    pub num_done: usize,
    /// Finished questions with an exact match.
    pub num_exact: usize,
    /// All questions.
    pub num_questions: usize,
}

/// Failure of an evaluation.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EvaluateError {
    /// There are no questions.
    #[error("there are no questions to evaluate on")]
    NoQuestions,
    /// The batch size is 0.
    #[error("`batch_size` of the evaluation is 0; set it to at least 1")]
    BatchSize,
    /// The number of samples is 0.
    #[error("`samples` of the evaluation is 0; set it to at least 1")]
    Samples,
    /// The prompt template of a method is invalid.
    #[error("the prompt template of the method is invalid: {message}")]
    Template {
        /// The error of the template engine.
        message: String,
    },
    /// A prompt could not be encoded.
    #[error(transparent)]
    Tokenizer(#[from] TokenizerError),
    /// The engine did not return one result per request.
    #[error(
        "search engine `{engine}` returned {results} results for {requests} requests; an engine \
         must return one per request"
    )]
    EngineContract {
        /// The engine.
        engine: String,
        /// Number of requests.
        requests: usize,
        /// Number of results.
        results: usize,
    },
    /// The rollout failed.
    #[error(transparent)]
    Rollout(#[from] RolloutError),
    /// The records could not be summarised.
    #[error(transparent)]
    Report(#[from] ReportError),
}

impl From<minijinja::Error> for EvaluateError {
    fn from(error: minijinja::Error) -> Self {
        Self::Template { message: format!("{error:#}") }
    }
}
