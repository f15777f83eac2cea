//! Groups: the trajectories of one question, with their rewards.

use serde::{Deserialize, Serialize};
use zs_core::Question;

use crate::{RewardFunction, RewardScore, Trajectory};

/// A trajectory and its reward.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RewardedTrajectory {
    /// The episode.
    pub trajectory: Trajectory,
    /// Its reward.
    pub reward: RewardScore,
}

/// The trajectories sampled for one question.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrajectoryGroup {
    /// The question.
    pub question: Question,
    /// One trajectory a sample; continuations of them come last.
    pub trajectories: Vec<RewardedTrajectory>,
}

impl TrajectoryGroup {
    /// Scores the trajectories of one question, each for itself and against its siblings.
    #[must_use]
    pub fn score(
        question: Question,
        trajectories: Vec<Trajectory>,
        reward: &RewardFunction,
    ) -> Self {
        let scores = reward.score_group(&question, &trajectories);
        let rewarded = |(trajectory, reward)| RewardedTrajectory { trajectory, reward };
        let trajectories = trajectories.into_iter().zip(scores).map(rewarded).collect();
        Self { question, trajectories }
    }

    /// The episodes that were played from the prompt, without continuations of them.
    pub fn episodes(&self) -> impl Iterator<Item = &RewardedTrajectory> {
        self.trajectories.iter().filter(|it| it.trajectory.branch.is_none())
    }

    /// The outcome rewards, one a trajectory.
    #[must_use]
    pub fn rewards(&self) -> Vec<f32> {
        self.trajectories.iter().map(|it| it.reward.total).collect()
    }

    /// Returns true for a zero-variance group: all rewards are equal, so that algorithms which compare
    /// its members get no advantages from it.
    #[must_use]
    pub fn has_zero_variance(&self) -> bool {
        self.trajectories.windows(2).all(|it| it[0].reward.total == it[1].reward.total)
    }
}
