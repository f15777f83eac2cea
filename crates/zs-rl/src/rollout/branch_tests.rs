//! Continuations against the episodes that they branch from.

use proptest::prelude::*;
use zs_core::{DocumentQuality, StreamKey};
use zs_model::testing::ScriptedGenerator;

use super::hook_tests::{episodes, questions, registry};
use super::property_tests::{Meddling, hooked_config, lively};
use super::tests::{Echo, config};
use super::*;
use crate::{BranchOrigin, Provenance};

/// Branches of an episode at each of its turns, and at each of its searches.
fn branches<'a>(
    (parent, episode): (usize, Episode<'a>),
    trajectory: &'a Trajectory,
) -> impl Iterator<Item = Branch<'a>> {
    let at = move |turn, change| Branch { episode, trajectory, parent, turn, change };
    let turns =
        (0..trajectory.turns.len()).map(move |turn| at(turn, BranchChange::Policy(episode.key)));
    let searches = trajectory.turns.iter().enumerate().filter_map(move |(turn, it)| {
        let quality = it.search.as_ref()?.quality;
        Some(at(turn, BranchChange::Documents(ReplacedDocuments::Quality(quality))))
    });
    turns.chain(searches)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]

    /// Program functions, helper models, noise and budgets are in the state at a branch too.
    #[test]
    fn a_branch_that_changes_nothing_is_the_episode(seed in 0_u64..1000, lanes in 1_usize..3) {
        let (generator, questions) = (lively(), questions());
        let config = RolloutConfig { lanes, ..hooked_config() };
        let (registry, _) = registry(3);
        let harness = Harness::new(vec![Box::new(Meddling)]);
        let engine = Echo::default();
        let rollout = Rollout {
            noise_probability: vec![0.5, 0.3].into(),
            harness: Some(&harness),
            consultants: Some(&registry),
            ..Rollout::new(&generator, &engine, &config)
        };
        let episodes = episodes(&questions, seed);
        let played = rollout.play(&episodes, &mut |_| {}).unwrap().trajectories;
        let branches: Vec<Branch<'_>> = episodes
            .iter()
            .copied()
            .enumerate()
            .zip(&played)
            .flat_map(|(episode, trajectory)| branches(episode, trajectory))
            .collect();
        let output = rollout.continue_from(&branches, &mut |_| {}).unwrap();
        let mut sampled = 0;
        for (branch, continuation) in branches.iter().zip(&output.trajectories) {
            let turn = match branch.change {
                BranchChange::Policy(_) => branch.turn,
                BranchChange::Documents(_) => branch.turn + 1,
            };
            let expected = Trajectory {
                branch: Some(BranchOrigin { parent: branch.parent, turn }),
                refused_consults: continuation.refused_consults,
                ..branch.trajectory.clone()
            };
            prop_assert_eq!(continuation, &expected);
            prop_assert_eq!(continuation.tokens(), branch.trajectory.tokens());
            let start = continuation.num_tokens_before(turn);
            let sources = continuation.provenance();
            prop_assert!(sources[..start].iter().all(|it| *it == Provenance::Prompt));
            prop_assert_eq!(&sources[start..], &branch.trajectory.provenance()[start..]);
            sampled += continuation.num_policy_tokens();
        }
        prop_assert_eq!(output.stats.tokens_sampled, sampled);
        prop_assert_eq!(output.stats.num_trajectories, branches.len());
    }
}

/// A policy that writes a number of its key until it answers, and the quality of what it read last.
fn reader() -> ScriptedGenerator {
    ScriptedGenerator::new(|text, key| {
        let read = if text.rfind("noisy") > text.rfind("useful") { "noisy" } else { "useful" };
        match key.turn {
            0 | 1 => format!("<search> {} {read} </search>", key.sample),
            _ => format!("<answer> {} {read} </answer>", key.sample),
        }
    })
}

/// The episode's own key has sample 0, that of its continuations 7.
fn continued(turn: usize, change: BranchChange) -> (Trajectory, Trajectory) {
    let (generator, engine, config) = (reader(), Echo::default(), config());
    let question = Question::new("q1", "who?", ["a"]);
    let rollout = Rollout::new(&generator, &engine, &config);
    let episode = Episode { question: &question, key: StreamKey::new(1) };
    let played = rollout.play(&[episode], &mut |_| {}).unwrap().trajectories.remove(0);
    let branch = Branch { episode, trajectory: &played, parent: 2, turn, change };
    let mut output = rollout.continue_from(&[branch], &mut |_| {}).unwrap();
    (played, output.trajectories.remove(0))
}

#[test]
fn another_policy_key_changes_only_what_the_policy_samples() {
    let key = StreamKey { sample: 7, ..StreamKey::new(1) };
    let (played, other) = continued(1, BranchChange::Policy(key));
    assert_eq!(other.branch, Some(BranchOrigin { parent: 2, turn: 1 }));
    assert_eq!(other.turns[0], played.turns[0]);
    let texts: Vec<&str> = other.turns[1..].iter().map(|it| it.text.as_str()).collect();
    assert_eq!(texts, ["<search> 7 useful </search>", "<answer> 7 useful </answer>"]);
    // The engine's draws are those of the episode at the same turn.
    let seed = |it: &Trajectory| {
        let text = &it.turns[1].search.as_ref().unwrap().documents[0].text;
        text.rsplit(' ').next().unwrap().to_owned()
    };
    assert_eq!(seed(&played), seed(&other));
    assert_eq!(
        other.num_policy_tokens(),
        "<search> 7 useful </search><answer> 7 useful </answer>".len()
    );
}

#[test]
fn replaced_documents_change_what_follows_them() {
    let replaced = |with| continued(0, BranchChange::Documents(with));
    let (played, noisy) = replaced(ReplacedDocuments::Quality(DocumentQuality::Noisy));
    assert_eq!(noisy.turns[0].completion, played.turns[0].completion);
    let text = |it: &Trajectory| it.turns[0].observation_text.clone();
    assert_eq!(text(&noisy), text(&played).replace("q1 useful", "q1 noisy"));
    assert_eq!(noisy.turns[1].text, "<search> 0 noisy </search>");
    let (_, nothing) = replaced(ReplacedDocuments::Nothing);
    assert!(text(&nothing).contains(zs_core::NO_DOCUMENTS), "{}", text(&nothing));
    assert_eq!(nothing.turns[1..], played.turns[1..]);
}

#[test]
fn branches_that_an_episode_does_not_have_are_refused() {
    let (generator, engine, config) = (reader(), Echo::default(), config());
    let question = Question::new("q1", "who?", ["a"]);
    let rollout = Rollout::new(&generator, &engine, &config);
    let episode = Episode { question: &question, key: StreamKey::new(1) };
    let trajectory = &rollout.play(&[episode], &mut |_| {}).unwrap().trajectories[0];
    let nothing = BranchChange::Documents(ReplacedDocuments::Nothing);
    for (turn, change) in [(3, BranchChange::Policy(episode.key)), (2, nothing), (3, nothing)] {
        let branch = Branch { episode, trajectory, parent: 0, turn, change };
        let message = rollout.continue_from(&[branch], &mut |_| {}).unwrap_err().to_string();
        assert!(message.contains("`q1`") && message.contains(&format!("turn {turn}")), "{message}");
    }
}
