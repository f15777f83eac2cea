//! What advantages are computed from, and what they are.

use serde::{Deserialize, Serialize};

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
    /// What is remembered from the updates before.
    pub state: LearningState,
    /// Which tokens carry loss.
    pub loss_tokens: LossTokens,
}

/// What learning remembers from one update to the next besides weights and moments.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LearningState {
    /// Factor on the KL coefficient: 1 unless it adapts.
    pub kl_scale: f64,
    /// The running mean of returns, where the algorithm keeps one.
    pub mean_return: Option<f64>,
    /// Tokens that run through a model at once, where the device's memory made them fewer than
    /// configured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub micro_batch_tokens: Option<usize>,
}

impl Default for LearningState {
    fn default() -> Self {
        Self { kl_scale: 1.0, mean_return: None, micro_batch_tokens: None }
    }
}

/// Advantages, and what came of computing them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Advantages {
    /// The advantage of each token, one row a trajectory.
    pub tokens: Vec<Vec<f32>>,
    /// What the value model is to predict, one row a trajectory; empty without one.
    pub returns: Vec<Vec<f32>>,
    /// The running mean of returns after this batch, where the algorithm keeps one.
    pub mean_return: Option<f64>,
    /// Key and value of what is logged, e.g. `gigpo/singleton_frac`.
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

    /// Which tokens carry loss, one row a trajectory.
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
        let mut start = 0;
        let mut of_group = |group: &TrajectoryGroup| {
            let returns = &self.returns[start..start + group.trajectories.len()];
            start += returns.len();
            numbers(returns)
        };
        self.groups.iter().flat_map(&mut of_group).collect()
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
