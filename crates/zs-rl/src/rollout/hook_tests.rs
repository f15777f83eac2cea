//! Rollouts with program functions, helper models and budgets.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use zs_core::registry::Spec;
use zs_core::{Action, Domain, StreamKey};
use zs_model::StopReason;
use zs_model::testing::{ScriptedGenerator, byte_tokenizer};

use super::helper_reply::{CONSULT_REFUSED, NO_REPLY};
use super::tests::{Echo, config, whimsical};
use super::*;
use crate::consult::{HelperError, HelperModel, HelperReply, HelperRequest};
use crate::program::{Intervention, ProgramContext, ProgramError, ProgramFunction, ProgramOutcome};
use crate::write_records;

/// Answers with everything that the request says; fails on requests with `fail`.
#[derive(Debug, Default)]
pub(super) struct EchoAgent {
    num_calls: AtomicUsize,
}

impl HelperModel for EchoAgent {
    fn consult_batch(
        &self,
        requests: &[HelperRequest<'_>],
    ) -> Vec<Result<HelperReply, HelperError>> {
        self.num_calls.fetch_add(requests.len(), Ordering::Relaxed);
        let reply = |it: &HelperRequest<'_>| {
            if it.request.contains("fail") {
                return Err(HelperError::Other("told to".to_owned()));
            }
            let draw = it.key.derive_seed(Domain::Sampling) % 10;
            let text = format!(" {} {} {draw}. ", it.request, it.question);
            Ok(HelperReply { text, ..HelperReply::default() })
        };
        requests.iter().map(reply).collect()
    }
}

pub(super) fn registry(budget: u32) -> (HelperRegistry, Arc<EchoAgent>) {
    let agent = Arc::new(EchoAgent::default());
    let registry = HelperKind::ALL.into_iter().fold(HelperRegistry::new(budget), |it, kind| {
        it.with(kind, Arc::clone(&agent) as Arc<dyn HelperModel>)
    });
    (registry, agent)
}

pub(super) fn questions() -> Vec<Question> {
    (0..4_u8)
        .map(|it| Question {
            hops: Some(it),
            ..Question::new(format!("q{it}"), format!("{it}?"), ["a"])
        })
        .collect()
}

pub(super) fn episodes(questions: &[Question], seed: u64) -> Vec<Episode<'_>> {
    (0..12)
        .map(|index| Episode {
            question: &questions[index / 3],
            key: StreamKey {
                group: (index / 3) as u32,
                sample: (index % 3) as u32,
                ..StreamKey::new(seed)
            },
        })
        .collect()
}

/// Plays one episode whose texts are given by turn and part.
fn play_one(
    script: fn(u32, u32) -> &'static str,
    edit: impl FnOnce(&mut RolloutConfig),
    consultants: Option<&HelperRegistry>,
    harness: Option<&Harness>,
) -> RolloutOutput {
    let generator = ScriptedGenerator::new(move |_, key: StreamKey| {
        script(key.turn & 0xffff, key.turn >> 16).to_owned()
    });
    let question = Question::new("q1", "who?", ["a"]);
    let mut config = config();
    edit(&mut config);
    let engine = Echo::default();
    let rollout = Rollout { consultants, harness, ..Rollout::new(&generator, &engine, &config) };
    let episode = Episode { question: &question, key: StreamKey::new(1) };
    rollout.play(&[episode], &mut |_| {}).unwrap()
}

/// Everything that a rollout says and returns, as bytes.
fn bytes_of(rollout: &Rollout<'_>, episodes: &[Episode<'_>]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let output = rollout
        .play(episodes, &mut |event| bytes.extend(format!("{event:?}\n").into_bytes()))
        .unwrap();
    write_records(&mut bytes, &output.trajectories).unwrap();
    bytes.extend(format!("{:?}", output.stats).into_bytes());
    bytes
}

#[test]
fn an_empty_library_is_the_plain_loop_byte_for_byte() {
    let (generator, engine, config) = (whimsical(), Echo::default(), config());
    let questions = questions();
    let nobody = HelperRegistry::new(5);
    for seed in 0..20 {
        let episodes = episodes(&questions, seed);
        let plain =
            Rollout { noise_probability: 0.5.into(), ..Rollout::new(&generator, &engine, &config) };
        let expected = bytes_of(&plain, &episodes);
        let empty = Harness::default();
        assert_eq!(
            bytes_of(&Rollout { harness: Some(&empty), ..plain.clone() }, &episodes),
            expected
        );
        assert_eq!(
            bytes_of(&Rollout { consultants: Some(&nobody), ..plain.clone() }, &episodes),
            expected
        );
        // Nor does anybody change anything who is never asked.
        let (registry, agent) = registry(5);
        assert_eq!(
            bytes_of(&Rollout { consultants: Some(&registry), ..plain.clone() }, &episodes),
            expected
        );
        assert_eq!(agent.num_calls.load(Ordering::Relaxed), 0);
    }
}

