//! Several lanes: the same episodes as with one, and search of one lane during the sampling of
//! another.

use std::collections::BTreeSet;
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use zs_core::{Document, SearchRequest, SearchResult, StreamKey};
use zs_model::testing::ScriptedGenerator;
use zs_model::{
    Completion, GenerateError, SamplingParams, SequenceRequest, Session, TokenId, Tokenizer,
};

use super::hook_tests::{episodes, questions, registry};
use super::property_tests::{Meddling, hooked_config, lively};
use super::tests::{Echo, config};
use super::*;

/// Plays a rollout; returns its result and the events that its observer got for each episode.
fn play(
    config: &RolloutConfig,
    seed: u64,
    consultants: Option<&HelperRegistry>,
) -> (RolloutOutput, Vec<String>) {
    let (generator, engine, questions) = (lively(), Echo::default(), questions());
    let harness = Harness::new(vec![Box::new(Meddling)]);
    let rollout = Rollout {
        noise_probability: 0.5.into(),
        harness: Some(&harness),
        consultants,
        ..Rollout::new(&generator, &engine, config)
    };
    let mut told = vec![String::new(); 12];
    let output = rollout
        .play(&episodes(&questions, seed), &mut |event| {
            let episode = match event {
                RolloutEvent::Token { episode, .. }
                | RolloutEvent::Consult { episode, .. }
                | RolloutEvent::Turn { episode, .. }
                | RolloutEvent::Finished { episode, .. } => episode,
            };
            told[episode].push_str(&format!("{event:?}\n"));
        })
        .unwrap();
    (output, told)
}

/// Beyond a budget, a row's events show what is then cut off, and that is as long as others of its lane
/// may write; so events are compared without budgets.
#[test]
fn episodes_and_their_events_do_not_depend_on_the_lanes() {
    let (agents, _) = registry(3);
    for seed in 0..10 {
        for (consultants, has_budget) in
            [(None, false), (None, true), (Some(&agents), false), (Some(&agents), true)]
        {
            let mut config = hooked_config();
            config.token_budget = config.token_budget.filter(|_| has_budget);
            let (expected, told_once) = play(&config, seed, consultants);
            for lanes in [2, 3, 4, 100] {
                config.lanes = lanes;
                let (output, told) = play(&config, seed, consultants);
                assert!(output == expected, "{lanes} lanes, seed {seed}: other episodes");
                assert!(
                    has_budget || told == told_once,
                    "{lanes} lanes, seed {seed}: other events"
                );
            }
        }
    }
}

/// Shared state that threads wait on, with a timeout.
#[derive(Debug, Default)]
struct Board {
    seen: Mutex<BTreeSet<String>>,
    changed: Condvar,
}

impl Board {
    fn note(&self, what: String) {
        self.seen.lock().unwrap().insert(what);
        self.changed.notify_all();
    }

    #[track_caller]
    fn wait_for(&self, what: &str) {
        let limit = Duration::from_secs(20);
        let seen = self.seen.lock().unwrap();
        let (_seen, waited) =
            self.changed.wait_timeout_while(seen, limit, |it| !it.contains(what)).unwrap();
        assert!(!waited.timed_out(), "`{what}` does not happen");
    }
}

/// Says when it begins to search, and does what it is told before it answers.
struct Busy<F> {
    board: Arc<Board>,
    answer: F,
}

impl<F> std::fmt::Debug for Busy<F> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Busy")
    }
}

/// Engine whose number of results for `[question] turn` queries is given by a function.
impl<F: Fn(&Board, &[&str]) -> usize + Send + Sync> SearchEngine for Busy<F> {
    fn name(&self) -> &str {
        "busy"
    }

