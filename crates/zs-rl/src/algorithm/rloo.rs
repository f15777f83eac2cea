//! REINFORCE with leave-one-out baselines.

use garde::Validate;
use serde::{Deserialize, Serialize};
use zs_core::registry::Settings;

use super::{Advantages, Algorithm, KlPlacement, LossTerms, Requirements, RolloutBatch};
use crate::advantage::leave_one_out_advantages;
use crate::loss::{Aggregation, ClipOptions, KlEstimator};

/// REINFORCE Leave-One-Out.
///
/// ```text
/// A_it = r_i - 1/(n - 1) sum_{j != i} r_j
/// L    = agg_it[ clipped_surrogate(rho_it, A_it) ],   r_i with the divergence taken off
/// ```
///
/// - `r_i`: the return of trajectory `i`; `n`: trajectories of its question
/// - `rho_it`: probability now over probability when sampled
///
/// # Differences
///
/// - From the paper: the clipped surrogate instead of the plain policy gradient; the two are the same
///   at the first step of a batch, where the ratio is 1.
/// - The sum over tokens is the log-probability of the episode, so `aggregation` defaults to
///   `sequence_mean_token_sum`.
///
/// # References
///
/// - [Back to Basics](https://arxiv.org/abs/2402.14740), section 3.3
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Validate)]
#[serde(default)]
pub struct Rloo {
    /// Bounds of the probability ratio.
    #[garde(dive)]
    pub clip: ClipOptions,
    /// Average over tokens, and the terms that are added to the loss.
    #[serde(flatten)]
    #[garde(dive)]
    pub terms: LossTerms,
}

/// Defaults with the divergence as part of the reward, as in the paper; its coefficient is that of
/// ZeroSearch's PPO.
impl Default for Rloo {
    fn default() -> Self {
        Self {
            clip: ClipOptions::default(),
            terms: LossTerms {
                aggregation: Aggregation::SequenceMeanTokenSum,
                kl_coef: 0.001,
                kl_estimator: KlEstimator::K1,
                kl_placement: KlPlacement::Reward,
                ..LossTerms::default()
            },
        }
    }
}

zs_core::settings!(Rloo, "rloo");

impl Algorithm for Rloo {
    fn name(&self) -> &'static str {
        Self::KIND
    }

    fn requirements(&self) -> Requirements {
        Requirements { clip: self.clip, ..self.terms.into() }
    }

    fn advantages(&self, batch: &RolloutBatch<'_>) -> Advantages {
        batch.group_advantages(leave_one_out_advantages).into()
    }
}
