//! Clipped IS-weight Policy Optimization: bounded weights instead of dropped tokens.

use serde::{Deserialize, Serialize};
use zs_model::TokenScores;

use super::{
    Advantages, Algorithm, AlgorithmError, Check, KlPlacement, LossOutput, LossTerms, PolicyBatch,
    RolloutBatch,
};
use crate::advantage::{GroupAdvantageOptions, group_relative_advantages};
use crate::loss::{Aggregation, ClipOptions, KlEstimator, clipped_importance};

/// Settings of [`Cispo`]; no lower bound, as in the paper, which does not publish the upper
/// one: 0.28 is ours, after DAPO.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CispoConfig {
    /// Whether advantages are divided by the group's standard deviation.
    pub normalize_std: bool,
    /// Keeps the standard deviation away from zero.
    pub std_epsilon: f64,
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

impl Default for CispoConfig {
    fn default() -> Self {
        Self {
            normalize_std: true,
            std_epsilon: 1e-6,
            clip: ClipOptions { low: 1.0, high: 0.28, dual: None },
            kl_coef: 0.0,
            kl_estimator: KlEstimator::LowVarKl,
            kl_placement: KlPlacement::Loss,
            entropy_coef: 0.0,
            aggregation: Aggregation::TokenMean,
        }
    }
}

/// Clipped IS-weight Policy Optimization.
///
/// ```text
/// A_it = (r_i - mean(r_G)) / (std(r_G) + epsilon)
/// L    = agg_it[ -sg(clip(rho_it, 1 - low, 1 + high)) A_it log p_it ]
/// ```
///
/// - `r_G`: the returns of the trajectories of one question
/// - `rho_it`: probability now over probability when sampled; `sg`: no gradient
///
/// Rare tokens that open a new line of thought have large ratios after the first step, and the
/// clipped surrogate drops them. Here every token keeps a gradient.
///
/// # References
///
/// - [MiniMax-M1](https://arxiv.org/abs/2506.13585), section 3.1, equations 4 and 5
#[derive(Clone, Debug)]
pub struct Cispo {
    config: CispoConfig,
}

impl Cispo {
    /// The algorithm with these settings.
    ///
    /// # Errors
    ///
    /// Fails on a setting out of range.
    pub fn new(config: &CispoConfig) -> Result<Self, AlgorithmError> {
        let check = Check("cispo");
        check.coefficient("std_epsilon", config.std_epsilon)?;
        check.clip_without_dual(config.clip)?;
        let algorithm = Self { config: config.clone() };
        check.terms(algorithm.terms())?;
        Ok(algorithm)
    }
}

impl Algorithm for Cispo {
    fn name(&self) -> &'static str {
        "cispo"
    }

    fn terms(&self) -> LossTerms {
        let CispoConfig { aggregation, kl_coef, kl_estimator, kl_placement, entropy_coef, .. } =
            self.config;
        LossTerms { aggregation, kl_coef, kl_estimator, kl_placement, entropy_coef }
    }

    fn advantages(&self, batch: &RolloutBatch<'_>) -> Advantages {
        let CispoConfig { normalize_std, std_epsilon, .. } = self.config;
        let options = GroupAdvantageOptions { normalize_std, std_epsilon };
        batch.group_advantages(|returns| group_relative_advantages(returns, options)).into()
    }

    fn policy_loss(&self, scores: &TokenScores, batch: &PolicyBatch) -> LossOutput {
        let surrogate = clipped_importance(
            scores.log_probs.clone(),
            batch.old_log_probs.clone(),
            batch.advantages.clone(),
            &batch.loss_mask,
            self.config.clip,
        );
        self.terms().policy_loss(surrogate, scores, batch)
    }
}
