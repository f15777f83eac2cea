//! Group reward-Decoupled normalisation Policy Optimization: each reward is compared inside its group
//! before rewards are added.

use std::collections::BTreeMap;

use garde::Validate;
use serde::{Deserialize, Serialize};
use zs_core::registry::Settings;

use super::{Advantages, Algorithm, LossTerms, Requirements, RolloutBatch};
use crate::advantage::{GroupAdvantageOptions, group_relative_advantages, whiten};
use crate::loss::ClipOptions;

/// Group reward-Decoupled normalisation Policy Optimization.
///
/// ```text
/// A_ik = (r_ik - mean(r_Gk)) / (std(r_Gk) + epsilon)        for each reward k
/// A_it = whiten_it( sum_k w_k A_ik )
/// L    = agg_it[ clipped_surrogate(rho_it, A_it) ]
/// ```
///
/// - `r_ik`: score of reward `k` of episode `i`, before its weight in the sum of rewards; `r_Gk`: those
///   of the trajectories of one question
/// - `whiten`: mean 0 and variance 1 over the batch's tokens
///
/// After summing, groups with returns (0, 1) and (0, 2) have the same advantages, and what the second reward
/// adds is lost; compared apart, both count.
///
/// # Differences
///
/// - A divergence from the reference model that is part of the reward, and rewards of single turns, are part of
///   the return alone, which is taken where an episode has fewer than two rewards.
///
/// # References
///
/// - [GDPO](https://arxiv.org/abs/2601.05242)
/// - verl 0.9.1 `compute_gdpo_outcome_advantage`
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, Validate)]
#[serde(default)]
pub struct Gdpo {
    /// Weight of each reward by name; 1 where it has none.
    #[garde(custom(finite_weights))]
    pub weights: BTreeMap<String, f64>,
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

zs_core::settings!(Gdpo, "gdpo");

impl Algorithm for Gdpo {
    fn name(&self) -> &'static str {
        Self::KIND
    }

    fn requirements(&self) -> Requirements {
        Requirements { clip: self.clip, ..self.terms.into() }
    }

    fn advantages(&self, batch: &RolloutBatch<'_>) -> Advantages {
        let mut advantages = Vec::new();
        for (group, returns) in batch.groups_with_returns() {
            let rewards = || group.trajectories.iter().map(|it| &it.reward.components);
            let names: Vec<&str> =
                rewards().next().into_iter().flatten().map(|it| it.name.as_str()).collect();
            let has_all =
                rewards().all(|it| it.iter().map(|it| it.name.as_str()).eq(names.iter().copied()));
            if names.len() < 2 || !has_all {
                advantages.extend(group_relative_advantages(returns, self.group));
                continue;
            }
            let mut sum = vec![0.0_f32; returns.len()];
            for (place, name) in names.iter().enumerate() {
                let weight = self.weights.get(*name).copied().unwrap_or(1.0) as f32;
                let scores: Vec<f32> = rewards().map(|it| it[place].score).collect();
                let relative = group_relative_advantages(&scores, self.group);
                sum.iter_mut().zip(relative).for_each(|(sum, it)| *sum += weight * it);
            }
            advantages.extend(sum);
        }
        let mut rows = batch.broadcast(&advantages);
        whiten(&mut rows, &batch.loss_masks());
        rows.into()
    }
}

fn finite_weights(weights: &BTreeMap<String, f64>, (): &()) -> garde::Result {
    match weights.iter().find(|it| !it.1.is_finite()) {
        None => Ok(()),
        Some((name, _)) => Err(garde::Error::new(format!("be finite, `{name}` is not"))),
    }
}
