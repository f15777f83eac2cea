//! Tapered Off-Policy REINFORCE: right answers are imitated, wrong ones avoided only while they are still
//! likely.

use garde::Validate;
use serde::{Deserialize, Serialize};
use zs_core::registry::Settings;
use zs_model::TokenScores;

use super::{
    Advantages, Algorithm, LossOutput, LossTerms, PolicyBatch, Requirements, RolloutBatch,
};
use crate::advantage::{GroupAdvantageOptions, group_relative_advantages};
use crate::loss::ClippedSurrogate;

/// Tapered Off-Policy REINFORCE.
///
/// ```text
/// A_i = r_i - mean(r_G)
/// L   = agg_it[ -sg(w_i) A_i log p_it ]
/// w_i = 1 where A_i >= 0, else min(1, prod_t rho_it)
/// ```
///
/// - `r_G`: the returns of the trajectories of one question
/// - `rho_it`: probability now over probability when sampled; `sg`: no gradient
///
/// An episode with a negative advantage has no further gradient once it has become unlikely, without which
/// its log-probability falls for ever; one with a positive advantage keeps its whole gradient, however
/// far the policy has moved.
///
/// # Differences
///
/// - The paper's returns are 1 and -1 about a fixed baseline; here they are taken about the mean of their
///   group, and a group of one keeps its raw return.
///
/// # References
///
/// - [TOPR](https://arxiv.org/abs/2503.14286)
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Validate)]
#[serde(default)]
pub struct Topr {
    /// Comparison of the returns of one question.
    #[serde(flatten)]
    #[garde(dive)]
    pub group: GroupAdvantageOptions,
    /// Average over tokens, and the terms that are added to the loss.
    #[serde(flatten)]
    #[garde(dive)]
    pub terms: LossTerms,
}

impl Default for Topr {
    fn default() -> Self {
        let group = GroupAdvantageOptions { normalize_std: false, std_epsilon: 1e-6 };
        Self { group, terms: LossTerms::default() }
    }
}

zs_core::settings!(Topr, "topr");

impl Algorithm for Topr {
    fn name(&self) -> &'static str {
        Self::KIND
    }

    fn requirements(&self) -> Requirements {
        self.terms.into()
    }

    fn advantages(&self, batch: &RolloutBatch<'_>) -> Advantages {
        batch.group_advantages(|returns| group_relative_advantages(returns, self.group)).into()
    }

    fn policy_loss(&self, scores: &TokenScores, batch: &PolicyBatch) -> LossOutput {
        let advantages = batch.masked(batch.advantages.clone());
        let log_ratio = batch.log_ratio(&scores.log_probs.clone().detach());
        let taper = log_ratio.sum_dim(1).clamp(-20.0, 0.0).exp().expand(advantages.dims());
        let is_negative = advantages.clone().lower_elem(0.0);
        let is_clipped = is_negative.clone().bool_and(taper.clone().lower_elem(1.0));
        let weight = taper.ones_like().mask_where(is_negative, taper);
        let loss = -weight * advantages * batch.masked(scores.log_probs.clone());
        self.terms.policy_loss(ClippedSurrogate { loss, is_clipped }, scores, batch)
    }
}
