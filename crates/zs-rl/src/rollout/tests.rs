//! The loop against a scripted policy and an engine that answers from the request alone.

use std::sync::Mutex;

use proptest::prelude::*;
use zs_core::{
    Action, Document, DocumentQuality, Domain, INVALID_ACTION_MESSAGE, NO_DOCUMENTS, SearchError,
    SearchRequest, SearchResult,
};
use zs_model::testing::ScriptedGenerator;
use zs_model::{ChatTemplate, StopReason};

use super::*;
use crate::program::ProgramStats;
use crate::reward::{EpisodeView, Format, Reward, SearchR1};

/// Answers with everything that the request says; fails on queries with `fail`.
#[derive(Debug, Default)]
pub(super) struct Echo {
    batches: Mutex<Vec<Vec<String>>>,
}

impl SearchEngine for Echo {
    fn name(&self) -> &str {
        "echo"
    }

    fn search_batch(&self, requests: &[SearchRequest<'_>]) -> Vec<SearchResult> {
        let queries = requests.iter().map(|it| it.query.to_owned()).collect();
        self.batches.lock().unwrap().push(queries);
        let answer = |it: &SearchRequest<'_>| {
            if it.query.contains("fail") {
                return Err(SearchError::Engine {
                    engine: "echo".into(),
                    query: it.query.into(),
                    source: "told to".into(),
                });
            }
            let (query, id, quality) = (it.query, &it.question.id, it.quality.word());
            let text = format!("{query} {id} {quality} {}", it.seed);
            // One document too many: the loop shows `k`.
            Ok(vec![Document::new("", text); it.k + 1])
        };
        requests.iter().map(answer).collect()
    }
}

pub(super) fn config() -> RolloutConfig {
    RolloutConfig {
        max_searches: 2,
        num_documents: 1,
        prompt_template: "{{ question }}|".into(),
        ..RolloutConfig::default()
    }
}

/// Plays one episode whose turns are given.
fn play(turns: &'static [&'static str], context_length: usize) -> (Trajectory, RolloutStats, Echo) {
    let generator = ScriptedGenerator::new(|_, key| turns[key.turn as usize].to_owned())
        .with_context_length(context_length);
    let engine = Echo::default();
    let question = Question::new("q1", "who?", ["a"]);
    let episodes = [Episode { question: &question, key: StreamKey::new(1) }];
    let output = rollout(&generator, &engine, &episodes, 0.0, &config(), &mut |_| {}).unwrap();
    (output.trajectories[0].clone(), output.stats, engine)
}

#[test]
fn searches_then_answers() {
    let turns = &["<search> x </search>tail", "<answer> a </answer>tail", "never"];
    let (trajectory, stats, engine) = play(turns, 1000);
    let [first, second] = trajectory.turns.as_slice() else { panic!("{trajectory:?}") };
    assert_eq!(first.text, "<search> x </search>");
    let search = first.search.as_ref().unwrap();
    assert_eq!((search.query.as_str(), search.documents.len()), ("x", 1));
    let seed = StreamKey::new(1).derive_seed(Domain::Search);
    let block = format!("\n\n<information>Doc 1: x q1 useful {seed}\n</information>\n\n");
    assert_eq!(first.observation_text, block);
    assert_eq!(second.action, Action::Answer("a".into()));
    assert!(second.observation.is_empty() && !trajectory.truncated);
    let text = zs_model::testing::byte_tokenizer().decode(&trajectory.tokens());
    assert_eq!(text, format!("who?|<search> x </search>{block}<answer> a </answer>"));
    assert_eq!(engine.batches.lock().unwrap().len(), 1);
    let expected = RolloutStats {
        num_trajectories: 1,
        num_turns: 2,
        num_searches: 1,
        num_answered: 1,
        tokens_sampled: 40,
        tokens_observed: block.len(),
        words_after_documents: 1,
        ..RolloutStats::default()
    };
    assert_eq!(stats, expected);
}