#[test]
fn a_blind_answer_becomes_a_search() {
    let output = play_one(
        |_, _| "<answer> x </answer>",
        |it| it.programs = vec![Spec::named("insufficient_exploration")],
        None,
        None,
    );
    let [first, second] = output.trajectories[0].turns.as_slice() else { panic!("{output:?}") };
    assert_eq!(first.text, "<answer> x </answer>");
    assert_eq!(first.action, Action::Search("who?".into()));
    assert_eq!(first.search.as_ref().unwrap().query, "who?");
    assert!(first.observation_text.starts_with("\n\n<information>Doc 1: who? q1"));
    assert_eq!(second.action, Action::Answer("x".into()));
    assert_eq!((output.stats.num_searches, output.stats.num_answered), (1, 1));
    assert_eq!((output.stats.programs.num_checks, output.stats.programs.num_modified), (2, 1));
}

/// Tells the policy something, whatever it does.
#[derive(Debug)]
struct Nagging;

impl ProgramFunction for Nagging {
    fn id(&self) -> &str {
        "nagging"
    }

    fn should_activate(
        &self,
        _context: &ProgramContext<'_>,
        _action: &Action,
    ) -> Result<bool, ProgramError> {
        Ok(true)
    }

    fn intervene(
        &self,
        context: &ProgramContext<'_>,
        _action: &Action,
    ) -> Result<Intervention, ProgramError> {
        let text = format!("sure <answer> {} </answer>?", context.step);
        Ok(Intervention::InjectContext { text, reason: "always".to_owned() })
    }
}

#[test]
fn injections_follow_documents_and_send_answers_back() {
    let harness = Harness::new(vec![Box::new(Nagging)]);
    let script =
        |turn: u32, _: u32| ["<search> x </search>", "<answer> b </answer>"][turn.min(1) as usize];
    let output = play_one(script, |_| {}, None, Some(&harness));
    let turns = &output.trajectories[0].turns;
    assert!(
        turns[0].observation_text.ends_with("\n</information>\n\n\nsure ‹answer› 0 ‹/answer›?\n")
    );
    // The answer of turn 1 is sent back; that of turn 2, the last, stands.
    assert_eq!(turns[1].observation_text, "\nsure ‹answer› 1 ‹/answer›?\n");
    assert_eq!(turns.len(), 3);
    assert_eq!(output.trajectories[0].transcript().answer(), Some("b"));
    assert_eq!(output.stats.programs.num_injected, 2);
    assert_eq!(output.trajectories[0].programs[2].outcome, ProgramOutcome::RateLimited);
}

#[test]
fn an_answer_that_cannot_be_sent_back_stands() {
    let harness = Harness::new(vec![Box::new(Nagging)]);
    let (question, config) = (Question::new("q1", "who?", ["a"]), config());
    let episode = Episode { question: &question, key: StreamKey::new(1) };
    // Prompt 5, answer 20: from 26 tokens on there is room for more, from 51 on for all of it.
    for context_length in 6..120 {
        let generator = ScriptedGenerator::new(|_, _| "<answer> b </answer>".to_owned())
            .with_context_length(context_length);
        let engine = Echo::default();
        let rollout =
            Rollout { harness: Some(&harness), ..Rollout::new(&generator, &engine, &config) };
        let output = rollout.play(&[episode], &mut |_| {}).unwrap();
        let trajectory = &output.trajectories[0];
        assert!(trajectory.num_tokens() <= context_length, "{context_length}");
        let is_answered = trajectory.transcript().answer() == Some("b");
        assert_eq!(trajectory.truncated, !is_answered, "{context_length}");
        assert!(context_length < 26 || trajectory.turns.len() > 1 || is_answered);
    }
}

