//! Parts of every policy loss besides its surrogate: aggregation, KL term and entropy bonus.

use garde::Validate;
use serde::{Deserialize, Serialize};
use zs_core::registry::check;
use zs_model::TokenScores;

use super::{LossOutput, PolicyBatch};
use crate::loss::{Aggregation, ClippedSurrogate, KlEstimator, entropy_bonus, kl_divergence};

/// The average over tokens and the terms that are added to a policy loss.
///
/// ```text
/// L = agg_it[ surrogate_it + kl_coef * KL_it - entropy_coef * H_it ]      kl_placement = loss
/// L = agg_it[ surrogate_it - kl_coef * KL_it - entropy_coef * H_it ]      kl_placement = reversed_loss
/// r_it <- r_it - kl_coef * KL_it(when sampled)                            kl_placement = reward
/// ```
///
/// - `KL_it`: estimated divergence from the reference model; `H_it`: entropy of the policy
/// - `r_it`: the reward of token `t`, before advantages are computed from it
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, Validate)]
#[serde(default)]
pub struct LossTerms {
    /// Average over token losses.
    #[garde(dive)]
    pub aggregation: Aggregation,
    /// Weight of the divergence from the reference model; 0 needs no reference model.
    #[garde(custom(check::non_negative))]
    pub kl_coef: f64,
    /// Estimator of that divergence.
    #[garde(skip)]
    pub kl_estimator: KlEstimator,
    /// Place at which that divergence enters.
    #[garde(skip)]
    pub kl_placement: KlPlacement,
    /// Weight of the entropy bonus.
    #[garde(custom(check::non_negative))]
    pub entropy_coef: f64,
}

/// Place at which the divergence from the reference model enters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KlPlacement {
    /// Added to the loss of each token.
    #[default]
    Loss,
    /// Subtracted from the loss of each token, which rewards drift from the reference model: the
    /// sign of ZeroSearch's reference code (`dp_actor.py` 271), to measure its effect.
    ReversedLoss,
    /// Subtracted from the reward of each token, so that it enters the advantages. It is a constant
    /// there, so the gradient of the estimator does not matter.
    Reward,
}

impl LossTerms {
    pub(crate) fn kl_in_reward(self) -> bool {
        self.kl_coef > 0.0 && self.kl_placement == KlPlacement::Reward
    }

    fn kl_in_loss(self) -> bool {
        self.kl_coef > 0.0 && self.kl_placement != KlPlacement::Reward
    }

    /// Returns true if the terms alone have a gradient.
    pub(super) fn have_gradient(self) -> bool {
        self.kl_in_loss() || self.entropy_coef > 0.0
    }

    /// Loss of a micro-batch around a surrogate, and its metrics.
    #[must_use]
    pub fn policy_loss(
        self,
        surrogate: ClippedSurrogate,
        scores: &TokenScores,
        batch: &PolicyBatch,
    ) -> LossOutput {
        let loss = batch.aggregate(surrogate.loss);
        let clipped = batch.token_mean(surrogate.is_clipped.float());
        let mut output = LossOutput {
            metrics: vec![("actor/pg_loss", loss.clone().detach()), ("actor/pg_clipfrac", clipped)],
            loss,
        };
        self.add_to(&mut output, scores, batch);
        output
    }

    /// Adds the terms to a loss, for algorithms without a surrogate of tokens.
    pub fn add_to(self, output: &mut LossOutput, scores: &TokenScores, batch: &PolicyBatch) {
        let mask = &batch.loss_mask;
        let log_probs = scores.log_probs.clone();
        let drift = batch.old_log_probs.clone() - log_probs.clone();
        output.metrics.push(("actor/ppo_kl", batch.token_mean(drift)));
        output.metrics.push(("actor/entropy", batch.token_mean(scores.entropy.clone())));

        if let Some(ref_log_probs) = batch.ref_log_probs.clone().filter(|_| self.kl_in_loss()) {
            let kl = kl_divergence(log_probs, ref_log_probs, mask, self.kl_estimator);
            output.metrics.push(("actor/kl", batch.token_mean(kl.clone())));
            // Plus: a loss that grows with the distance pulls towards the reference.
            let sign = if self.kl_placement == KlPlacement::ReversedLoss { -1.0 } else { 1.0 };
            let weight = sign * self.kl_coef * batch.kl_scale;
            output.loss = output.loss.clone() + batch.aggregate(kl) * weight;
        }
        if self.entropy_coef > 0.0 {
            let bonus = entropy_bonus(scores.entropy.clone(), mask);
            output.loss = output.loss.clone() + batch.aggregate(bonus) * self.entropy_coef;
        }
    }
}
