//! Soft Adaptive Policy Optimization: a smooth gate in place of the clip.

use burn::tensor::activation::sigmoid;
use garde::Validate;
use serde::{Deserialize, Serialize};
use zs_core::registry::{Settings, check};
use zs_model::TokenScores;

use super::{
    Advantages, Algorithm, LossOutput, LossTerms, PolicyBatch, Requirements, RolloutBatch,
};
use crate::advantage::{GroupAdvantageOptions, group_relative_advantages};
use crate::loss::{Aggregation, ClippedSurrogate};

/// Soft Adaptive Policy Optimization.
///
/// ```text
/// A_i    = (r_i - mean(r_G)) / (std(r_G) + epsilon)
/// L      = -1/B sum_i 1/n_i sum_t f(rho_it) A_i
/// f(rho) = 4/tau sigmoid(tau (rho - 1)),   tau = tau_positive where A_i > 0, else tau_negative
/// ```
///
/// - `r_G`: the returns of the trajectories of one question; `n_i`: tokens of episode `i`
/// - `rho_it`: probability now over probability when sampled
///
/// The gradient of a token is that of `rho_it A_i` times `4 s (1 - s)` with `s` the sigmoid: 1 at
/// `rho = 1`, and falling on both sides, faster where `tau` is larger. Nothing is cut off.
///
/// # References
///
/// - [SAPO](https://arxiv.org/abs/2511.20347)
/// - verl 0.9.1 `compute_policy_loss_sapo`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Validate)]
#[serde(default)]
pub struct Sapo {
    /// Comparison of the returns of one question.
    #[serde(flatten)]
    #[garde(dive)]
    pub group: GroupAdvantageOptions,
    /// Steepness of the gate of tokens with a positive advantage.
    #[garde(custom(check::positive))]
    pub tau_positive: f64,
    /// Steepness of the gate of the others.
    #[garde(custom(check::positive))]
    pub tau_negative: f64,
    /// Average over tokens, and the terms that are added to the loss.
    #[serde(flatten)]
    #[garde(dive)]
    pub terms: LossTerms,
}

/// Defaults of the paper.
impl Default for Sapo {
    fn default() -> Self {
        Self {
            group: GroupAdvantageOptions::default(),
            tau_positive: 1.0,
            tau_negative: 1.05,
            terms: LossTerms {
                aggregation: Aggregation::SequenceMeanTokenMean,
                ..LossTerms::default()
            },
        }
    }
}

zs_core::settings!(Sapo, "sapo");

impl Algorithm for Sapo {
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
        let ratio = batch.log_ratio(&scores.log_probs).clamp(-20.0, 20.0).exp();
        let advantages = batch.masked(batch.advantages.clone());
        let gate = |tau: f64| sigmoid((ratio.clone() - 1.0) * tau) * (4.0 / tau);
        let is_positive = advantages.clone().greater_elem(0.0);
        let gate = gate(self.tau_negative).mask_where(is_positive, gate(self.tau_positive));
        let surrogate = ClippedSurrogate::unclipped(-gate * advantages);
        self.terms.policy_loss(surrogate, scores, batch)
    }
}
