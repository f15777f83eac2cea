//! Group Relative Policy Optimization with outcome rewards.

use serde::{Deserialize, Serialize};
use zs_model::TokenScores;

use super::{
    Advantages, Algorithm, AlgorithmError, Check, KlPlacement, LossOutput, LossTerms, PolicyBatch,
    RolloutBatch,
};
use crate::advantage::{GroupAdvantageOptions, group_relative_advantages};
use crate::loss::{Aggregation, ClipOptions, KlEstimator};

/// Settings of [`Grpo`]; the defaults are those of ZeroSearch's reference code (`train_grpo.sh`).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct GrpoConfig {
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

impl Default for GrpoConfig {
    fn default() -> Self {
        let GroupAdvantageOptions { normalize_std, std_epsilon } = GroupAdvantageOptions::default();
        Self {
            normalize_std,
            std_epsilon,
            clip: ClipOptions::default(),
            kl_coef: 0.001,
            kl_estimator: KlEstimator::LowVarKl,
            kl_placement: KlPlacement::Loss,
            entropy_coef: 0.001,
            aggregation: Aggregation::TokenMean,
        }
    }
}

/// Group Relative Policy Optimization.
///
/// ```text
/// A_it = (r_i - mean(r_G)) / (std(r_G) + epsilon)
/// L    = agg_it[ clipped_surrogate(rho_it, A_it) + kl_coef * KL_it - entropy_coef * H_it ]
/// ```
///
/// - `r_G`: the outcome rewards of the trajectories of one question
/// - `rho_it`: probability now over probability when sampled
///
/// # Differences
///
/// - From the paper: token mean instead of the mean of episode means (set `aggregation` to
///   `sequence_mean_token_mean` for the latter), as in verl and ZeroSearch's code; entropy bonus 0.001
///   from that code; the KL estimate is bounded.
/// - From ZeroSearch's code: the KL term is *added*, so that it pulls towards the reference model (it
///   is subtracted there, `dp_actor.py` 271); the mean runs over the whole mini-batch instead of each
///   micro-batch; groups are questions (there, an index that two merged data sets may share).
///
/// # References
///
/// - [DeepSeekMath](https://arxiv.org/abs/2402.03300), section 4.1, equations 3 and 4
#[derive(Clone, Debug)]
pub struct Grpo {
    config: GrpoConfig,
}

impl Grpo {
    /// The algorithm with these settings.
    ///
    /// # Errors
    ///
    /// Fails on a setting out of range.
    pub fn new(config: &GrpoConfig) -> Result<Self, AlgorithmError> {
        let check = Check("grpo");
        check.coefficient("std_epsilon", config.std_epsilon)?;
        check.clip(config.clip)?;
        let algorithm = Self { config: config.clone() };
        check.terms(algorithm.terms())?;
        Ok(algorithm)
    }
}

impl Algorithm for Grpo {
    fn name(&self) -> &'static str {
        "grpo"
    }

    fn terms(&self) -> LossTerms {
        let GrpoConfig { aggregation, kl_coef, kl_estimator, kl_placement, entropy_coef, .. } =
            self.config;
        LossTerms { aggregation, kl_coef, kl_estimator, kl_placement, entropy_coef }
    }

    fn advantages(&self, batch: &RolloutBatch<'_>) -> Advantages {
        let GrpoConfig { normalize_std, std_epsilon, .. } = self.config;
        let options = GroupAdvantageOptions { normalize_std, std_epsilon };
        batch.group_advantages(|returns| group_relative_advantages(returns, options)).into()
    }

    fn policy_loss(&self, scores: &TokenScores, batch: &PolicyBatch) -> LossOutput {
        let surrogate = batch.clipped_surrogate(scores, self.config.clip);
        self.terms().policy_loss(surrogate, scores, batch)
    }
}
