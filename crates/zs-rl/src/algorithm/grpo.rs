//! Group Relative Policy Optimization with outcome rewards.

use garde::Validate;
use serde::{Deserialize, Serialize};
use zs_core::registry::Settings;

use super::{Advantages, Algorithm, LossTerms, Requirements, RolloutBatch};
use crate::advantage::{GroupAdvantageOptions, group_relative_advantages};
use crate::loss::ClipOptions;

/// Group Relative Policy Optimization.
///
/// ```text
/// A_it = (r_i - mean(r_G)) / (std(r_G) + epsilon)
/// L    = agg_it[ clipped_surrogate(rho_it, A_it) + kl_coef * KL_it - entropy_coef * H_it ]
/// ```
///
/// - `r_G`: the outcome rewards of the trajectories of one question
/// - `rho_it`: probability now over probability when sampled
///
/// # Differences
///
/// - From the paper: token mean instead of the mean of episode means (set `aggregation` to
///   `sequence_mean_token_mean` for the latter), as in verl and ZeroSearch's code; entropy bonus 0.001
///   from that code; the KL estimate is bounded.
/// - From ZeroSearch's code: the KL term is *added*, so that it pulls towards the reference model (it
///   is subtracted there, `dp_actor.py` 271); the mean runs over the whole mini-batch instead of each
///   micro-batch; groups are questions (there, an index that two merged data sets may share).
///
/// # References
///
/// - [DeepSeekMath](https://arxiv.org/abs/2402.03300), section 4.1, equations 3 and 4
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Validate)]
#[serde(default)]
pub struct Grpo {
    /// Comparison of the returns of one question.
    #[serde(flatten)]
    #[garde(dive)]
    pub group: GroupAdvantageOptions,
    /// Bounds of the probability ratio.
    #[garde(dive)]
    pub clip: ClipOptions,
    /// Average over tokens, and the terms that are added to the loss.
    #[serde(flatten)]
    #[garde(dive)]
    pub terms: LossTerms,
}

/// Defaults of ZeroSearch's reference code (`train_grpo.sh`).
impl Default for Grpo {
    fn default() -> Self {
        Self {
            group: GroupAdvantageOptions::default(),
            clip: ClipOptions::default(),
            terms: LossTerms { kl_coef: 0.001, entropy_coef: 0.001, ..LossTerms::default() },
        }
    }
}

zs_core::settings!(Grpo, "grpo");

impl Algorithm for Grpo {
    fn name(&self) -> &'static str {
        Self::KIND
    }

    fn requirements(&self) -> Requirements {
        Requirements { clip: self.clip, ..self.terms.into() }
    }

    fn advantages(&self, batch: &RolloutBatch<'_>) -> Advantages {
        batch.group_advantages(|returns| group_relative_advantages(returns, self.group)).into()
    }
}
