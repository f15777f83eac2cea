//! Clipped IS-weight Policy Optimization: bounded weights instead of dropped tokens.

use garde::Validate;
use serde::{Deserialize, Serialize};
use zs_core::registry::Settings;
use zs_model::TokenScores;

use super::{
    Advantages, Algorithm, LossOutput, LossTerms, PolicyBatch, Requirements, RolloutBatch,
    without_dual,
};
use crate::advantage::{GroupAdvantageOptions, group_relative_advantages};
use crate::loss::{ClipOptions, clipped_importance};

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
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Validate)]
#[serde(default)]
pub struct Cispo {
    /// Comparison of the returns of one question.
    #[serde(flatten)]
    #[garde(dive)]
    pub group: GroupAdvantageOptions,
    /// Bounds of the probability ratio.
    #[garde(dive, custom(without_dual))]
    pub clip: ClipOptions,
    /// Average over tokens, and the terms that are added to the loss.
    #[serde(flatten)]
    #[garde(dive)]
    pub terms: LossTerms,
}

/// No lower bound, as in the paper, which does not publish the upper one: 0.28 is ours, after DAPO.
impl Default for Cispo {
    fn default() -> Self {
        Self {
            group: GroupAdvantageOptions::default(),
            clip: ClipOptions { low: 1.0, high: 0.28, dual: None },
            terms: LossTerms::default(),
        }
    }
}

zs_core::settings!(Cispo, "cispo");

impl Algorithm for Cispo {
    fn name(&self) -> &'static str {
        Self::KIND
    }

    fn requirements(&self) -> Requirements {
        Requirements { clip: self.clip, ..self.terms.into() }
    }

    fn advantages(&self, batch: &RolloutBatch<'_>) -> Advantages {
        batch.group_advantages(|returns| group_relative_advantages(returns, self.group)).into()
    }

    fn policy_loss(&self, scores: &TokenScores, batch: &PolicyBatch) -> LossOutput {
        let surrogate = batch.surrogate(clipped_importance, scores, self.clip);
        self.terms.policy_loss(surrogate, scores, batch)
    }
}
