//! Demonstrations against rollouts of policies that write the same texts.

use zs_model::testing::{ScriptedGenerator, byte_tokenizer};
use zs_model::{ChatTemplate, Generator};

use super::*;
use crate::rollout::tests::{Echo, config};
use crate::{Provenance, TokenBudget};

fn question() -> Question {
    Question::new("q", "who?", ["x"])
}

fn of_texts(texts: &[&str]) -> Demonstration {
    let turn = |text: &&str| DemonstratedTurn {
        text: (*text).to_owned(),
        documents: match parse_action(text) {
            Action::Search(query) => vec![Document::new("T", format!("about {query}"))],
            _ => Vec::new(),
        },
    };
    Demonstration { question: question(), turns: texts.iter().map(turn).collect() }
}

/// Plays the turns as a policy, and what was recorded as a demonstration.
#[track_caller]
fn check_same(turns: &'static [&'static str], config: &RolloutConfig, policy: ScriptedGenerator) {
    let question = question();
    let episode = Episode { question: &question, key: StreamKey::new(7) };
    let engine = Echo::default();
    let rollout =
        Rollout { noise_probability: 0.5.into(), ..Rollout::new(&policy, &engine, config) };
    let recorded = rollout.play(&[episode], &mut |_| {}).unwrap().trajectories.remove(0);
    let demonstration = Demonstration::of(&recorded, question.clone());
    let played = demonstration.play(policy.tokenizer(), policy.context_length(), config).unwrap();
    assert_eq!(recorded.turns.len(), turns.len());
    assert_eq!(played.tokens(), recorded.tokens());
    assert_eq!(played.provenance(), recorded.provenance());
    assert_eq!(played.token_row(), recorded.token_row());
}

fn template(source: &str) -> ChatTemplate {
    ChatTemplate::new(source.to_owned(), String::new(), String::new()).unwrap()
}

fn policy(turns: &'static [&'static str]) -> ScriptedGenerator {
    ScriptedGenerator::new(|_, key| turns[key.turn as usize].to_owned())
}

#[test]
fn tokens_and_authors_are_those_of_the_rollout() {
    const TURNS: &[&str] = &[
        "<think> a </think> <search> état d'Ohio </search>",
        "<search> fail </search>",
        "<think> hm </think> <answer> x </answer>",
    ];
    check_same(TURNS, &config(), policy(TURNS));
    let titled = RolloutConfig { document_titles: true, num_documents: 3, ..config() };
    check_same(TURNS, &titled, policy(TURNS));
    // Documents are cut where they are in a rollout.
    let short = RolloutConfig { max_observation_tokens: 60, ..config() };
    check_same(TURNS, &short, policy(TURNS));
    let chat = "{% for m in messages %}[{{ m.role }}]{{ m.content }}{% endfor %}[assistant]";
    check_same(TURNS, &config(), policy(TURNS).with_chat_template(template(chat)));
}

#[test]
fn thoughts_that_the_prompt_opens_are_not_written_twice() {
    const THOUGHT: &[&str] = &["a </think> <search> b </search>", "<answer> x </answer>"];
    let chat = template("{{ messages[0].content }}<think>{{ '\\n' }}");
    check_same(THOUGHT, &config(), policy(THOUGHT).with_chat_template(chat.clone()));
    let tokenizer = byte_tokenizer().with_chat_template(Some(chat));
    let play = |texts: &[&str]| of_texts(texts).play(&tokenizer, 1000, &config()).unwrap();
    let opened = ["<think> a </think> <search> b </search>", "<answer> x </answer>"];
    assert_eq!(play(&opened), play(THOUGHT));
    const QUERY: &[&str] = &[" b </search>", "<answer> x </answer>"];
    let chat = template("{{ messages[0].content }}<search>");
    check_same(QUERY, &config(), policy(QUERY).with_chat_template(chat));
}

#[track_caller]
fn check_refused(texts: &[&str], config: &RolloutConfig, context_length: usize, expected: &str) {
    let refused = of_texts(texts).play(&byte_tokenizer(), context_length, config).unwrap_err();
    assert_eq!(refused.to_string().replace('\n', " "), expected);
}

