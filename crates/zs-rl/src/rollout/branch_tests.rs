//! Continuations against the episodes that they branch from.

use proptest::prelude::*;
use zs_core::{DocumentQuality, StreamKey};
use zs_model::testing::ScriptedGenerator;

use super::hook_tests::{episodes, questions, registry};
use super::property_tests::{Meddling, hooked_config, lively};
use super::tests::{Echo, config};
use super::*;
use crate::{BranchOrigin, Provenance, ReplacedDocuments};

/// Branches of an episode at each of its turns, and at each of its searches.
fn branches((parent, played): (usize, PlayedEpisode<'_>)) -> impl Iterator<Item = Branch<'_>> {
    let turns = played.trajectory.turns.iter().enumerate();
    turns.flat_map(move |(turn, it)| {
        let documents = it.search.as_ref().map(|it| match it.quality {
            DocumentQuality::Useful => ReplacedDocuments::Useful,
            DocumentQuality::Noisy => ReplacedDocuments::Noisy,
        });
        let at = move |documents| Branch { played, parent, turn, documents };
        std::iter::once(at(None)).chain(documents.map(|it| at(Some(it))))
    })
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
        let whole = episodes.iter().zip(&played).map(|(it, of)| PlayedEpisode::new(*it, of));
        let branches: Vec<Branch<'_>> = whole.enumerate().flat_map(branches).collect();
        let output = rollout.continue_from(&branches, &mut |_| {}).unwrap();
        let mut sampled = 0;
        for (branch, continuation) in branches.iter().zip(&output.trajectories) {
            let turn = branch.turn + usize::from(branch.documents.is_some());
            let expected = Trajectory {
                branch: Some(BranchOrigin { parent: branch.parent, turn }),
                refused_consults: continuation.refused_consults,
                ..branch.played.trajectory.clone()
            };
            prop_assert_eq!(continuation, &expected);
            prop_assert_eq!(continuation.tokens(), branch.played.trajectory.tokens());
            let start = continuation.num_tokens_before(turn);
            let sources = continuation.provenance();
            prop_assert!(sources[..start].iter().all(|it| *it == Provenance::Prompt));
            prop_assert_eq!(&sources[start..], &branch.played.trajectory.provenance()[start..]);
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
fn continued(turn: usize, sample: u32, documents: Option<ReplacedDocuments>) -> [Trajectory; 2] {
    let (generator, engine, config) = (reader(), Echo::default(), config());
    let question = Question::new("q1", "who?", ["a"]);
    let rollout = Rollout::new(&generator, &engine, &config);
    let episode = Episode { question: &question, key: StreamKey::new(1) };
    let played = rollout.play(&[episode], &mut |_| {}).unwrap().trajectories.remove(0);
    let policy_key = StreamKey { sample, ..episode.key };
    let of = PlayedEpisode { policy_key, ..PlayedEpisode::new(episode, &played) };
    let branch = Branch { played: of, parent: 2, turn, documents };
    let mut output = rollout.continue_from(&[branch], &mut |_| {}).unwrap();
    let other = output.trajectories.remove(0);
    [played, other]
}

#[test]
fn another_policy_key_changes_only_what_the_policy_samples() {
    let [played, other] = continued(1, 7, None);
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
    let replaced = |with| continued(0, 0, Some(with));
    let [played, noisy] = replaced(ReplacedDocuments::Noisy);
    assert_eq!(noisy.turns[0].completion, played.turns[0].completion);
    let text = |it: &Trajectory| it.turns[0].observation_text.clone();
    assert_eq!(text(&noisy), text(&played).replace("q1 useful", "q1 noisy"));
    assert_eq!(noisy.turns[1].text, "<search> 0 noisy </search>");
    let [_, nothing] = replaced(ReplacedDocuments::None);
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
    let nothing = Some(ReplacedDocuments::None);
    for (turn, documents) in [(3, None), (2, nothing), (3, nothing)] {
        let played = PlayedEpisode::new(episode, trajectory);
        let branch = Branch { played, parent: 0, turn, documents };
        let message = rollout.continue_from(&[branch], &mut |_| {}).unwrap_err().to_string();
        assert!(message.contains("`q1`") && message.contains(&format!("turn {turn}")), "{message}");
    }
}

#[test]
fn the_effect_of_a_search_is_its_own() {
    let (generator, engine, config) = (reader(), Echo::default(), config());
    let question = Question::new("q1", "who?", ["0 useful"]);
    let rollout = Rollout::new(&generator, &engine, &config);
    let episode = Episode { question: &question, key: StreamKey::new(1) };
    let mut trajectory = rollout.play(&[episode], &mut |_| {}).unwrap().trajectories.remove(0);
    let played = [PlayedEpisode::new(episode, &trajectory)];
    let with = [ReplacedDocuments::None, ReplacedDocuments::Noisy, ReplacedDocuments::Useful];
    let ends = rollout.counterfactuals(&played, &with).unwrap().remove(0);
    // The policy answers with the quality of what it read last; the searches were useful.
    let found: Vec<(usize, ReplacedDocuments, Option<&str>)> =
        ends.iter().map(|it| (it.turn, it.documents, it.answer.as_deref())).collect();
    let [nothing, noisy] = [with[0], with[1]];
    let (same, other) = (Some("0 useful"), Some("0 noisy"));
    assert_eq!(
        found,
        [(0, nothing, same), (0, noisy, same), (1, nothing, same), (1, noisy, other)]
    );
    trajectory.counterfactuals = ends;
    let counted = crate::SearchesThatMattered::of(&trajectory, &question.golden_answers);
    assert_eq!((counted.num_valued, counted.num_mattered), (2, 1));
}
