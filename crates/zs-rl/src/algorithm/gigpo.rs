//! Group-in-Group Policy Optimization: credit for steps without a value model.

use garde::Validate;
use serde::{Deserialize, Serialize};
use zs_core::registry::Settings;

use super::{Advantages, Algorithm, LossTerms, Requirements, RolloutBatch};
use crate::advantage::{AnchorKey, GigpoOptions, GigpoStep, gigpo_advantages};
use crate::loss::ClipOptions;
use crate::{Trajectory, TrajectoryGroup};

/// Group-in-Group Policy Optimization.
///
/// ```text
/// A_ikt = E_i + omega S_ik
/// L     = agg_it[ clipped_surrogate(rho_it, A_it) + kl_coef * KL_it - entropy_coef * H_it ]
/// ```
///
/// - `E_i`: the return of trajectory `i` against those of its question
/// - `S_ik`: the discounted return from turn `k` on against those of all turns of the question that
///   were taken in the same state; 0 where no other was
/// - `t`: a token of turn `k`; all of them share the advantage
///
/// `omega = 0` is GRPO, bit for bit.
///
/// # Differences
///
/// - From the code: one row is a whole trajectory with its turns, not one turn with its history; the
///   mean over tokens is the same. `per_trajectory` pooling, the paper's, is the default.
/// - The discounted returns of the steps see the divergence from the reference model where it is part
///   of the reward.
///
/// # References
///
/// - [GiGPO](https://arxiv.org/abs/2505.10978), section 4; langfengQ/verl-agent
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Validate)]
#[serde(default)]
pub struct Gigpo {
    /// Discount, weight of the step advantage, normalisation, pooling.
    #[garde(dive)]
    pub credit: GigpoOptions,
    /// States in which steps count as the same.
    #[garde(dive)]
    pub anchor: AnchorKey,
    /// Bounds of the probability ratio.
    #[garde(dive)]
    pub clip: ClipOptions,
    /// Average over tokens, and the terms that are added to the loss.
    #[serde(flatten)]
    #[garde(dive)]
    pub terms: LossTerms,
}

/// Defaults of the paper's search experiments.
impl Default for Gigpo {
    fn default() -> Self {
        Self {
            credit: GigpoOptions::default(),
            anchor: AnchorKey::Similar { threshold: 0.9 },
            clip: ClipOptions::default(),
            terms: LossTerms { kl_coef: 0.001, ..LossTerms::default() },
        }
    }
}

zs_core::settings!(Gigpo, "gigpo");

impl Algorithm for Gigpo {
    fn name(&self) -> &'static str {
        Self::KIND
    }

    fn requirements(&self) -> Requirements {
        Requirements { clip: self.clip, ..self.terms.into() }
    }

    fn advantages(&self, batch: &RolloutBatch<'_>) -> Advantages {
        let Self { credit, anchor, .. } = *self;
        let (mut tokens, mut start) = (Vec::new(), 0);
        let (mut num_groups, mut num_singletons) = (0, 0);
        for group in batch.groups {
            let rows = start..start + group.trajectories.len();
            start = rows.end;
            let returns = &batch.returns[rows.clone()];
            let rewards = &batch.token_rewards[rows];
            let steps = steps(group, &anchor.labels(group), rewards);
            let advantages = gigpo_advantages(returns, &steps, credit);
            num_groups += advantages.num_step_groups;
            num_singletons += advantages.num_singletons;
            let rows = group.trajectories.iter().zip(&advantages.steps);
            tokens.extend(rows.map(|(it, steps)| spread_over_turns(&it.trajectory, steps)));
        }
        let share = num_singletons as f64 / num_groups.max(1) as f64;
        Advantages { metrics: vec![("gigpo/singleton_frac", share)], ..tokens.into() }
    }
}

/// Turns of a group: the state of each, and the reward of its tokens.
fn steps(
    group: &TrajectoryGroup,
    labels: &[Vec<usize>],
    token_rewards: &[Vec<f32>],
) -> Vec<Vec<GigpoStep>> {
    let of_trajectory =
        |((trajectory, labels), rewards): ((&Trajectory, &Vec<usize>), &Vec<f32>)| {
            let step = |&anchor: &usize| GigpoStep { anchor, reward: 0.0 };
            let mut steps: Vec<GigpoStep> = labels.iter().map(step).collect();
            for (number, reward) in trajectory.turn_numbers().into_iter().zip(rewards) {
                if let Some(turn) = number.checked_sub(1) {
                    steps[turn].reward += reward;
                }
            }
            steps
        };
    let trajectories = group.trajectories.iter().map(|it| &it.trajectory);
    trajectories.zip(labels).zip(token_rewards).map(of_trajectory).collect()
}

/// Gives every token of a turn the advantage of the turn; zero elsewhere.
fn spread_over_turns(trajectory: &Trajectory, advantages: &[f32]) -> Vec<f32> {
    let advantage = |number: usize| number.checked_sub(1).map_or(0.0, |turn| advantages[turn]);
    trajectory.turn_numbers().into_iter().map(advantage).collect()
}
