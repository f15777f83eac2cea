//! REINFORCE with leave-one-out baselines.

use serde::{Deserialize, Serialize};
use zs_model::TokenScores;

use super::{
    Advantages, Algorithm, AlgorithmError, Check, KlPlacement, LossOutput, LossTerms, PolicyBatch,
    RolloutBatch,
};
use crate::advantage::leave_one_out_advantages;
use crate::loss::{Aggregation, ClipOptions, KlEstimator};

/// Settings of [`Rloo`]; the divergence is part of the reward, as in the paper; its
/// coefficient is that of ZeroSearch's PPO.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RlooConfig {
    /// Bounds of the probability ratio.
    pub clip: ClipOptions,
    /// Weight of the divergence from the reference model; 0 needs no reference model.
    pub kl_coef: f64,
    /// How that divergence is estimated.
    pub kl_estimator: KlEstimator,
    /// Where that divergence enters.
    pub kl_placement: KlPlacement,
    /// Weight of the entropy bonus.
    pub entropy_coef: f64,
    /// How token losses are averaged.
    pub aggregation: Aggregation,
}

impl Default for RlooConfig {
    fn default() -> Self {
        Self {
            clip: ClipOptions::default(),
            kl_coef: 0.001,
            kl_estimator: KlEstimator::K1,
            kl_placement: KlPlacement::Reward,
            entropy_coef: 0.0,
            aggregation: Aggregation::SequenceMeanTokenSum,
        }
    }
}

/// REINFORCE Leave-One-Out.
///
/// ```text
/// A_it = r_i - 1/(n - 1) sum_{j != i} r_j
/// L    = agg_it[ clipped_surrogate(rho_it, A_it) ],   r_i with the divergence taken off
/// ```
///
/// - `r_i`: the return of trajectory `i`; `n`: trajectories of its question
/// - `rho_it`: probability now over probability when sampled
///
/// # Differences
///
/// - From the paper: the clipped surrogate instead of the plain policy gradient; the two are the same
///   at the first step of a batch, where the ratio is 1.
/// - The sum over tokens is the log-probability of the episode, so `aggregation` defaults to
///   `sequence_mean_token_sum`.
///
/// # References
///
/// - [Back to Basics](https://arxiv.org/abs/2402.14740), section 3.3
#[derive(Clone, Debug)]
pub struct Rloo {
    config: RlooConfig,
}

impl Rloo {
    /// The algorithm with these settings.
    ///
    /// # Errors
    ///
    /// Fails on a setting out of range.
    pub fn new(config: &RlooConfig) -> Result<Self, AlgorithmError> {
        let check = Check("rloo");
        check.clip(config.clip)?;
        let algorithm = Self { config: config.clone() };
        check.terms(algorithm.terms())?;
        Ok(algorithm)
    }
}

impl Algorithm for Rloo {
    fn name(&self) -> &'static str {
        "rloo"
    }

    fn terms(&self) -> LossTerms {
        let RlooConfig { aggregation, kl_coef, kl_estimator, kl_placement, entropy_coef, .. } =
            self.config;
        LossTerms { aggregation, kl_coef, kl_estimator, kl_placement, entropy_coef }
    }

    fn advantages(&self, batch: &RolloutBatch<'_>) -> Advantages {
        batch.group_advantages(leave_one_out_advantages).into()
    }

    fn policy_loss(&self, scores: &TokenScores, batch: &PolicyBatch) -> LossOutput {
        let surrogate = batch.clipped_surrogate(scores, self.config.clip);
        self.terms().policy_loss(surrogate, scores, batch)
    }
}
