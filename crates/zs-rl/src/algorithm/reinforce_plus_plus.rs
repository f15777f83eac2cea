//! REINFORCE++: token-level returns, normalised over the whole batch.

use serde::{Deserialize, Serialize};
use zs_model::TokenScores;

use super::{
    Advantages, Algorithm, AlgorithmError, Check, KlPlacement, LossOutput, LossTerms, PolicyBatch,
    RolloutBatch,
};
use crate::advantage::{
    GroupAdvantageOptions, discounted_returns, group_relative_advantages, whiten,
};
use crate::loss::{Aggregation, ClipOptions, KlEstimator};

/// Settings of [`ReinforcePlusPlus`]; no discount, as in the paper; the coefficient of the divergence
/// is that of ZeroSearch's PPO.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ReinforcePlusPlusConfig {
    /// What is taken off the returns before they are normalised.
    pub baseline: ReinforcePlusPlusBaseline,
    /// Discount of rewards a token; without effect with a group's mean as baseline.
    pub gamma: f64,
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

impl Default for ReinforcePlusPlusConfig {
    fn default() -> Self {
        Self {
            baseline: ReinforcePlusPlusBaseline::None,
            gamma: 1.0,
            clip: ClipOptions::default(),
            kl_coef: 0.001,
            kl_estimator: KlEstimator::K1,
            kl_placement: KlPlacement::Reward,
            entropy_coef: 0.0,
            aggregation: Aggregation::TokenMean,
        }
    }
}

/// What is taken off the returns before they are normalised.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReinforcePlusPlusBaseline {
    /// Nothing.
    #[default]
    None,
    /// The mean return of the question's trajectories.
    GroupMean,
}

/// REINFORCE++ and REINFORCE++ with a group baseline.
///
/// ```text
/// A_it = whiten(sum_{u >= t} gamma^(u - t) r_iu)   none
/// A_it = whiten(R_i - mean(R_G))                   group_mean
/// L    = agg_it[ clipped_surrogate(rho_it, A_it) + kl_coef * KL_it ]
/// ```
///
/// - `r_iu`: the reward of token `u`, with the divergence taken off where it is part of the reward;
///   only tokens that the policy wrote count as time
/// - `R_i`: the return of trajectory `i`; `R_G`: those of its question
/// - `whiten`: to mean 0 and variance 1 over all tokens that the policy wrote in the batch
///
/// One scale for the whole batch instead of one a question: a question whose samples hardly differ
/// does not get advantages as large as one whose samples do.
///
/// # Differences
///
/// - A group of one keeps its raw return before whitening, as in verl.
///
/// # References
///
/// - [REINFORCE++](https://arxiv.org/abs/2501.03262), section 3; verl 0.9.1
#[derive(Clone, Debug)]
pub struct ReinforcePlusPlus {
    config: ReinforcePlusPlusConfig,
}

impl ReinforcePlusPlus {
    /// The algorithm with these settings.
    ///
    /// # Errors
    ///
    /// Fails on a setting out of range.
    pub fn new(config: &ReinforcePlusPlusConfig) -> Result<Self, AlgorithmError> {
        let check = Check("reinforce_plus_plus");
        check.share("gamma", config.gamma)?;
        check.clip(config.clip)?;
        let algorithm = Self { config: config.clone() };
        check.terms(algorithm.terms())?;
        Ok(algorithm)
    }
}

impl Algorithm for ReinforcePlusPlus {
    fn name(&self) -> &'static str {
        "reinforce_plus_plus"
    }

    fn terms(&self) -> LossTerms {
        let ReinforcePlusPlusConfig {
            aggregation,
            kl_coef,
            kl_estimator,
            kl_placement,
            entropy_coef,
            ..
        } = self.config;
        LossTerms { aggregation, kl_coef, kl_estimator, kl_placement, entropy_coef }
    }

    fn advantages(&self, batch: &RolloutBatch<'_>) -> Advantages {
        let masks = batch.loss_masks();
        let mut tokens = match self.config.baseline {
            ReinforcePlusPlusBaseline::None => {
                let rows = batch.token_rewards.iter().zip(&masks);
                rows.map(|(it, mask)| discounted_returns(it, mask, self.config.gamma)).collect()
            }
            ReinforcePlusPlusBaseline::GroupMean => {
                let centred = GroupAdvantageOptions { normalize_std: false, std_epsilon: 0.0 };
                batch.group_advantages(|returns| group_relative_advantages(returns, centred))
            }
        };
        whiten(&mut tokens, &masks);
        tokens.into()
    }

    fn policy_loss(&self, scores: &TokenScores, batch: &PolicyBatch) -> LossOutput {
        let surrogate = batch.clipped_surrogate(scores, self.config.clip);
        self.terms().policy_loss(surrogate, scores, batch)
    }
}
