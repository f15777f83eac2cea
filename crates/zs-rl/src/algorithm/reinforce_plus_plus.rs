//! REINFORCE++: token-level returns, normalised over the whole batch.

use garde::Validate;
use serde::{Deserialize, Serialize};
use zs_core::registry::{Settings, check};

use super::{Advantages, Algorithm, KlPlacement, LossTerms, Requirements, RolloutBatch};
use crate::advantage::{
    GroupAdvantageOptions, discounted_returns, group_relative_advantages, whiten,
};
use crate::loss::{ClipOptions, KlEstimator};

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
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Validate)]
#[serde(default)]
pub struct ReinforcePlusPlus {
    /// Baseline that is subtracted from the returns before they are normalised.
    #[garde(skip)]
    pub baseline: ReinforcePlusPlusBaseline,
    /// Discount of rewards a token; without effect with a group's mean as baseline.
    #[garde(custom(check::fraction))]
    pub gamma: f64,
    /// Bounds of the probability ratio.
    #[garde(dive)]
    pub clip: ClipOptions,
    /// Average over tokens, and the terms that are added to the loss.
    #[serde(flatten)]
    #[garde(dive)]
    pub terms: LossTerms,
}

/// No discount, as in the paper; the coefficient of the divergence is that of ZeroSearch's PPO.
impl Default for ReinforcePlusPlus {
    fn default() -> Self {
        Self {
            baseline: ReinforcePlusPlusBaseline::None,
            gamma: 1.0,
            clip: ClipOptions::default(),
            terms: LossTerms {
                kl_coef: 0.001,
                kl_estimator: KlEstimator::K1,
                kl_placement: KlPlacement::Reward,
                ..LossTerms::default()
            },
        }
    }
}

zs_core::settings!(ReinforcePlusPlus, "reinforce_plus_plus");

/// Baseline that is subtracted from the returns before they are normalised.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReinforcePlusPlusBaseline {
    /// Nothing.
    #[default]
    None,
    /// The mean return of the question's trajectories.
    GroupMean,
}

impl Algorithm for ReinforcePlusPlus {
    fn name(&self) -> &'static str {
        Self::KIND
    }

    fn requirements(&self) -> Requirements {
        Requirements { clip: self.clip, ..self.terms.into() }
    }

    fn advantages(&self, batch: &RolloutBatch<'_>) -> Advantages {
        let masks = batch.loss_masks();
        let mut tokens = match self.baseline {
            ReinforcePlusPlusBaseline::None => {
                let rows = batch.token_rewards.iter().zip(&masks);
                rows.map(|(it, mask)| discounted_returns(it, mask, self.gamma)).collect()
            }
            ReinforcePlusPlusBaseline::GroupMean => {
                let centred = GroupAdvantageOptions { normalize_std: false, std_epsilon: 0.0 };
                batch.group_advantages(|returns| group_relative_advantages(returns, centred))
            }
        };
        whiten(&mut tokens, &masks);
        tokens.into()
    }
}
