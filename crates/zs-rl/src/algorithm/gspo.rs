//! Group Sequence Policy Optimization: ratio and clip belong to the whole episode.

use serde::{Deserialize, Serialize};
use zs_model::TokenScores;

use super::{
    Advantages, Algorithm, AlgorithmError, Check, KlPlacement, LossOutput, LossTerms, PolicyBatch,
    RolloutBatch,
};
use crate::advantage::{GroupAdvantageOptions, group_relative_advantages};
use crate::loss::{Aggregation, ClipOptions, KlEstimator, sequence_clipped_surrogate};

/// Settings of [`Gspo`]; the defaults are those of the paper.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct GspoConfig {
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

impl Default for GspoConfig {
    fn default() -> Self {
        Self {
            normalize_std: true,
            std_epsilon: 1e-6,
            clip: ClipOptions { low: 3e-4, high: 4e-4, dual: None },
            kl_coef: 0.0,
            kl_estimator: KlEstimator::LowVarKl,
            kl_placement: KlPlacement::Loss,
            entropy_coef: 0.0,
            aggregation: Aggregation::SequenceMeanTokenMean,
        }
    }
}

/// Group Sequence Policy Optimization.
///
/// ```text
/// A_i = (r_i - mean(r_G)) / (std(r_G) + epsilon)
/// s_i = exp(1/n_i sum_t log rho_it)
/// L   = 1/B sum_i max(-s_i A_i, -clip(s_i, 1 - low, 1 + high) A_i)
/// ```
///
/// - `r_G`: the returns of the trajectories of one question
/// - `s_i`: the geometric mean of the probability ratios of episode `i`; `n_i`: its tokens
/// - `B`: episodes of the mini-batch
///
/// The reward belongs to the episode, so the ratio does too: either all tokens of an episode are
/// clipped or none. With one step a batch the ratio is 1 and the gradient is GRPO's with
/// `sequence_mean_token_mean`.
///
/// # References
///
/// - [GSPO](https://arxiv.org/abs/2507.18071), equations 5 to 7
#[derive(Clone, Debug)]
pub struct Gspo {
    config: GspoConfig,
}

impl Gspo {
    /// The algorithm with these settings.
    ///
    /// # Errors
    ///
    /// Fails on a setting out of range.
    pub fn new(config: &GspoConfig) -> Result<Self, AlgorithmError> {
        let check = Check("gspo");
        check.coefficient("std_epsilon", config.std_epsilon)?;
        check.clip_without_dual(config.clip)?;
        let algorithm = Self { config: config.clone() };
        check.terms(algorithm.terms())?;
        Ok(algorithm)
    }
}

impl Algorithm for Gspo {
    fn name(&self) -> &'static str {
        "gspo"
    }

    fn terms(&self) -> LossTerms {
        let GspoConfig { aggregation, kl_coef, kl_estimator, kl_placement, entropy_coef, .. } =
            self.config;
        LossTerms { aggregation, kl_coef, kl_estimator, kl_placement, entropy_coef }
    }

    fn advantages(&self, batch: &RolloutBatch<'_>) -> Advantages {
        let GspoConfig { normalize_std, std_epsilon, .. } = self.config;
        let options = GroupAdvantageOptions { normalize_std, std_epsilon };
        batch.group_advantages(|returns| group_relative_advantages(returns, options)).into()
    }

    fn policy_loss(&self, scores: &TokenScores, batch: &PolicyBatch) -> LossOutput {
        let surrogate = sequence_clipped_surrogate(
            scores.log_probs.clone(),
            batch.old_log_probs.clone(),
            batch.advantages.clone(),
            &batch.loss_mask,
            self.config.clip,
        );
        self.terms().policy_loss(surrogate, scores, batch)
    }
}
