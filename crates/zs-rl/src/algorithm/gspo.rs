//! Group Sequence Policy Optimization: ratio and clip belong to the whole episode.

use garde::Validate;
use serde::{Deserialize, Serialize};
use zs_core::registry::Settings;
use zs_model::TokenScores;

use super::{
    Advantages, Algorithm, LossOutput, LossTerms, PolicyBatch, Requirements, RolloutBatch,
    without_dual,
};
use crate::advantage::{GroupAdvantageOptions, group_relative_advantages};
use crate::loss::{Aggregation, ClipOptions, sequence_clipped_surrogate};

/// Group Sequence Policy Optimization.
///
/// ```text
/// A_i = (r_i - mean(r_G)) / (std(r_G) + epsilon)
/// s_i = exp(1/n_i sum_t log rho_it)
/// L   = 1/B sum_i max(-s_i A_i, -clip(s_i, 1 - low, 1 + high) A_i)
/// ```
///
/// - `r_G`: the returns of the trajectories of one question
/// - `s_i`: the geometric mean of the probability ratios of episode `i`; `n_i`: its tokens
/// - `B`: episodes of the mini-batch
///
/// The reward belongs to the episode, so the ratio does too: either all tokens of an episode are
/// clipped or none. With one step a batch the ratio is 1 and the gradient is GRPO's with
/// `sequence_mean_token_mean`.
///
/// # References
///
/// - [GSPO](https://arxiv.org/abs/2507.18071), equations 5 to 7
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Validate)]
#[serde(default)]
pub struct Gspo {
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

/// Defaults of the paper.
impl Default for Gspo {
    fn default() -> Self {
        Self {
            group: GroupAdvantageOptions::default(),
            clip: ClipOptions { low: 3e-4, high: 4e-4, dual: None },
            terms: LossTerms {
                aggregation: Aggregation::SequenceMeanTokenMean,
                ..LossTerms::default()
            },
        }
    }
}

zs_core::settings!(Gspo, "gspo");

impl Algorithm for Gspo {
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
        let surrogate = batch.surrogate(sequence_clipped_surrogate, scores, self.clip);
        self.terms.policy_loss(surrogate, scores, batch)
    }
}