#[test]
fn episodes_that_no_rollout_has_are_refused() {
    const SEARCH: &str = "<search> b </search>";
    const ANSWER: &str = "<answer> x </answer>";
    let refused = |texts: &[&str], expected: &str| {
        check_refused(texts, &config(), 1000, expected);
    };
    refused(&[], "the episode has no turns");
    refused(&[SEARCH], "the episode ends with a search and has no answer");
    refused(&[ANSWER, ANSWER], "turn 2 comes after the answer");
    refused(&[SEARCH, "<answer> x"], "turn 2: `<answer>` is unmatched or out of place");
    refused(&["<search> </search>", ANSWER], NO_ACTION);
    refused(&["so", ANSWER], NO_ACTION);
    refused(
        &[&format!("{SEARCH} and"), ANSWER],
        "turn 1 has text after its closing tag, where sampling stops",
    );
    refused(
        &[SEARCH, SEARCH, SEARCH, ANSWER],
        "the episode has 3 searches, more than `max_searches` = 2",
    );
    let mut found = of_texts(&[ANSWER]);
    found.turns[0].documents.push(Document::new("", "d"));
    let message = found.play(&byte_tokenizer(), 1000, &config()).unwrap_err().to_string();
    assert_eq!(message, "turn 1 has the result of a search and does not search");
    let brief = RolloutConfig { max_new_tokens: 20, ..config() };
    let long = "<answer> a long one </answer>";
    check_refused(
        &[SEARCH, long],
        &brief,
        1000,
        "turn 2 has more tokens than `max_new_tokens` = 20",
    );
    let full = |turn: usize, context: usize| {
        format!(
            "the model's context of {context} tokens is full after turn {turn}; show fewer \
             documents (`num_documents`, `max_observation_tokens`)"
        )
    };
    let episode = of_texts(&[SEARCH, ANSWER]);
    let whole = episode.play(&byte_tokenizer(), 1000, &config()).unwrap();
    let tokens = whole.num_tokens();
    assert_eq!(episode.play(&byte_tokenizer(), tokens, &config()).unwrap(), whole);
    check_refused(&[SEARCH, ANSWER], &config(), tokens - 1, &full(2, tokens - 1));
    check_refused(&[SEARCH, ANSWER], &config(), 40, &full(1, 40));
    check_refused(&[SEARCH, ANSWER], &config(), 15, &full(1, 15));
    let budget = RolloutConfig {
        token_budget: Some(TokenBudget { tokens: 30, by_hops: vec![] }),
        ..config()
    };
    check_refused(&[SEARCH, ANSWER], &budget, 1000, "turn 2 exceeds `token_budget`");
    let message = of_texts(&[ANSWER]).play(&byte_tokenizer(), 3, &config()).unwrap_err();
    assert!(message.to_string().starts_with("question `q`: the prompt has 5 tokens"), "{message}");
}

const NO_ACTION: &str =
    "turn 1 holds neither `<search> query </search>` nor `<answer> answer </answer>`";

#[test]
fn the_policy_alone_carries_loss() {
    let texts = ["<search> b </search>", "<answer> x </answer>"];
    let trajectory = of_texts(&texts).play(&byte_tokenizer(), 1000, &config()).unwrap();
    let written = trajectory.tokens().into_iter().zip(trajectory.provenance());
    let own: Vec<u32> =
        written.filter(|(_, it)| *it == Provenance::Policy).map(|(token, _)| token).collect();
    assert_eq!(byte_tokenizer().decode(&own), texts.concat());
}

#[test]
fn rows_read_back_and_are_questions_too() {
    let demonstration = of_texts(&["<search> b </search>", "<answer> x </answer>"]);
    let row = serde_json::to_string(&demonstration).unwrap();
    assert!(
        row.starts_with(r#"{"id":"q","question":"who?","golden_answers":["x"],"turns":[{"text":"#)
    );
    assert_eq!(serde_json::from_str::<Demonstration>(&row).unwrap(), demonstration);
}
