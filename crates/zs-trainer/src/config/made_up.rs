//! Made-up episodes, on which algorithms and rewards are tried before a run.

use zs_core::{Action, Document, DocumentQuality, Question, caught, parse_action};
use zs_model::{Completion, StopReason};
use zs_rl::{
    Algorithm, RewardScore, RewardedTrajectory, RolloutBatch, SearchRecord, Trajectory,
    TrajectoryGroup, Turn,
};

use super::RunFileError;

/// Refuses a group size with which the algorithm has nothing to compare.
///
/// # Errors
///
/// Fails where the algorithm compares the episodes of a question, and there is one.
pub(crate) fn check_group_size(
    group_size: usize,
    algorithm: &dyn Algorithm,
) -> Result<(), RunFileError> {
    if group_size == 1 && is_group_relative(algorithm) {
        return Err(RunFileError::invalid(format!(
            "`training.schedule.group_size` must be at least 2 with the algorithm `{}`, which compares \
             the episodes of a question; is 1 (`reinforce` and `ppo` work with one)",
            algorithm.name()
        )));
    }
    Ok(())
}

/// Returns true if the advantage of an episode depends on the others of its question.
///
/// Two batches hold the same rewards, grouped in different ways.
fn is_group_relative(algorithm: &dyn Algorithm) -> bool {
    let mixed = advantages(algorithm, &[&[1.0, 0.0], &[1.0, 0.0]]);
    let sorted = advantages(algorithm, &[&[1.0, 1.0], &[0.0, 0.0]]);
    mixed.zip(sorted).is_some_and(|(mixed, sorted)| mixed.first() != sorted.first())
}

/// Advantages of the policy's tokens, one row an episode, of a batch with these rewards; `None` where
/// the algorithm panics, which the run will report.
pub(super) fn advantages(algorithm: &dyn Algorithm, rewards: &[&[f32]]) -> Option<Vec<Vec<f32>>> {
    let rewarded = |total: &f32| RewardedTrajectory {
        trajectory: episode(&["<answer> a </answer>"], 2),
        reward: RewardScore { total: *total, ..RewardScore::default() },
    };
    let group = |rewards: &&[f32]| TrajectoryGroup {
        question: question(),
        trajectories: rewards.iter().map(rewarded).collect(),
    };
    let groups: Vec<TrajectoryGroup> = rewards.iter().map(group).collect();
    let mut batch = RolloutBatch::new(&groups);
    if algorithm.requirements().value_clip.is_some() {
        batch.values = batch.token_rewards.iter().map(|it| vec![0.0; it.len()]).collect();
    }
    let masks = batch.loss_masks();
    let rows = caught(|| algorithm.advantages(&batch).tokens).ok()?;
    let learned = |(row, mask): (Vec<f32>, Vec<bool>)| {
        row.into_iter().zip(mask).filter_map(|(it, is_learned)| is_learned.then_some(it)).collect()
    };
    Some(rows.into_iter().zip(masks).map(learned).collect())
}

/// The question of the episodes.
pub(super) fn question() -> Question {
    Question::new("q", "What is the capital of France?", ["Paris"])
}

/// An episode of these texts, whose turns have so many tokens.
pub(super) fn episode(texts: &[&str], num_tokens: usize) -> Trajectory {
    let mut trajectory = Trajectory::new("q", vec![0]);
    for (index, text) in texts.iter().enumerate() {
        let action = parse_action(text);
        let search = match &action {
            Action::Search(query) => Some(SearchRecord {
                query: query.clone(),
                quality: DocumentQuality::Useful,
                documents: vec![Document::new("France", format!("Document {index}: Paris."))],
                error: None,
            }),
            Action::Answer(_) | Action::Invalid => None,
        };
        trajectory.turns.push(Turn {
            completion: Completion {
                tokens: vec![1; num_tokens],
                log_probs: vec![-1.0; num_tokens],
                sampling_log_probs: None,
                stop_reason: StopReason::Stop,
            },
            text: (*text).to_owned(),
            action,
            observation: vec![2; usize::from(search.is_some())],
            observation_text: String::new(),
            search,
        });
    }
    trajectory
}

#[cfg(test)]
mod tests {
    use zs_core::registry::Spec;

    use super::*;
    use crate::components::Components;

    fn algorithm(toml: &str) -> Box<dyn Algorithm> {
        let spec: Spec = toml::from_str(toml).unwrap();
        Components::built_in().algorithms.build(&spec, &()).unwrap()
    }

    #[track_caller]
    fn check_relative(toml: &str, expected: bool) {
        assert_eq!(is_group_relative(&*algorithm(toml)), expected, "{toml}");
        assert_eq!(check_group_size(1, &*algorithm(toml)).is_err(), expected, "{toml}");
        check_group_size(2, &*algorithm(toml)).unwrap();
    }

    #[test]
    fn algorithms_that_compare_siblings_need_two() {
        for kind in [
            "branched",
            "grpo",
            "dapo",
            "dr_grpo",
            "gspo",
            "cispo",
            "rloo",
            "gigpo",
            "squared_regret",
            "clip_cov",
            "dppo",
            "gdpo",
            "gmpo",
            "gpg",
            "lite_ppo",
            "max_rl",
            "opo",
            "pass_at_k",
            "sapo",
            "topr",
        ] {
            check_relative(&format!("kind = \"{kind}\""), true);
        }
        check_relative("kind = \"reinforce\"", false);
        check_relative("kind = \"ppo\"", false);
        check_relative("kind = \"raft_plus_plus\"", false);
        check_relative("kind = \"reinforce_plus_plus\"", false);
        check_relative("kind = \"reinforce_plus_plus\"\nbaseline = \"group_mean\"", true);
    }
}
