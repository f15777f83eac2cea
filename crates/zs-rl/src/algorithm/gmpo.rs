//! Geometric-Mean Policy Optimization: the ratio of an episode is the geometric mean of its tokens'
//! clipped ratios.

use garde::Validate;
use serde::{Deserialize, Serialize};
use zs_core::registry::Settings;
use zs_model::TokenScores;

use super::{
    Advantages, Algorithm, LossOutput, LossTerms, PolicyBatch, Requirements, RolloutBatch,
    without_dual,
};
use crate::advantage::{GroupAdvantageOptions, group_relative_advantages};
use crate::loss::{Aggregation, ClipOptions, ClippedSurrogate};

/// Geometric-Mean Policy Optimization.
///
/// ```text
/// A_i  = (r_i - mean(r_G)) / (std(r_G) + epsilon)
/// d_it = log rho_it, at most high where A_i > 0, at least -low where A_i < 0
/// L    = -1/B sum_i A_i exp(1/n_i sum_t d_it)
/// ```
///
/// - `r_G`: the returns of the trajectories of one question; `n_i`: tokens of episode `i`
/// - `rho_it`: probability now over probability when sampled
///
/// The clip acts on each token's log-ratio before the mean, so one outlier neither moves the ratio of its
/// episode nor stops the gradient of its other tokens, as GSPO's clip of the mean does. `low` and `high` are
/// bounds of logarithms.
///
/// # References
///
/// - [GMPO](https://arxiv.org/abs/2507.20673)
/// - verl 0.9.1 `compute_policy_loss_geo_mean`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Validate)]
#[serde(default)]
pub struct Gmpo {
    /// Comparison of the returns of one question.
    #[serde(flatten)]
    #[garde(dive)]
    pub group: GroupAdvantageOptions,
    /// Bounds of the log-ratio of a token.
    #[garde(dive, custom(without_dual))]
    pub clip: ClipOptions,
    /// Average over tokens, and the terms that are added to the loss.
    #[serde(flatten)]
    #[garde(dive)]
    pub terms: LossTerms,
}

/// Defaults of the paper.
impl Default for Gmpo {
    fn default() -> Self {
        Self {
            group: GroupAdvantageOptions::default(),
            clip: ClipOptions { low: 0.4, high: 0.4, dual: None },
            terms: LossTerms {
                aggregation: Aggregation::SequenceMeanTokenMean,
                ..LossTerms::default()
            },
        }
    }
}

zs_core::settings!(Gmpo, "gmpo");

impl Algorithm for Gmpo {
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
        let num_tokens = batch.loss_mask.clone().float().sum_dim(1).clamp_min(1.0);
        let advantages = batch.masked(batch.advantages.clone());
        let log_ratio = batch.log_ratio(&scores.log_probs);
        let bounded = log_ratio.clone().clamp(-self.clip.low, self.clip.high);
        let is_clipped = bounded.clone().not_equal(log_ratio.clone());
        let sign = advantages.clone().sign();
        let kept = (sign.clone() * log_ratio).min_pair(sign.clone() * bounded) * sign;
        let ratio = (kept.sum_dim(1) / num_tokens.clone()).clamp_max(20.0).exp();
        let loss = -ratio * (advantages.clone().sum_dim(1) / num_tokens);
        // Every token has its episode's loss, so that the mean over them is that of the episode.
        let loss = batch.masked(loss.expand(advantages.dims()));
        self.terms.policy_loss(ClippedSurrogate { loss, is_clipped }, scores, batch)
    }
}