/// Rewards of an episode of one turn, whose prompt ends with `opened`.
#[track_caller]
fn check_prefill(opened: &str, reply: &'static str, rewards: [f32; 3]) {
    // As an expression, since a template loses its last line break.
    let source = format!("{{{{ messages[0].content }}}}<|assistant|>{{{{ {opened:?} }}}}");
    let template = ChatTemplate::new(source, String::new(), String::new()).unwrap();
    let generator = ScriptedGenerator::new(|_, _| reply.to_owned()).with_chat_template(template);
    let question = Question::new("q1", "who?", ["a"]);
    let episodes = [Episode { question: &question, key: StreamKey::new(1) }];
    let engine = Echo::default();
    let output = rollout(&generator, &engine, &episodes, 0.0, &config(), &mut |_| {}).unwrap();
    let trajectory = &output.trajectories[0];
    assert_eq!(trajectory.prefill, opened);
    assert_eq!(trajectory.turns[0].text, reply);
    let view = EpisodeView::new(&question, trajectory);
    assert_eq!(view.turns[0].text, format!("{opened}{reply}"));
    let found = [
        SearchR1::default().score(&view).total,
        Format { require_think: true }.score(&view).total,
        Format::default().score(&view).total,
    ];
    assert_eq!(found, rewards, "{opened:?} {reply:?}");
    assert_eq!(trajectory.transcript().turns[0].text, format!("{opened}{reply}"));
}

#[test]
fn rewards_know_what_the_prompt_ended_with() {
    let thought = "hm </think> <answer> a </answer>";
    check_prefill("<think>\n", thought, [1.0, 1.0, 1.0]);
    check_prefill("", thought, [0.8, 0.0, 1.0]);
    check_prefill("", "<think> hm </think> <answer> a </answer>", [1.0, 1.0, 1.0]);
    check_prefill("<think>\n\n</think>\n\n", "<answer> a </answer>", [1.0, 1.0, 1.0]);
    check_prefill("<think>", "<answer> a </answer>", [0.8, 0.0, 1.0]);
    check_prefill("<answer>", " a </answer>", [0.8, 0.0, 1.0]);
}

#[test]
fn the_last_turn_may_not_search() {
    let turns = &["<search>x</search>", "<search>y</search>", "<search>z</search>"];
    let (trajectory, stats, engine) = play(turns, 1000);
    assert_eq!(*engine.batches.lock().unwrap(), [["x"], ["y"]]);
    let last = trajectory.turns.last().unwrap();
    assert_eq!(last.action, Action::Search("z".into()));
    assert!(last.search.is_none() && last.observation.is_empty());
    assert_eq!(trajectory.transcript().answer(), None);
    assert_eq!(trajectory.transcript().queries().count(), 2);
    assert_eq!((stats.num_searches, stats.num_refused_searches, stats.num_answered), (2, 1, 0));
}

#[test]
fn invalid_turns_are_explained_and_count() {
    // Three empty queries: each closes a tag, so sampling stops without an end of sequence.
    let turns = &["<search> </search>", "</search>", "</answer>"];
    let (trajectory, stats, _) = play(turns, 1000);
    let observed: Vec<_> = trajectory.turns.iter().map(|it| it.observation_text.as_str()).collect();
    assert_eq!(observed, [INVALID_ACTION_MESSAGE, INVALID_ACTION_MESSAGE, ""]);
    assert_eq!((stats.num_invalid, stats.num_turns, stats.num_truncated), (3, 3, 0));
}

#[test]
fn end_of_sequence_ends_the_episode() {
    let (trajectory, stats, _) = play(&["I give up", "never"], 1000);
    assert_eq!(trajectory.turns.len(), 1);
    assert_eq!(trajectory.turns[0].completion.stop_reason, StopReason::EndOfSequence);
    assert_eq!((stats.num_invalid, stats.num_truncated), (1, 0));
}

