//! Settings of rollouts.

use serde::{Deserialize, Serialize};
use zs_core::registry::Spec;
use zs_model::SamplingParams;

use super::{PromptTemplate, RolloutError, TokenBudget};

/// The prompt of ZeroSearch, as a template.
pub const ZEROSEARCH_PROMPT: &str = include_str!("../../templates/zerosearch.jinja");

/// Settings of rollouts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RolloutConfig {
    /// Turns that may search. One more turn follows in which the policy can only answer. Invalid
    /// turns count.
    pub max_searches: u32,
    /// Documents asked for in each search.
    pub num_documents: usize,
    /// Tokens that the policy may write in one turn.
    pub max_new_tokens: usize,
    /// Softmax temperature; 0 is greedy.
    pub temperature: f32,
    /// Nucleus mass.
    pub top_p: f32,
    /// Tokens of one `<information>` block, tags included.
    pub max_observation_tokens: usize,
    /// Tokens of the context that an observation leaves free, so that the turn after it can be
    /// written.
    pub min_turn_tokens: usize,
    /// If true, documents are shown with their titles.
    pub document_titles: bool,
    /// A minijinja template with the variable `question`.
    pub prompt_template: String,
    /// Tokens that the policy may write in an episode; only the context limits it by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token_budget: Option<TokenBudget>,
    /// Program functions to play with, in the order in which they are asked: names, or tables with
    /// settings.
    #[serde(with = "crate::program::specs", skip_serializing_if = "Vec::is_empty")]
    pub programs: Vec<Spec>,
    /// Number of lanes (pipelined rollout batches): blocks of neighbouring episodes that share the
    /// policy model in turn. While one is sampled, the others search or wait for helper models.
    /// Consecutive episodes of the same question stay together, so there are no more blocks than
    /// such groups.
    ///
    /// Changes speed and memory, and with a deterministic engine no episode (up to rounding, as any
    /// other size of a batch). It helps where searches are computed elsewhere: servers, web search,
    /// a simulation LLM on a device of its own. It does not help a simulation LLM that shares its
    /// cores or its GPU with the policy. Several lanes mean several concurrent batches at the
    /// engine and at helper models, so anything that depends on the order of requests may differ
    /// from run to run: the searches that a budget still covers, the cache hits among equal
    /// searches, the waits of a rate limit, latencies in the ledger, and the errors of a server.
    #[serde(skip_serializing_if = "is_one")]
    pub lanes: usize,
}

fn is_one(lanes: &usize) -> bool {
    *lanes == 1
}

/// The settings of ZeroSearch (reference code, README and `ppo_trainer.yaml`): 5 searches,
/// 5 documents, 500 tokens a turn, 2048 an observation, temperature 1.
///
/// `top_p` is 1 here and 0.95 there, where log-probabilities were nevertheless taken from the full
/// distribution, so that the gradient was that of a policy that had not been sampled from.
impl Default for RolloutConfig {
    fn default() -> Self {
        Self {
            max_searches: 5,
            num_documents: 5,
            max_new_tokens: 500,
            temperature: 1.0,
            top_p: 1.0,
            max_observation_tokens: 2048,
            min_turn_tokens: 1,
            document_titles: false,
            prompt_template: ZEROSEARCH_PROMPT.to_owned(),
            token_budget: None,
            programs: Vec::new(),
            lanes: 1,
        }
    }
}

impl RolloutConfig {
    /// Sampling parameters of one turn.
    #[must_use]
    pub fn sampling_params(&self) -> SamplingParams {
        SamplingParams {
            temperature: self.temperature,
            top_p: self.top_p,
            max_new_tokens: self.max_new_tokens,
            stop: vec!["</search>".to_owned(), "</answer>".to_owned()],
            ..SamplingParams::default()
        }
    }

    /// Checks every field on its own, so that a run fails at its start and not in its first rollout.
    ///
    /// # Errors
    ///
    /// Fails on a count of zero, a temperature or `top_p` out of range, or a template that does not
    /// parse or never mentions `question`.
    pub fn validate(&self) -> Result<(), RolloutError> {
        self.template().map(|_| ())
    }

    /// Parses the prompt template, once every number is checked.
    pub(super) fn template(&self) -> Result<PromptTemplate, RolloutError> {
        self.check_numbers()?;
        PromptTemplate::new(&self.prompt_template)
    }

    fn check_numbers(&self) -> Result<(), RolloutError> {
        let refuse =
            |field, message: &str| Err(RolloutError::Config { field, message: message.to_owned() });
        if self.num_documents == 0 {
            return refuse("num_documents", "must be at least 1");
        }
        if self.max_new_tokens == 0 {
            return refuse("max_new_tokens", "must be at least 1");
        }
        if self.min_turn_tokens == 0 {
            return refuse("min_turn_tokens", "must be at least 1");
        }
        if !(self.temperature.is_finite() && self.temperature >= 0.0) {
            return refuse("temperature", "must be finite and not negative");
        }
        if !(self.top_p > 0.0 && self.top_p <= 1.0) {
            return refuse("top_p", "must lie in (0, 1]");
        }
        if self.token_budget.as_ref().is_some_and(|it| !it.is_valid()) {
            return refuse("token_budget", "must allow at least 1 token");
        }
        if self.lanes == 0 {
            return refuse("lanes", "must be at least 1");
        }
        let mut programs = self.programs.iter().enumerate();
        if programs.any(|(index, it)| self.programs[..index].iter().any(|f| f.kind == it.kind)) {
            return refuse("programs", "must name each function once");
        }
        Ok(())
    }
}
