//! GRPO without its two biases: no division by the standard deviation, none by the length.

use serde::{Deserialize, Serialize};
use zs_model::TokenScores;

use super::{
    Advantages, Algorithm, AlgorithmError, Check, KlPlacement, LossOutput, LossTerms, PolicyBatch,
    RolloutBatch,
};
use crate::advantage::{GroupAdvantageOptions, group_relative_advantages};
use crate::loss::{Aggregation, ClipOptions, KlEstimator};

/// Settings of [`DrGrpo`]; the defaults are those of the paper, with the length that
/// ZeroSearch allows an episode.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DrGrpoConfig {
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

impl Default for DrGrpoConfig {
    fn default() -> Self {
        Self {
            clip: ClipOptions::default(),
            kl_coef: 0.0,
            kl_estimator: KlEstimator::LowVarKl,
            kl_placement: KlPlacement::Loss,
            entropy_coef: 0.0,
            aggregation: Aggregation::FixedLength { length: 4096 },
        }
    }
}

/// Dr. GRPO ("GRPO done right").
///
/// ```text
/// A_it = r_i - mean(r_G)
/// L    = 1/(B length) sum_it clipped_surrogate(rho_it, A_it)
/// ```
///
/// - `r_G`: the returns of the trajectories of one question; `B`: episodes of the mini-batch
/// - `length`: a constant, the most tokens that an episode may write
///
/// Dividing by the standard deviation favours questions that are nearly always or nearly never
/// solved; dividing by the length of an episode makes long wrong answers cheap. Both are gone.
///
/// # Differences
///
/// - A group of one keeps its raw return; the paper does not say.
///
/// # References
///
/// - [Understanding R1-Zero-like training](https://arxiv.org/abs/2503.20783), section 3.2
#[derive(Clone, Debug)]
pub struct DrGrpo {
    config: DrGrpoConfig,
}

impl DrGrpo {
    /// The algorithm with these settings.
    ///
    /// # Errors
    ///
    /// Fails on a setting out of range.
    pub fn new(config: &DrGrpoConfig) -> Result<Self, AlgorithmError> {
        let check = Check("dr_grpo");
        check.clip(config.clip)?;
        let algorithm = Self { config: config.clone() };
        check.terms(algorithm.terms())?;
        Ok(algorithm)
    }
}

impl Algorithm for DrGrpo {
    fn name(&self) -> &'static str {
        "dr_grpo"
    }

    fn terms(&self) -> LossTerms {
        let DrGrpoConfig { aggregation, kl_coef, kl_estimator, kl_placement, entropy_coef, .. } =
            self.config;
        LossTerms { aggregation, kl_coef, kl_estimator, kl_placement, entropy_coef }
    }

    fn advantages(&self, batch: &RolloutBatch<'_>) -> Advantages {
        let options = GroupAdvantageOptions { normalize_std: false, std_epsilon: 0.0 };
        batch.group_advantages(|returns| group_relative_advantages(returns, options)).into()
    }

    fn policy_loss(&self, scores: &TokenScores, batch: &PolicyBatch) -> LossOutput {
        let surrogate = batch.clipped_surrogate(scores, self.config.clip);
        self.terms().policy_loss(surrogate, scores, batch)
    }
}