#[test]
fn failed_searches_are_shown_marked_and_counted() {
    let (trajectory, stats, _) = play(&["<search>fail</search>", "<answer>a</answer>"], 1000);
    let turn = &trajectory.turns[0];
    assert!(turn.observation_text.contains(NO_DOCUMENTS));
    let error = turn.search.as_ref().unwrap().error.as_deref();
    assert_eq!(error, Some("search engine `echo` failed on query `fail`: told to"));
    assert_eq!((stats.num_searches, stats.num_search_errors), (1, 1));
}

#[test]
fn a_full_context_truncates() {
    const TURNS: &[&str] = &["<search>x</search>", "<search>y</search>", "<answer>a</answer>"];
    // Prompt 5, turn 18: 23 tokens.
    for context_length in 6..200 {
        let (trajectory, stats, engine) = play(TURNS, context_length);
        assert!(trajectory.num_tokens() <= context_length, "{context_length}");
        assert_eq!(trajectory.tokens().len(), trajectory.old_log_probs().len());
        assert_eq!(trajectory.truncated, trajectory.transcript().answer().is_none());
        assert_eq!(stats.num_truncated, usize::from(trajectory.truncated));
        if context_length <= 23 {
            assert!(engine.batches.lock().unwrap().is_empty(), "{context_length}");
        }
    }
    assert!(!play(TURNS, 500).0.truncated);
}

#[test]
fn the_turn_after_an_observation_has_room() {
    const TURNS: [&str; 2] = ["<search>x</search>", "<answer>an answer of some length</answer>"];
    let config = RolloutConfig { min_turn_tokens: TURNS[1].len(), ..config() };
    let question = Question::new("q1", "who?", ["a"]);
    let episodes = [Episode { question: &question, key: StreamKey::new(1) }];
    let mut num_cut = 0;
    for context_length in 80..200 {
        let generator = ScriptedGenerator::new(|_, key| TURNS[key.turn as usize].to_owned())
            .with_context_length(context_length);
        let engine = Echo::default();
        let output = rollout(&generator, &engine, &episodes, 0.0, &config, &mut |_| {}).unwrap();
        let trajectory = &output.trajectories[0];
        match trajectory.turns.as_slice() {
            [_] => assert!(trajectory.truncated),
            [first, last] => {
                assert_eq!(last.text, TURNS[1], "{context_length}");
                num_cut += usize::from(!first.observation_text.contains("useful"));
            }
            _ => panic!("{trajectory:?}"),
        }
    }
    assert!(num_cut > 0, "a document must have been cut for the sake of the answer");
}

#[track_caller]
fn check_error(
    context_length: usize,
    noise_probability: f64,
    config: RolloutConfig,
    expected: &str,
) {
    let generator =
        ScriptedGenerator::new(|_, _| String::new()).with_context_length(context_length);
    let question = Question::new("q1", "who?", ["a"]);
    let episodes = [Episode { question: &question, key: StreamKey::new(1) }];
    let result =
        rollout(&generator, &Echo::default(), &episodes, noise_probability, &config, &mut |_| {});
    let message = result.unwrap_err().to_string();
    assert!(message.contains(expected), "{message}");
}

#[test]
fn errors_name_their_cause() {
    check_error(5, 0.0, config(), "question `q1`: the prompt has 5 tokens");
    check_error(99, 1.5, config(), "noise probability is 1.5");
    check_error(99, f64::NAN, config(), "noise probability");
    check_error(99, 0.0, RolloutConfig { num_documents: 0, ..config() }, "`num_documents`");
    check_error(99, 0.0, RolloutConfig { max_new_tokens: 0, ..config() }, "`max_new_tokens`");
    check_error(99, 0.0, RolloutConfig { temperature: -1.0, ..config() }, "`temperature`");
    check_error(99, 0.0, RolloutConfig { top_p: 0.0, ..config() }, "`top_p`");
    check_error(99, 0.0, RolloutConfig { lanes: 0, ..config() }, "`lanes`");
    check_error(99, 0.0, RolloutConfig { min_turn_tokens: 0, ..config() }, "`min_turn_tokens`");
}

