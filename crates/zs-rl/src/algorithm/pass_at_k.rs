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

/// Lead of the best return over the second, where the best is; 0 elsewhere.
fn best_beside_second(returns: &[f32], options: GroupAdvantageOptions) -> Vec<f32> {
    let mut sorted = returns.to_vec();
    sorted.sort_by(|a, b| b.total_cmp(a));
    let lead = match sorted[..] {
        [best, second, ..] => f64::from(best) - f64::from(second),
        _ => 0.0,
    };
    let scale = match options.normalize_std {
        true => sample_std(returns, mean(returns)) + options.std_epsilon,
        false => 1.0,
    };
    // Two best ones have no lead.
    let advantage = |it: &f32| match lead > 0.0 && *it == sorted[0] {
        true => (lead / scale) as f32,
        false => 0.0,
    };
    returns.iter().map(advantage).collect()
}
