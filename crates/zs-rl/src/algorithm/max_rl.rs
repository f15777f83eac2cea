//! Maximum-likelihood reinforcement learning: advantages divided by the success rate.

use garde::Validate;
use serde::{Deserialize, Serialize};
use zs_core::registry::Settings;

use super::{Advantages, Algorithm, LossTerms, Requirements, RolloutBatch};
use crate::advantage::mean;
use crate::loss::ClipOptions;

/// Maximum-likelihood reinforcement learning.
///
/// ```text
/// A_i = (r_i - mean(r_G)) / mean(r_G)        r_i - mean(r_G) where the mean is not positive
/// L   = agg_it[ clipped_surrogate(rho_it, A_i) ]
/// ```
///
/// - `r_G`: the returns of the trajectories of one question
///
/// The gradient of `log P(success)` is that of `P(success)` divided by it, so hard questions weigh as much
/// as their likelihood asks for. With groups of `n`, its expectation is that of the likelihood's expansion up
/// to the order `n`.
///
/// # Differences
///
/// - Made for rewards of 0 and 1; others in between count by their size. Returns whose mean is not positive,
///   as with a divergence in the reward, are compared but not divided.
///
/// # References
///
/// - [MaxRL](https://arxiv.org/abs/2602.02710)
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, Validate)]
#[serde(default)]
pub struct MaxRl {
    /// Bounds of the probability ratio.
    #[garde(dive)]
    pub clip: ClipOptions,
    /// Average over tokens, and the terms that are added to the loss.
    #[serde(flatten)]
    #[garde(dive)]
    pub terms: LossTerms,
}

zs_core::settings!(MaxRl, "max_rl");

impl Algorithm for MaxRl {
    fn name(&self) -> &'static str {
        Self::KIND
    }

    fn requirements(&self) -> Requirements {
        Requirements { clip: self.clip, ..self.terms.into() }
    }

    fn advantages(&self, batch: &RolloutBatch<'_>) -> Advantages {
        let relative = |returns: &[f32]| {
            let mean = mean(returns);
            let scale = if mean > 0.0 { mean } else { 1.0 };
            returns.iter().map(|it| ((f64::from(*it) - mean) / scale) as f32).collect()
        };
        batch.group_advantages(relative).into()
    }
}
