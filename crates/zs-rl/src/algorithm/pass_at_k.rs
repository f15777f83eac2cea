//! Pass@k training: only the best episode of a group is learned from, by how much it beats the second.

use garde::Validate;
use serde::{Deserialize, Serialize};
use zs_core::registry::Settings;

use super::{Advantages, Algorithm, LossTerms, Requirements, RolloutBatch};
use crate::advantage::{GroupAdvantageOptions, mean, sample_std};
use crate::loss::ClipOptions;

/// GRPO for pass@k, with `k` the size of the group.
///
/// ```text
/// A_best = (r_best - r_second) / (std(r_G) + epsilon)        0 for all others
/// L      = agg_it[ clipped_surrogate(rho_it, A_i) ]
/// ```
///
/// - `r_best`, `r_second`: the highest returns of the trajectories of one question
///
/// The maximum over `k` episodes gains from one of them only what the others do not reach without it. A group
/// with two right answers has nothing to learn, so the policy keeps exploring where it could sharpen.
///
/// # Differences
///
/// - A group of one has no second and no advantage; verl refuses it.
///
/// # References
///
/// - [Optimizing Language Models for Inference Time Objectives](https://arxiv.org/abs/2503.19595),
///   section 3
/// - verl 0.9.1 `compute_grpo_passk_outcome_advantage`
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, Validate)]
#[serde(default)]
pub struct PassAtK {
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

zs_core::settings!(PassAtK, "pass_at_k");

impl Algorithm for PassAtK {
    fn name(&self) -> &'static str {
        Self::KIND
    }

    fn requirements(&self) -> Requirements {
        Requirements { clip: self.clip, ..self.terms.into() }
    }

    fn advantages(&self, batch: &RolloutBatch<'_>) -> Advantages {
        batch.group_advantages(|returns| best_beside_second(returns, self.group)).into()
    }
}

/// Gap between the best return and the second, where the best is; 0 elsewhere.
fn best_beside_second(returns: &[f32], options: GroupAdvantageOptions) -> Vec<f32> {
    let mut sorted: Vec<f64> = returns.iter().map(|it| f64::from(*it)).collect();
    sorted.sort_by(|a, b| b.total_cmp(a));
    let gap = match sorted[..] {
        [best, second, ..] => best - second,
        _ => 0.0,
    };
    let scale = match options.normalize_std {
        true => sample_std(returns, mean(returns)) + options.std_epsilon,
        false => 1.0,
    };
    let advantage = |it: &f32| if f64::from(*it) == sorted[0] { gap / scale } else { 0.0 };
    // Two best ones are no gap apart.
    returns.iter().map(|it| if gap > 0.0 { advantage(it) as f32 } else { 0.0 }).collect()
}
