//! Divergence Proximal Policy Optimization: a token is left out once its probability has moved too far,
//! not once its ratio has.

use burn::tensor::{Bool, Tensor};
use garde::Validate;
use serde::{Deserialize, Serialize};
use zs_core::registry::{Settings, check};
use zs_model::TokenScores;

use super::{
    Advantages, Algorithm, LossOutput, LossTerms, PolicyBatch, Requirements, RolloutBatch,
    without_dual,
};
use crate::advantage::{GroupAdvantageOptions, group_relative_advantages};
use crate::loss::{ClipOptions, ClippedSurrogate};

/// Divergence Proximal Policy Optimization, with divergences between sampled token and all others.
///
/// ```text
/// A_i = (r_i - mean(r_G)) / (std(r_G) + epsilon)
/// L   = agg_it[ -sg(m_it min(rho_it, max_ratio)) A_i log p_it ]
/// m   = 0 where the update would increase a divergence that is above its bound, else 1
/// TV  = |p - q|
/// KL  = q log(q/p) + (1 - q) log((1 - q)/(1 - p))
/// ```
///
/// - `p`, `q`: probability of the token now and when sampled; `rho = p/q`; `sg`: no gradient
/// - bound `high` for positive advantages, which increase `p`, `low` for the others
///
/// The ratio of a rare token leaves PPO's bounds at the smallest change, that of a likely one hardly ever;
/// the divergence treats both by how much the distribution has moved.
///
/// # References
///
/// - [DPPO](https://arxiv.org/abs/2602.04879), section 5
/// - verl 0.9.1 `compute_policy_loss_dppo_tv` and `compute_policy_loss_dppo_kl`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Validate)]
#[serde(default)]
pub struct Dppo {
    /// Comparison of the returns of one question.
    #[serde(flatten)]
    #[garde(dive)]
    pub group: GroupAdvantageOptions,
    /// Divergence that is bounded.
    #[garde(skip)]
    pub divergence: BinaryDivergence,
    /// Bounds of the divergence.
    #[garde(dive, custom(without_dual))]
    pub clip: ClipOptions,
    /// Largest weight of a token.
    #[garde(custom(check::positive))]
    pub max_ratio: f64,
    /// Average over tokens, and the terms that are added to the loss.
    #[serde(flatten)]
    #[garde(dive)]
    pub terms: LossTerms,
}

/// Divergence of two probabilities of a token.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BinaryDivergence {
    /// Total variation.
    #[default]
    Tv,
    /// Kullback-Leibler divergence.
    Kl,
}

/// Bounds of the paper for total variation, the cap of verl.
impl Default for Dppo {
    fn default() -> Self {
        Self {
            group: GroupAdvantageOptions::default(),
            divergence: BinaryDivergence::default(),
            clip: ClipOptions { low: 0.2, high: 0.2, dual: None },
            max_ratio: 20.0,
            terms: LossTerms::default(),
        }
    }
}

zs_core::settings!(Dppo, "dppo");

impl Algorithm for Dppo {
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
        let log_probs = batch.masked(scores.log_probs.clone());
        let advantages = batch.masked(batch.advantages.clone());
        let [now, sampled] =
            [log_probs.clone().detach(), batch.masked(batch.old_log_probs.clone())];
        let ratio = (now.clone() - sampled.clone()).clamp(-20.0, 20.0).exp();
        let weight = ratio.clamp_max(self.max_ratio);
        let is_positive = advantages.clone().greater_elem(0.0);
        let is_too_far = |bound| self.divergence.exceeds(&now, &sampled, bound);
        let has_grown = now.clone().greater(sampled.clone());
        let above =
            is_too_far(self.clip.high).bool_and(has_grown.clone()).bool_and(is_positive.clone());
        let below = is_too_far(self.clip.low)
            .bool_and(has_grown.bool_not())
            .bool_and(is_positive.bool_not());
        let is_clipped = above.bool_or(below);
        let weight = weight.mask_fill(is_clipped.clone(), 0.0);
        let surrogate = ClippedSurrogate { loss: -weight * advantages * log_probs, is_clipped };
        self.terms.policy_loss(surrogate, scores, batch)
    }
}

impl BinaryDivergence {
    /// True where the divergence of log-probabilities, now from when sampled, is above a bound.
    fn exceeds(self, now: &Tensor<2>, sampled: &Tensor<2>, bound: f64) -> Tensor<2, Bool> {
        let (p, q) = (now.clone().exp(), sampled.clone().exp());
        let divergence = match self {
            Self::Tv => (p - q).abs(),
            Self::Kl => {
                let rest = |it: Tensor<2>| -it + (1.0 + 1e-8);
                let others = (rest(q.clone()) / rest(p)).log() * (-q.clone() + 1.0);
                q * (sampled.clone() - now.clone()) + others
            }
        };
        divergence.greater_elem(bound)
    }
}