    fn search_batch(&self, requests: &[SearchRequest<'_>]) -> Vec<SearchResult> {
        let queries: Vec<&str> = requests.iter().map(|it| it.query).collect();
        queries.iter().for_each(|it| self.board.note(format!("search {it}")));
        let count = (self.answer)(&self.board, &queries);
        (0..count).map(|_| Ok(vec![Document::new("", "x")])).collect()
    }
}

/// Searches for `[question] turn` in two turns, then answers.
fn searcher(
    board: &Arc<Board>,
    on_sample: impl Fn(&Board, &str) + Sync + Send + 'static,
) -> ScriptedGenerator {
    let board = Arc::clone(board);
    ScriptedGenerator::new(move |text, key: StreamKey| {
        let query = format!("{} {}", &text[..1], key.turn);
        board.note(format!("sample {query}"));
        on_sample(&board, &query);
        match key.turn {
            0 | 1 => format!("<search>{query}</search>"),
            _ => "<answer>a</answer>".to_owned(),
        }
    })
}

#[test]
fn one_lane_searches_while_the_other_samples() {
    let board = Arc::new(Board::default());
    // Each side goes on only once the other is at work: both are at the same time.
    let generator = searcher(&board, |board, query| match query {
        "2 0" => board.wait_for("search 0 0"),
        "0 1" => board.wait_for("search 2 0"),
        _ => (),
    });
    let answer = |board: &Board, queries: &[&str]| {
        match queries {
            ["0 0", "1 0"] => board.wait_for("sample 2 0"),
            ["2 0", "3 0"] => board.wait_for("sample 0 1"),
            _ => (),
        }
        queries.len()
    };
    let engine = Busy { board, answer };
    let config = RolloutConfig { lanes: 2, ..config() };
    let questions = questions();
    let episodes: Vec<Episode<'_>> =
        questions.iter().map(|it| Episode { question: it, key: StreamKey::new(1) }).collect();
    let output = rollout(&generator, &engine, &episodes, 0.0, &config, &mut |_| {}).unwrap();
    assert_eq!((output.stats.num_searches, output.stats.num_answered), (8, 4));
}

/// Plays four questions, the last of them twice, in two lanes, with an engine that fails in some
/// way.
fn err(
    wrap: impl FnOnce(ScriptedGenerator) -> Box<dyn Generator>,
    answer: impl Fn(&Board, &[&str]) -> usize + Send + Sync,
) -> (RolloutError, BTreeSet<String>) {
    let board = Arc::new(Board::default());
    let generator = wrap(searcher(&board, |_, _| ()));
    let engine = Busy { board: Arc::clone(&board), answer };
    let config = RolloutConfig { lanes: 2, ..config() };
    let questions = questions();
    let episodes: Vec<Episode<'_>> = [0, 1, 2, 3, 3]
        .map(|it| Episode { question: &questions[it], key: StreamKey::new(1) })
        .into();
    let error =
        rollout(generator.as_ref(), &engine, &episodes, 0.0, &config, &mut |_| {}).unwrap_err();
    let seen = board.seen.lock().unwrap().clone();
    (error, seen)
}

#[test]
fn the_error_is_that_of_the_first_lane_that_failed() {
    let (error, _) = err(
        |it| Box::new(it),
        |board, queries| {
            // Both fail, and the second lane may do so before the first.
            if queries.contains(&"0 0") {
                board.wait_for("search 2 0");
            }
            queries.len() - 1
        },
    );
    assert!(error.to_string().contains("returned 1 results for 2 requests"), "{error}");
}

/// Cannot go on with the question `2`.
#[derive(Debug)]
struct Failing(ScriptedGenerator);

struct FailingSession<'a>(Box<dyn Session + 'a>);

impl Generator for Failing {
    fn tokenizer(&self) -> &Tokenizer {
        self.0.tokenizer()
    }

    fn context_length(&self) -> usize {
        self.0.context_length()
    }

    fn session(&self, num_sequences: usize) -> Box<dyn Session + '_> {
        Box::new(FailingSession(self.0.session(num_sequences)))
    }
}

impl Session for FailingSession<'_> {
    fn extend(
        &mut self,
        requests: &[SequenceRequest<'_>],
        params: &SamplingParams,
        on_token: &mut dyn FnMut(usize, TokenId),
    ) -> Result<Vec<Completion>, GenerateError> {
        let completions = self.0.extend(requests, params, on_token)?;
        match requests.iter().any(|it| it.append.starts_with(&[u32::from(b'2')])) {
            true => Err(GenerateError::Other { message: "out of words".to_owned() }),
            false => Ok(completions),
        }
    }

    fn sequence_len(&self, sequence: usize) -> usize {
        self.0.sequence_len(sequence)
    }
}

#[test]
fn no_lane_is_sampled_after_another_has_failed() {
    // The first lane is searching while the second fails, and comes back to be dropped.
    let (error, seen) = err(
        |it| Box::new(Failing(it)),
        |board, queries| {
            board.wait_for("sample 2 0");
            queries.len()
        },
    );
    assert!(matches!(error, RolloutError::Generate(_)), "{error:?}");
    let all = ["sample 0 0", "sample 1 0", "sample 2 0", "sample 3 0", "search 0 0", "search 1 0"];
    assert_eq!(seen, all.map(str::to_owned).into());
}

#[test]
fn a_panic_of_an_engine_is_a_failed_search() {
    for lanes in [1, 2] {
        let board = Arc::new(Board::default());
        let generator = searcher(&board, |_, _| ());
        let answer = |_: &Board, queries: &[&str]| match queries.contains(&"2 0") {
            true => panic!("the engine is broken"),
            false => queries.len(),
        };
        let engine = Busy { board, answer };
        let config = RolloutConfig { lanes, ..config() };
        let questions = questions();
        let episodes: Vec<Episode<'_>> =
            questions.iter().map(|it| Episode { question: it, key: StreamKey::new(1) }).collect();
        let output = rollout(&generator, &engine, &episodes, 0.0, &config, &mut |_| {}).unwrap();
        let errors: Vec<&str> =
            output.trajectories[2].searches().filter_map(|it| it.error.as_deref()).collect();
        let expected = "search engine `busy` failed on query `2 0`: panicked: the engine is broken";
        assert_eq!(errors, [expected], "{lanes} lanes");
        assert_eq!(output.stats.num_answered, 4);
    }
}
