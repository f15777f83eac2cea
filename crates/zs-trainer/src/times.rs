//! Wall-clock times, which never go into metrics.

/// Seconds that the parts of a step took.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct StepTimes {
    /// Playing episodes, everything in it included.
    pub rollout: f64,
    /// Feeding prompts and observations; part of the rollout.
    pub prefill: f64,
    /// Sampling token by token; part of the rollout.
    pub decode: f64,
    /// Waiting for the search engine; part of the rollout.
    pub search: f64,
    /// Updating the policy.
    pub update: f64,
    /// Answering the validation questions.
    pub validation: f64,
}

/// Seconds that a rollout spent on its parts.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct RolloutTimes {
    /// Feeding prompts and observations.
    pub prefill: f64,
    /// Sampling token by token.
    pub decode: f64,
    /// Waiting for the search engine, and nothing else.
    pub search: f64,
    /// Searching while the policy samples another lane (a block of episodes, see
    /// [`RolloutConfig::lanes`](zs_rl::RolloutConfig::lanes)); part of the sampling's time.
    pub search_hidden: f64,
}
