//! Errors of rollouts.

use zs_model::{GenerateError, TokenizerError};

/// Errors of rollouts. A failed search is not one.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RolloutError {
    /// A setting is out of range.
    #[error("`{field}` of the rollout config {message}")]
    Config {
        /// The setting.
        field: &'static str,
        /// Problem with the setting.
        message: String,
    },
    /// The noise probability is not a probability.
    #[error("the noise probability is {value}; it must lie in [0, 1]")]
    NoiseProbability {
        /// Its value.
        value: f64,
    },
    /// The prompt template failed on a question.
    #[error("question `{question_id}`: `prompt_template` cannot be rendered: {message}")]
    Template {
        /// The question.
        question_id: String,
        /// Message of the template engine.
        message: String,
    },
    /// The prompt has no tokens.
    #[error("question `{question_id}`: the prompt is empty; check `prompt_template`")]
    EmptyPrompt {
        /// The question.
        question_id: String,
    },
    /// The prompt leaves no room for a single token.
    #[error(
        "question `{question_id}`: the prompt has {num_tokens} tokens and the model's context is \
         {context_length}; shorten `prompt_template` or leave the question out"
    )]
    PromptTooLong {
        /// The question.
        question_id: String,
        /// Tokens of the prompt.
        num_tokens: usize,
        /// Tokens that the model holds.
        context_length: usize,
    },
    /// An episode has no such turn, or no search in it, to branch at.
    #[error(
        "question `{question_id}`: the episode cannot be branched at turn {turn}, which it does not \
         have or which has no search to replace"
    )]
    NoBranch {
        /// The question.
        question_id: String,
        /// The turn, from 0.
        turn: usize,
    },
    /// A text could not be encoded.
    #[error(transparent)]
    Tokenizer(#[from] TokenizerError),
    /// The generator failed.
    #[error("sampling from the policy model failed")]
    Generate(#[from] GenerateError),
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
    /// A helper model did not return one reply a request.
    #[error(
        "agent `{agent}` returned {replies} replies for {requests} requests; an agent must return \
         one a request"
    )]
    AgentContract {
        /// Kind of the helper model.
        agent: &'static str,
        /// Requests sent.
        requests: usize,
        /// Replies received.
        replies: usize,
    },
}
