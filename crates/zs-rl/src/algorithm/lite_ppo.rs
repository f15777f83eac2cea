//! Lite PPO: group mean, batch standard deviation, token mean.

use garde::Validate;
use serde::{Deserialize, Serialize};
use zs_core::registry::{Settings, check};

use super::{Advantages, Algorithm, LossTerms, Requirements, RolloutBatch};
use crate::advantage::{GroupAdvantageOptions, group_relative_advantages, mean, sample_std};
use crate::loss::ClipOptions;

/// Lite PPO: two techniques, and no critic.
///
/// ```text
/// A_i = (r_i - mean(r_G)) / (std(r) + epsilon)
/// L   = 1/(sum_j n_j) sum_it clipped_surrogate(rho_it, A_i)
/// ```
///
/// - `r_G`: the returns of the trajectories of one question; `r`: those of the whole batch
///
/// The standard deviation of a group is tiny where nearly all of its episodes have the same return, and
/// blows their advantages up; that of the batch is not.
///
/// # Differences
///
/// - A group of one keeps its raw return, divided as the others.
///
/// # References
///
/// - [Tricks or Traps](https://arxiv.org/abs/2508.08221), section 5
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Validate)]
#[serde(default)]
pub struct LitePpo {
    /// Keeps the standard deviation away from zero.
    #[garde(custom(check::non_negative))]
    pub std_epsilon: f64,
    /// Bounds of the probability ratio.
    #[garde(dive)]
    pub clip: ClipOptions,
    /// Average over tokens, and the terms that are added to the loss.
    #[serde(flatten)]
    #[garde(dive)]
    pub terms: LossTerms,
}

impl Default for LitePpo {
    fn default() -> Self {
        Self { std_epsilon: 1e-6, clip: ClipOptions::default(), terms: LossTerms::default() }
    }
}

zs_core::settings!(LitePpo, "lite_ppo");

impl Algorithm for LitePpo {
    fn name(&self) -> &'static str {
        Self::KIND
    }

    fn requirements(&self) -> Requirements {
        Requirements { clip: self.clip, ..self.terms.into() }
    }

    fn advantages(&self, batch: &RolloutBatch<'_>) -> Advantages {
        let centre = GroupAdvantageOptions { normalize_std: false, std_epsilon: 0.0 };
        let centred = batch.per_group(|returns| group_relative_advantages(returns, centre));
        let scale = sample_std(&batch.returns, mean(&batch.returns)) + self.std_epsilon;
        // Equal returns with `std_epsilon = 0` would be 0 / 0.
        let divide = |it: &f32| if *it == 0.0 { 0.0 } else { (f64::from(*it) / scale) as f32 };
        batch.broadcast(&centred.iter().map(divide).collect::<Vec<_>>()).into()
    }
}