#[test]
fn consultations_stand_inside_of_their_turn() {
    let (registry, agent) = registry(5);
    let script = |turn, part| match (turn, part) {
        (0, 0) => "<think> hm <verify> 1 + 1 = 2 </verify>",
        (0, 1) => "<knowledge> fail </knowledge>",
        (0, 2) => "so </think> <search> x </search>",
        _ => "<answer> a </answer>",
    };
    let output = play_one(script, |_| {}, Some(&registry), None);
    let trajectory = &output.trajectories[0];
    assert_eq!(agent.num_calls.load(Ordering::Relaxed), 2);
    let [verify, knowledge] = trajectory.consults.as_slice() else { panic!("{trajectory:?}") };
    assert_eq!((verify.turn, verify.agent), (0, HelperKind::Verify));
    assert_eq!(verify.request, "1 + 1 = 2");
    assert_eq!(knowledge.reply_text, NO_REPLY);
    assert_eq!(knowledge.error.as_deref(), Some("told to"));
    let text = byte_tokenizer().decode(&trajectory.tokens());
    let shown = [
        "who?|",
        "<think> hm <verify> 1 + 1 = 2 </verify>",
        &verify.reply_text,
        "<knowledge> fail </knowledge>",
        NO_REPLY,
        "so </think> <search> x </search>",
        &trajectory.turns[0].observation_text,
        "<answer> a </answer>",
    ];
    assert_eq!(text, shown.concat());
    assert_eq!(trajectory.turns.len(), 2);
    assert_eq!(trajectory.turns[0].action, Action::Search("x".into()));
    let stats = output.stats;
    assert_eq!((stats.num_consults, stats.num_consult_errors, stats.num_invalid), (2, 1, 0));
    assert_eq!(stats.tokens_consulted, verify.reply.len());
}

#[test]
fn the_sixth_call_is_refused() {
    let (registry, agent) = registry(5);
    let ask = |_, _| "<reasoning> x </reasoning>";
    let output = play_one(ask, |_| {}, Some(&registry), None);
    let trajectory = &output.trajectories[0];
    assert_eq!((trajectory.consults.len(), agent.num_calls.load(Ordering::Relaxed)), (5, 5));
    // Three turns: the sixth call ends the first, and the next two get no further either.
    assert_eq!((trajectory.turns.len(), trajectory.refused_consults), (3, 3));
    assert_eq!(trajectory.turns[0].observation_text, CONSULT_REFUSED);
    assert_eq!(output.stats.num_refused_consults, 3);
    // Without a registry it is an invalid turn like any other.
    let output = play_one(ask, |_| {}, None, None);
    assert!(output.trajectories[0].consults.is_empty());
    assert_eq!(output.stats.num_refused_consults, 0);
}

#[test]
fn replies_end_where_the_context_does() {
    let (registry, _) = registry(5);
    for context_length in 6..120 {
        let generator = ScriptedGenerator::new(|_, _| "<verify> x </verify>".to_owned())
            .with_context_length(context_length);
        let (question, engine, config) =
            (Question::new("q1", "who?", ["a"]), Echo::default(), config());
        let rollout =
            Rollout { consultants: Some(&registry), ..Rollout::new(&generator, &engine, &config) };
        let episode = Episode { question: &question, key: StreamKey::new(1) };
        let output = rollout.play(&[episode], &mut |_| {}).unwrap();
        assert!(output.trajectories[0].num_tokens() <= context_length, "{context_length}");
        assert!(output.trajectories[0].truncated, "{context_length}");
    }
}

#[test]
fn a_spent_budget_ends_the_episode() {
    // Turns of 21 tokens.
    let script = |turn: u32, _: u32| {
        ["<search> xy </search>", "<answer> a </answer>!"][turn.min(1) as usize]
    };
    let budget = |tokens| {
        move |it: &mut RolloutConfig| {
            it.token_budget = Some(TokenBudget { tokens, by_hops: Vec::new() });
        }
    };
    for tokens in 1..60 {
        let output = play_one(script, budget(tokens), None, None);
        let trajectory = &output.trajectories[0];
        let written: usize = trajectory.turns.iter().map(|it| it.completion.tokens.len()).sum();
        assert!(written <= tokens);
        assert_eq!(trajectory.over_budget, tokens < 41, "{tokens}");
        assert_eq!(trajectory.transcript().answer().is_some(), tokens >= 41, "{tokens}");
        assert!(!trajectory.truncated);
        assert_eq!(output.stats.num_over_budget, usize::from(tokens < 41));
        let last = trajectory.turns.last().unwrap();
        assert_eq!(last.completion.tokens.len(), last.completion.log_probs.len());
        if tokens < 21 {
            assert_eq!(last.completion.stop_reason, StopReason::Length);
            assert_eq!(last.action, Action::Invalid);
        }
    }
}
