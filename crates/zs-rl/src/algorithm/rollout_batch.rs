//! Inputs and results of computing advantages.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::advantage::token_rewards;
use crate::{LossTokens, RewardedTrajectory, Trajectory, TrajectoryGroup};

/// The episodes of an update, with everything that advantages may depend on.
#[derive(Clone, Debug)]
pub struct RolloutBatch<'a> {
    /// The trajectories, by question.
    pub groups: &'a [TrajectoryGroup],
    /// The return of each trajectory, groups in order: its total reward, less the divergence from the
    /// reference model where that is part of the reward.
    pub returns: Vec<f32>,
    /// The same token by token, one row a trajectory: see [`token_rewards`].
    pub token_rewards: Vec<Vec<f32>>,
    /// The value of the state before each token, one row a trajectory; empty where the algorithm has
    /// no value model.
    pub values: Vec<Vec<f32>>,
    /// State that updates before have left; [`memory`](LearningState::memory) is the algorithm's own.
    pub state: LearningState,
    /// Tokens that carry loss.
    pub loss_tokens: LossTokens,
}

/// State that learning carries from one update to the next besides weights and moments.
/// Checkpoints hold it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LearningState {
    /// Factor on the KL coefficient: 1 unless it adapts.
    pub kl_scale: f64,
    /// Value that the algorithm returned as [`Advantages::memory`] in the update before; null at
    /// first. (Checkpoints of version 0.1 call it `mean_return`.)
    #[serde(default, alias = "mean_return", skip_serializing_if = "Value::is_null")]
    pub memory: Value,
    /// Tokens that run through a model at once, where the device's memory made them fewer than
    /// configured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub micro_batch_tokens: Option<usize>,
}

impl Default for LearningState {
    fn default() -> Self {
        Self { kl_scale: 1.0, memory: Value::Null, micro_batch_tokens: None }
    }
}

/// Advantages, and further results of computing them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Advantages {
    /// The advantage of each token, one row a trajectory.
    pub tokens: Vec<Vec<f32>>,
    /// Targets of the value model, one row a trajectory; empty without one.
    pub returns: Vec<Vec<f32>>,
    /// Value for [`LearningState::memory`] at the next update; null remembers nothing.
    pub memory: Value,
    /// Metric keys and values, e.g. `gigpo/singleton_frac`.
    pub metrics: Vec<(&'static str, f64)>,
}

impl From<Vec<Vec<f32>>> for Advantages {
    fn from(tokens: Vec<Vec<f32>>) -> Self {
        Self { tokens, ..Self::default() }
    }
}

impl<'a> RolloutBatch<'a> {
    /// The batch of a first update, rewards as they were given.
    #[must_use]
    pub fn new(groups: &'a [TrajectoryGroup]) -> Self {
        let rewarded = || groups.iter().flat_map(|it| &it.trajectories);
        Self {
            groups,
            returns: rewarded().map(|it| it.reward.total).collect(),
            token_rewards: rewarded().map(token_rewards).collect(),
            values: Vec::new(),
            state: LearningState::default(),
            loss_tokens: LossTokens::default(),
        }
    }

    /// The trajectories with their rewards, groups in order.
    pub fn rewarded(&self) -> impl Iterator<Item = &'a RewardedTrajectory> + use<'a> {
        self.groups.iter().flat_map(|it| &it.trajectories)
    }

    /// The trajectories, groups in order.
    pub fn trajectories(&self) -> impl Iterator<Item = &'a Trajectory> + use<'a> {
        self.rewarded().map(|it| &it.trajectory)
    }

    /// Loss masks, one row a trajectory.
    #[must_use]
    pub fn loss_masks(&self) -> Vec<Vec<bool>> {
        self.trajectories().map(|it| it.mask_of(self.loss_tokens)).collect()
    }

    /// Advantages that all tokens of an episode share, from the returns of its group.
    #[must_use]
    pub fn group_advantages(&self, advantages: impl Fn(&[f32]) -> Vec<f32>) -> Vec<Vec<f32>> {
        self.broadcast(&self.per_group(advantages))
    }

    /// One number a trajectory, from the returns of its group.
    #[must_use]
    pub fn per_group(&self, numbers: impl Fn(&[f32]) -> Vec<f32>) -> Vec<f32> {
        self.groups_with_returns().flat_map(|(_, returns)| numbers(returns)).collect()
    }

    /// Each group with the returns of its trajectories.
    pub fn groups_with_returns(&self) -> impl Iterator<Item = (&'a TrajectoryGroup, &[f32])> {
        let mut start = 0;
        self.groups.iter().map(move |group| {
            let returns = &self.returns[start..start + group.trajectories.len()];
            start += returns.len();
            (group, returns)
        })
    }

    /// Gives every token that carries loss the number of its trajectory.
    #[must_use]
    pub fn broadcast(&self, advantages: &[f32]) -> Vec<Vec<f32>> {
        let rows = self.loss_masks().into_iter().zip(advantages);
        let row = |(mask, advantage): (Vec<bool>, &f32)| -> Vec<f32> {
            mask.into_iter().map(|it| if it { *advantage } else { 0.0 }).collect()
        };
        rows.map(row).collect()
    }
}
