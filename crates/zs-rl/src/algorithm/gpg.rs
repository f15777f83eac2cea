//! Group Policy Gradient: the plain policy gradient with group advantages, corrected for groups without a
//! gradient.

use garde::Validate;
use serde::{Deserialize, Serialize};
use zs_core::registry::Settings;
use zs_model::TokenScores;

use super::{
    Advantages, Algorithm, LossOutput, LossTerms, PolicyBatch, Requirements, RolloutBatch,
};
use crate::advantage::{GroupAdvantageOptions, group_relative_advantages};
use crate::loss::ClippedSurrogate;

/// Group Policy Gradient.
///
/// ```text
/// A_i   = alpha (r_i - mean(r_G))
/// alpha = episodes / episodes of groups whose returns differ
/// L     = agg_it[ -A_i log p_it ]
/// ```
///
/// - `r_G`: the returns of the trajectories of one question
///
/// No ratio, no clip, no reference model: one optimiser step a batch is on-policy. `alpha` keeps the size of
/// the gradient where many groups are all right or all wrong and have none.
///
/// # Differences
///
/// - verl's `alpha` counts episodes with a reward other than 0, whatever their siblings have; the paper
///   section 3.3 counts those that have a gradient, as here.
/// - A group of one keeps its raw return and counts as one that differs.
///
/// # References
///
/// - [GPG](https://arxiv.org/abs/2504.02546)
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Validate)]
#[serde(default)]
pub struct Gpg {
    /// Comparison of the returns of one question.
    #[serde(flatten)]
    #[garde(dive)]
    pub group: GroupAdvantageOptions,
    /// Average over tokens, and the terms that are added to the loss.
    #[serde(flatten)]
    #[garde(dive)]
    pub terms: LossTerms,
}

/// Defaults of the paper: no division by the standard deviation.
impl Default for Gpg {
    fn default() -> Self {
        let group = GroupAdvantageOptions { normalize_std: false, std_epsilon: 1e-6 };
        Self { group, terms: LossTerms::default() }
    }
}

zs_core::settings!(Gpg, "gpg");

impl Algorithm for Gpg {
    fn name(&self) -> &'static str {
        Self::KIND
    }

    fn requirements(&self) -> Requirements {
        self.terms.into()
    }

    fn advantages(&self, batch: &RolloutBatch<'_>) -> Advantages {
        let differs = |returns: &[f32]| match returns {
            [_] => vec![1.0],
            _ => {
                vec![f32::from(u8::from(returns.iter().any(|it| *it != returns[0]))); returns.len()]
            }
        };
        let num_differing: f32 = batch.per_group(differs).iter().sum();
        let alpha = batch.returns.len() as f32 / num_differing.max(1.0);
        let advantages = batch.per_group(|returns| group_relative_advantages(returns, self.group));
        batch.broadcast(&advantages.iter().map(|it| alpha * it).collect::<Vec<_>>()).into()
    }

    fn policy_loss(&self, scores: &TokenScores, batch: &PolicyBatch) -> LossOutput {
        let advantages = batch.masked(batch.advantages.clone());
        let loss = -advantages * batch.masked(scores.log_probs.clone());
        self.terms.policy_loss(ClippedSurrogate::unclipped(loss), scores, batch)
    }
}
