//! Token-level rewards: a turn's reward is placed on the last token that the policy wrote in it.

use crate::RewardedTrajectory;

/// The reward of each token.
///
/// ```text
/// r_t = turns_k   at the last token of turn k
///     + total - sum_k turns_k   at the last token of the episode
/// ```
///
/// - `turns_k`: reward of turn `k`, [`RewardScore::turns`](crate::RewardScore::turns)
/// - `total`: reward of the episode, [`RewardScore::total`](crate::RewardScore::total)
///
/// Only tokens that the policy wrote count. Where a turn has none, its reward is placed on the last
/// token before it, or on the first of the episode. An episode without any token gets no
/// reward. In a [continuation](crate::BranchOrigin), the rewards of the turns that it shares are placed
/// on the first token of its prompt.
///
/// # Shapes
///
/// - output: one number a token of the trajectory
///
/// # References
///
/// - verl 0.9.1 and ZeroSearch's `main_ppo.py` 73-76: the outcome reward on the last valid token
/// - [StepSearch](https://arxiv.org/abs/2505.15107): step rewards on the last token of their turn
#[must_use]
pub fn token_rewards(rewarded: &RewardedTrajectory) -> Vec<f32> {
    let trajectory = &rewarded.trajectory;
    let mut rewards = vec![0.0; trajectory.num_tokens()];
    let mut ends = vec![None; trajectory.turns.len()];
    let (mut first, mut last) = (None, None);
    for (at, number) in trajectory.turn_numbers().into_iter().enumerate() {
        if let Some(turn) = number.checked_sub(1) {
            ends[turn] = Some(at);
            first = first.or(Some(at));
            last = Some(at);
        }
    }
    let (Some(first), Some(last)) = (first, last) else { return rewards };
    let (of_turns, rest) = split(rewarded);
    let mut place = first;
    for (turn, (reward, end)) in of_turns.iter().zip(ends).enumerate() {
        place = end.unwrap_or(place);
        let is_shared = turn < trajectory.num_shared_turns();
        rewards[if is_shared { 0 } else { place }] += reward;
    }
    rewards[last] += rest;
    rewards
}

/// The rewards that belong to turns, and what is left of the total.
fn split(rewarded: &RewardedTrajectory) -> (&[f32], f32) {
    let reward = &rewarded.reward;
    let num_turns = reward.turns.len().min(rewarded.trajectory.turns.len());
    let of_turns = &reward.turns[..num_turns];
    (of_turns, reward.total - of_turns.iter().sum::<f32>())
}

#[cfg(test)]
#[cfg(feature = "flex")]
mod tests {
    use super::*;
    use crate::RewardScore;
    use crate::testing::episodes::trajectory;

    #[track_caller]
    fn check(written: &[usize], total: f32, turns: &[f32], tokens: &[f32]) {
        let trajectory = trajectory(written);
        let reward = RewardScore { total, turns: turns.to_vec(), ..RewardScore::default() };
        let rewarded = RewardedTrajectory { trajectory, reward };
        assert_eq!(token_rewards(&rewarded), tokens);
    }

    #[test]
    fn rewards_land_on_the_last_written_token() {
        // One prompt token; each turn is its tokens and one observed token, but for the last.
        check(&[2, 1], 1.0, &[], &[0.0, 0.0, 0.0, 0.0, 1.0]);
        check(&[2, 1], 1.0, &[0.25], &[0.0, 0.0, 0.25, 0.0, 0.75]);
        check(&[2, 1], 1.0, &[0.25, -0.5], &[0.0, 0.0, 0.25, 0.0, 0.75]);
        check(&[0, 1], 1.0, &[0.25], &[0.0, 0.0, 1.0]);
        check(&[1, 0], 1.0, &[0.25, 0.5], &[0.0, 1.0, 0.0]);
        check(&[0], 1.0, &[], &[0.0]);
        check(&[], 1.0, &[], &[0.0]);
    }
}
