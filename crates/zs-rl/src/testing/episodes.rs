//! Episodes of given shapes.

use zs_core::{Action, Question};
use zs_model::{Completion, StopReason, TokenId};

use crate::{RewardScore, RewardedTrajectory, Trajectory, TrajectoryGroup, Turn};

/// An episode with a prompt of one token and so many written tokens a turn, each turn but the last
/// followed by one observed token.
pub(crate) fn trajectory(written: &[usize]) -> Trajectory {
    let mut next: TokenId = 0;
    let mut tokens = |count: usize| -> Vec<TokenId> {
        (0..count)
            .map(|_| {
                next += 1;
                next
            })
            .collect()
    };
    let mut trajectory = Trajectory::new("q", vec![0]);
    for (index, &count) in written.iter().enumerate() {
        let is_last = index + 1 == written.len();
        let (completion, observation) = (tokens(count), tokens(usize::from(!is_last)));
        trajectory.turns.push(Turn {
            completion: Completion {
                tokens: completion,
                log_probs: vec![-1.0; count],
                sampling_log_probs: None,
                stop_reason: StopReason::Stop,
            },
            text: String::new(),
            action: Action::Invalid,
            observation_text: format!("{observation:?}"),
            observation,
            search: None,
        });
    }
    trajectory
}

/// A group of episodes, each given by its turns and its reward.
pub(crate) fn group(episodes: &[(&[usize], f32)]) -> TrajectoryGroup {
    let rewarded = |&(written, total): &(&[usize], f32)| RewardedTrajectory {
        trajectory: trajectory(written),
        reward: RewardScore { total, ..RewardScore::default() },
    };
    TrajectoryGroup {
        question: Question::new("q", "?", ["a"]),
        trajectories: episodes.iter().map(rewarded).collect(),
    }
}