#[test]
fn engines_must_answer_every_request() {
    #[derive(Debug)]
    struct Mute;
    impl SearchEngine for Mute {
        fn name(&self) -> &str {
            "mute"
        }
        fn search_batch(&self, _: &[SearchRequest<'_>]) -> Vec<SearchResult> {
            Vec::new()
        }
    }
    let generator = ScriptedGenerator::new(|_, _| "<search>x</search>".to_owned());
    let question = Question::new("q1", "who?", ["a"]);
    let episodes = [Episode { question: &question, key: StreamKey::new(1) }];
    let error = rollout(&generator, &Mute, &episodes, 0.0, &config(), &mut |_| {}).unwrap_err();
    assert!(matches!(error, RolloutError::EngineContract { requests: 1, results: 0, .. }));
}

#[test]
fn events_tell_the_story() {
    let generator = ScriptedGenerator::new(|_, key| match key.turn {
        0 => "<search>x</search>".to_owned(),
        _ => "<answer>a</answer>".to_owned(),
    });
    let question = Question::new("q1", "who?", ["a"]);
    let episodes = [Episode { question: &question, key: StreamKey::new(1) }];
    let (mut tokens, mut turns, mut finished) = (Vec::new(), Vec::new(), Vec::new());
    let output =
        rollout(
            &generator,
            &Echo::default(),
            &episodes,
            0.0,
            &config(),
            &mut |event| match event {
                RolloutEvent::Token { token, .. } => tokens.push(token),
                RolloutEvent::Consult { .. } => panic!("there is nobody to consult"),
                RolloutEvent::Turn { record, .. } => turns.push(record.clone()),
                RolloutEvent::Finished { trajectory, .. } => finished.push(trajectory.clone()),
            },
        )
        .unwrap();
    assert_eq!(turns, output.trajectories[0].turns);
    assert_eq!(finished, output.trajectories);
    let sampled: Vec<_> = turns.iter().flat_map(|it| it.completion.tokens.clone()).collect();
    assert_eq!(tokens, sampled);
}

/// A policy whose words are a function of its key and of what it has seen.
pub(super) fn whimsical() -> ScriptedGenerator {
    ScriptedGenerator::new(|text, key| {
        let draw = key.derive_seed(Domain::Sampling) % 5;
        match draw {
            0 => format!("<answer>{}</answer>", text.len()),
            1 => "</answer>".to_owned(),
            2 => "<search>fail</search>".to_owned(),
            _ => format!("<search>{} {draw}</search>", text.len()),
        }
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]
    #[test]
    fn trajectories_do_not_depend_on_batch_order(
        order in Just((0..12_usize).collect::<Vec<_>>()).prop_shuffle(),
        seed in 0_u64..1000,
    ) {
        let generator = whimsical();
        let questions: Vec<Question> =
            (0..4).map(|it| Question::new(format!("q{it}"), format!("{it}?"), ["a"])).collect();
        let episode = |index: usize| Episode {
            question: &questions[index / 3],
            key: StreamKey {
                group: (index / 3) as u32,
                sample: (index % 3) as u32,
                ..StreamKey::new(seed)
            },
        };
        let play = |order: &[usize]| {
            let episodes: Vec<Episode<'_>> = order.iter().map(|&it| episode(it)).collect();
            let engine = Echo::default();
            rollout(&generator, &engine, &episodes, 0.5, &config(), &mut |_| {}).unwrap()
        };
        let sorted: Vec<usize> = (0..order.len()).collect();
        let (expected, shuffled) = (play(&sorted), play(&order));
        prop_assert_eq!(expected.stats, shuffled.stats);
        for (&index, trajectory) in order.iter().zip(&shuffled.trajectories) {
            prop_assert_eq!(trajectory, &expected.trajectories[index]);
            // Alone in its batch, the same again.
            prop_assert_eq!(trajectory, &play(&[index]).trajectories[0]);
        }
    }
}

#[test]
fn noise_is_drawn_for_each_query() {
    let generator = ScriptedGenerator::new(|_, _| "<search>x</search>".to_owned());
    let question = Question::new("q1", "who?", ["a"]);
    let episodes: Vec<Episode<'_>> = (0..500)
        .map(|sample| Episode {
            question: &question,
            key: StreamKey { sample, ..StreamKey::new(3) },
        })
        .collect();
    let noisy = |p| {
        let output =
            rollout(&generator, &Echo::default(), &episodes, p, &config(), &mut |_| {}).unwrap();
        let mixed = output
            .trajectories
            .iter()
            .filter(|it| {
                let mut qualities = it.searches().map(|search| search.quality);
                let first = qualities.next();
                qualities.any(|it| Some(it) != first)
            })
            .count();
        (output.stats.num_noisy, mixed)
    };
    assert_eq!(noisy(0.0), (0, 0));
    assert_eq!(noisy(1.0), (1000, 0));
    // 1000 draws at 0.3: standard deviation 14.5; mixed episodes 2 * 0.3 * 0.7 of 500.
    let (noisy, mixed) = noisy(0.3);
    assert!((230..=370).contains(&noisy), "{noisy}");
    assert!((140..=280).contains(&mixed), "{mixed}");
}

#[test]
fn noise_may_differ_from_turn_to_turn() {
    let generator = ScriptedGenerator::new(|_, _| "<search> q </search>".to_owned());
    let question = Question::new("q1", "who?", ["a"]);
    let episodes = [Episode { question: &question, key: StreamKey::new(3) }; 4];
    let noise = vec![1.0, 0.0];
    let output =
        rollout(&generator, &Echo::default(), &episodes, noise, &config(), &mut |_| {}).unwrap();
    for trajectory in &output.trajectories {
        let qualities: Vec<_> = trajectory.searches().map(|it| it.quality).collect();
        assert_eq!(qualities, [DocumentQuality::Noisy, DocumentQuality::Useful]);
    }
}

#[test]
fn metrics_are_means_and_fractions() {
    let stats = RolloutStats {
        num_trajectories: 4,
        num_turns: 8,
        num_searches: 5,
        num_noisy: 2,
        num_search_errors: 2,
        num_malformed: 1,
        num_refused_searches: 3,
        num_invalid: 2,
        num_answered: 3,
        num_truncated: 1,
        tokens_sampled: 40,
        tokens_observed: 20,
        words_after_documents: 8,
        words_copied: 2,
        ..RolloutStats::default()
    };
    let expected = [
        ("rollout/num_turns", 2.0),
        ("rollout/num_searches", 1.25),
        ("rollout/finish_ratio", 0.75),
        ("rollout/truncated_frac", 0.25),
        ("rollout/invalid_frac", 0.25),
        ("rollout/document_copy_frac", 0.25),
        ("rollout/tokens_sampled", 10.0),
        ("rollout/tokens_observed", 5.0),
        ("search/num_searches", 5.0),
        ("search/num_refused", 3.0),
        ("search/noisy_frac", 0.4),
        ("search/error_frac", 0.4),
        ("search/malformed_frac", 0.2),
    ];
    assert_eq!(stats.metrics(), expected);
    let more = RolloutStats {
        num_over_budget: 1,
        num_consults: 4,
        num_consult_errors: 1,
        num_refused_consults: 2,
        tokens_consulted: 12,
        programs: ProgramStats {
            num_checks: 10,
            num_modified: 2,
            num_injected: 4,
            num_rate_limited: 1,
            num_failed: 5,
        },
        ..stats
    };
    let added = [
        ("rollout/over_budget_frac", 0.25),
        ("consult/num_consults", 1.0),
        ("consult/num_refused", 0.5),
        ("consult/error_frac", 0.25),
        ("consult/tokens", 3.0),
        ("program/num_modified", 0.5),
        ("program/num_injected", 1.0),
        ("program/num_rate_limited", 0.25),
        ("program/failed_frac", 0.5),
    ];
    assert_eq!(more.metrics(), [&expected[..], &added[..]].concat());
    assert!(RolloutStats::default().metrics().iter().all(|(_, value)| *value == 0.0));
}
