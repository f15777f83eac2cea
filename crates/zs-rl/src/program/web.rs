//! Program functions for question answering with a search engine. All are deterministic and look at
//! text only.
//!
//! # Differences
//!
//! HASP's agent searches for titles and then reads a document, ours is shown documents at once. So
//! there is no "searched but did not read", an answer can be sent to search until the last turn (not
//! only with two turns to spare), and "read" means "was shown". Which words count as conflict,
//! recency and negation, when a question counts as multi-hop, and the wording of what is injected
//! are ours; HASP asks its helper model for some of them.
//!
//! # References
//!
//! - [HASP](https://arxiv.org/abs/2605.17734); reference code HolaYan/ExecutableSkills-HASP

use serde::{Deserialize, Serialize};
use zs_core::registry::Settings;
use zs_core::{Action, Document, normalize_answer};

use super::{Intervention, ProgramContext, ProgramError, ProgramFunction};

/// Declares program functions without settings: their types, names in run files and caps. Each has a
/// function `check` of context and action.
macro_rules! program_functions {
    ($($(#[$doc:meta])+ $function:ident, $kind:literal, $max_fires:literal;)+) => {$(
        $(#[$doc])+
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
        pub struct $function {}

        impl Settings for $function {
            const KIND: &'static str = $kind;
        }

        impl ProgramFunction for $function {
            fn id(&self) -> &str {
                Self::KIND
            }

            fn should_activate(
                &self,
                context: &ProgramContext<'_>,
                action: &Action,
            ) -> Result<bool, ProgramError> {
                Ok(Self::check(context, action).is_some())
            }

            fn intervene(
                &self,
                context: &ProgramContext<'_>,
                action: &Action,
            ) -> Result<Intervention, ProgramError> {
                Ok(Self::check(context, action).unwrap_or(Intervention::Noop))
            }

            fn max_fires(&self) -> u32 {
                $max_fires
            }
        }
    )+};
}

program_functions! {
    /// Rewriting of an answer without any search into a search for the question.
    InsufficientExploration, "insufficient_exploration", 2;
    /// Rewriting of a query of more than 15 words into a short one: what it quotes at its start, a
    /// first line of up to 12 words, what it quotes anywhere, or the first 12 words of the question.
    /// Up to 3 times an episode.
    RetrievalFailure, "retrieval_failure", 3;
    /// Return of an answer after fewer than 50 characters were read.
    Hallucination, "hallucination", 2;
    /// Advice to compare sources, where three or more words of conflict ("disputed", "however") were
    /// read on a multi-hop question. Once an episode.
    AdversarialDistraction, "adversarial_distraction", 1;
    /// Return of an answer with a number that stands nowhere in what was read.
    TemporalNumeric, "temporal_numeric", 2;
    /// Return of an answer of up to 10 words none of whose names stands in what was read.
    CitationMismatch, "citation_mismatch", 2;
    /// Return of an answer to a question about the present, when the newest year read is before 2021.
    OutdatedInformation, "outdated_information", 2;
    /// Return of an answer to a question with a negation that the policy has never mentioned.
    NegationOversight, "negation_oversight", 2;
}

const MAX_QUERY_WORDS: usize = 15;
const SHORT_QUERY_WORDS: usize = 12;
const MIN_CHARACTERS_READ: usize = 50;
const MAX_CITED_WORDS: usize = 10;
const MIN_CONFLICT_WORDS: usize = 3;
const OUTDATED_BEFORE: u32 = 2021;

const CONFLICT_WORDS: &[&str] = &[
    "allegedly",
    "although",
    "conflicting",
    "contradicts",
    "contrary",
    "debunked",
    "disputed",
    "hoax",
    "however",
    "incorrectly",
    "mistakenly",
    "reportedly",
    "rumor",
    "rumour",
    "unverified",
];
const RECENCY_WORDS: &[&str] =
    &["current", "currently", "latest", "newest", "now", "nowadays", "recent", "recently", "today"];
const NEGATION_WORDS: &[&str] =
    &["cannot", "except", "excluding", "neither", "never", "no", "none", "nor", "not", "without"];
const HOP_WORDS: &[&str] = &["of", "that", "where", "which", "who", "whom", "whose"];

impl InsufficientExploration {
    fn check(context: &ProgramContext<'_>, action: &Action) -> Option<Intervention> {
        answer_of(action)?;
        let is_blind = context.num_searches() == 0 && context.may_search();
        let search = Action::Search(context.question.trim().to_owned());
        is_blind.then(|| modify(search, "an answer without any search"))
    }
}

impl RetrievalFailure {
    fn check(context: &ProgramContext<'_>, action: &Action) -> Option<Intervention> {
        let Action::Search(query) = action else { return None };
        let short = shortened(query, context.question)?;
        Some(modify(Action::Search(short), "the query has more than 15 words"))
    }
}

impl Hallucination {
    fn check(context: &ProgramContext<'_>, action: &Action) -> Option<Intervention> {
        answer_of(action)?;
        let read: usize = context.documents().map(|it| it.text.chars().count()).sum();
        (read < MIN_CHARACTERS_READ).then(|| {
            inject(
                "I have read next to nothing. I should search before I answer.",
                "an answer after fewer than 50 characters were read",
            )
        })
    }
}

impl AdversarialDistraction {
    fn check(context: &ProgramContext<'_>, action: &Action) -> Option<Intervention> {
        let is_asked = matches!(action, Action::Search(_) | Action::Answer(_));
        let is_conflicting = is_asked
            && is_multi_hop(context.question)
            && num_conflicts(context) >= MIN_CONFLICT_WORDS;
        is_conflicting.then(|| {
            inject(
                "What I have read disagrees with itself. I should compare the sources and \
                 keep to what the question asks at each hop.",
                "three or more words of conflict on a multi-hop question",
            )
        })
    }
}

impl TemporalNumeric {
    fn check(context: &ProgramContext<'_>, action: &Action) -> Option<Intervention> {
        let answer = normalize_answer(answer_of(action)?);
        let read = read_words(context);
        let is_missing = |it: &&str| is_number(it) && !read.iter().any(|word| word == it);
        let number = answer.split_whitespace().find(is_missing)?;
        Some(inject(
            &format!("I have not read {number} anywhere. I should check it."),
            "a number of the answer stands nowhere in what was read",
        ))
    }
}

impl CitationMismatch {
    fn check(context: &ProgramContext<'_>, action: &Action) -> Option<Intervention> {
        is_uncited(answer_of(action)?, context).then(|| {
            inject(
                "None of the names in my answer stands in what I have read. I should check it.",
                "no name of the answer stands in what was read",
            )
        })
    }
}

impl OutdatedInformation {
    fn check(context: &ProgramContext<'_>, action: &Action) -> Option<Intervention> {
        answer_of(action)?;
        let newest = newest_year(context)?;
        let is_outdated = holds_any(context.question, RECENCY_WORDS) && newest < OUTDATED_BEFORE;
        is_outdated.then(|| {
            inject(
                &format!(
                    "The question is about the present, but what I have read ends in {newest}."
                ),
                "a question about the present, and nothing read is recent",
            )
        })
    }
}

impl NegationOversight {
    fn check(context: &ProgramContext<'_>, action: &Action) -> Option<Intervention> {
        answer_of(action)?;
        let mut written = context.turns.iter().map(|it| it.text.as_str()).chain([context.text]);
        let is_overlooked = holds_any(context.question, NEGATION_WORDS)
            && !written.any(|it| holds_any(it, NEGATION_WORDS));
        is_overlooked.then(|| {
            inject(
                "The question holds a negation. I should make sure that my answer respects it.",
                "a negation in the question that was never mentioned",
            )
        })
    }
}

fn answer_of(action: &Action) -> Option<&str> {
    match action {
        Action::Answer(answer) => Some(answer),
        _ => None,
    }
}

fn modify(action: Action, reason: &str) -> Intervention {
    Intervention::ModifyAction { action, reason: reason.to_owned() }
}

fn inject(text: &str, reason: &str) -> Intervention {
    Intervention::InjectContext { text: text.to_owned(), reason: reason.to_owned() }
}

/// A short form of a query that is too long; `None` where it is short, or there is no shorter form.
fn shortened(query: &str, question: &str) -> Option<String> {
    let num_words = |text: &str| text.split_whitespace().count();
    if num_words(query) <= MAX_QUERY_WORDS {
        return None;
    }
    let is_short = |it: &&str| (1..=SHORT_QUERY_WORDS).contains(&num_words(it));
    let quoted = first_quoted(query);
    let leading = quoted.filter(|_| query.trim_start().starts_with(['"', '“']));
    let short = leading
        .or_else(|| query.trim().lines().next().map(str::trim))
        .filter(is_short)
        .or(quoted.filter(is_short));
    let of_question = || -> String {
        question.split_whitespace().take(SHORT_QUERY_WORDS).collect::<Vec<_>>().join(" ")
    };
    Some(short.map_or_else(of_question, str::to_owned)).filter(|it| !it.is_empty())
}

/// Text between the first pair of double quotes.
fn first_quoted(text: &str) -> Option<&str> {
    let (_, rest) = text.split_once(['"', '“'])?;
    let (quoted, _) = rest.split_once(['"', '”'])?;
    Some(quoted.trim()).filter(|it| !it.is_empty())
}

fn words(text: &str) -> impl Iterator<Item = String> {
    text.split(|it: char| !it.is_alphanumeric() && it != '\'')
        .filter(|it| !it.is_empty())
        .map(str::to_lowercase)
}

fn holds_any(text: &str, list: &[&str]) -> bool {
    words(text)
        .any(|it| list.contains(&it.as_str()) || it.ends_with("n't") && list == NEGATION_WORDS)
}

/// Two or more words that tie one thing to another.
fn is_multi_hop(question: &str) -> bool {
    words(question).filter(|it| HOP_WORDS.contains(&it.as_str())).count() >= 2
}

fn num_conflicts(context: &ProgramContext<'_>) -> usize {
    let of_document = |it: &Document| {
        words(&it.text).filter(|word| CONFLICT_WORDS.contains(&word.as_str())).count()
    };
    context.documents().map(of_document).sum()
}

fn read_text(context: &ProgramContext<'_>) -> String {
    let texts: Vec<String> =
        context.documents().map(|it| format!("{} {}", it.title, it.text)).collect();
    normalize_answer(&texts.join("\n"))
}

fn read_words(context: &ProgramContext<'_>) -> Vec<String> {
    read_text(context).split_whitespace().map(str::to_owned).collect()
}

fn is_number(word: &str) -> bool {
    !word.is_empty() && word.bytes().all(|it| it.is_ascii_digit())
}

fn newest_year(context: &ProgramContext<'_>) -> Option<u32> {
    let years = read_words(context);
    let years = years.iter().filter(|it| it.len() == 4 && is_number(it));
    years.filter_map(|it| it.parse().ok()).filter(|it| (1000..2100).contains(it)).max()
}

/// Tells whether a short answer has names, none of which was in a document.
fn is_uncited(answer: &str, context: &ProgramContext<'_>) -> bool {
    let words: Vec<&str> = answer.split_whitespace().collect();
    if words.len() > MAX_CITED_WORDS {
        return false;
    }
    let is_name = |it: &&str| it.chars().next().is_some_and(char::is_uppercase);
    let names = words.chunk_by(|a, b| is_name(a) == is_name(b)).filter(|it| is_name(&it[0]));
    let names: Vec<String> = names.map(|it| normalize_answer(&it.join(" "))).collect();
    let read = format!(" {} ", read_text(context));
    let is_read = |name: &String| read.contains(&format!(" {name} "));
    names.iter().any(|it| !it.is_empty()) && !names.iter().filter(|it| !it.is_empty()).any(is_read)
}

#[cfg(test)]
mod tests {
    use zs_core::DocumentQuality;

    use super::*;
    use crate::reward::testing::trajectory;
    use crate::{SearchRecord, Turn};

    /// The turns of an episode that has read these texts, one a search.
    fn read(texts: &[&str]) -> Vec<Turn> {
        let mut turns = trajectory(&vec!["<search> q </search>"; texts.len()]).turns;
        for (turn, text) in turns.iter_mut().zip(texts) {
            turn.search = Some(SearchRecord {
                query: "q".into(),
                quality: DocumentQuality::Useful,
                documents: vec![Document::new("", *text)],
                error: None,
            });
        }
        turns
    }

    fn context<'a>(question: &'a str, turns: &'a [Turn]) -> ProgramContext<'a> {
        ProgramContext { question, step: turns.len() as u32, max_steps: 4, text: "so", turns }
    }

    fn answer(text: &str) -> Action {
        Action::Answer(text.to_owned())
    }

    #[track_caller]
    fn check(
        function: impl ProgramFunction,
        question: &str,
        texts: &[&str],
        action: &Action,
        steps_in: bool,
    ) {
        let turns = read(texts);
        let context = context(question, &turns);
        assert_eq!(function.should_activate(&context, action), Ok(steps_in), "{function:?}");
        let intervention = function.intervene(&context, action).unwrap();
        assert_eq!(intervention != Intervention::Noop, steps_in);
    }

    #[test]
    fn blind_answers_become_searches() {
        const F: InsufficientExploration = InsufficientExploration {};
        let modified = F.intervene(&context("who? ", &[]), &answer("x")).unwrap();
        let Intervention::ModifyAction { action, .. } = modified else { panic!("{modified:?}") };
        assert_eq!(action, Action::Search("who?".into()));
        check(F, "who?", &["a page"], &answer("x"), false);
        check(F, "who?", &[], &Action::Search("x".into()), false);
        let last = ProgramContext { step: 3, ..context("who?", &[]) };
        assert_eq!(F.should_activate(&last, &answer("x")), Ok(false));
    }

    #[track_caller]
    fn check_query(query: &str, expected: Option<&str>) {
        let question = "one two three four five six seven eight nine ten eleven twelve thirteen";
        assert_eq!(shortened(query, question).as_deref(), expected, "{query}");
    }

    #[test]
    fn long_queries_are_shortened() {
        let words = |n: usize| vec!["w"; n].join(" ");
        check_query(&words(15), None);
        let twelve = "one two three four five six seven eight nine ten eleven twelve";
        check_query(&words(16), Some(twelve));
        check_query(&format!("\"Ada Lovelace\" {}", words(16)), Some("Ada Lovelace"));
        check_query(&format!("when was she born\n{}", words(16)), Some("when was she born"));
        check_query(&format!("{} \"Ada Lovelace\"", words(16)), Some("Ada Lovelace"));
        check_query(&format!("{} “Ada Lovelace” x", words(16)), Some("Ada Lovelace"));
        check_query(&format!("{} \"never closed", words(16)), Some(twelve));
        check_query(&format!("\"{}\"", words(16)), Some(twelve));
        assert_eq!(shortened(&words(16), " "), None);
    }

    #[test]
    fn answers_are_sent_back_for_cause() {
        let page = "Ada Lovelace, born 1815, wrote the first program for a machine.";
        let check_number = |text: &str, steps_in| {
            check(TemporalNumeric {}, "who?", &[page], &answer(text), steps_in);
        };
        let check_names = |text: &str, steps_in| {
            check(CitationMismatch {}, "who?", &[page], &answer(text), steps_in);
        };
        check(Hallucination {}, "who?", &["short"], &answer("x"), true);
        check(Hallucination {}, "who?", &[page], &answer("x"), false);
        check_number("in 1815", false);
        check_number("in 1816", true);
        check_number("Ada", false);
        check_names("Ada Lovelace", false);
        check_names("Charles Babbage", true);
        check_names("Charles Babbage and Ada Lovelace", false);
        check_names("a programmer", false);
        check_names("Charles and then ten more words so that it is long", false);
        let old = &["In 2019 it was so.", "In 1990 not."];
        check(OutdatedInformation {}, "Who is the current king?", old, &answer("x"), true);
        check(OutdatedInformation {}, "Who was the king?", old, &answer("x"), false);
        check(OutdatedInformation {}, "Who is it now?", &["In 2022."], &answer("x"), false);
        check(OutdatedInformation {}, "Who is it now?", &["No year."], &answer("x"), false);
        check(NegationOversight {}, "Who did not sign?", &[page], &answer("x"), true);
        check(NegationOversight {}, "Who didn't sign?", &[page], &answer("x"), true);
        check(NegationOversight {}, "Who signed?", &[page], &answer("x"), false);
        let turns = read(&[page]);
        let text = "so it is not her";
        let mentioned = ProgramContext { text, ..context("Who did not sign?", &turns) };
        assert_eq!(NegationOversight {}.should_activate(&mentioned, &answer("x")), Ok(false));
    }

    #[test]
    fn conflicts_are_pointed_out_on_multi_hop_questions() {
        const F: AdversarialDistraction = AdversarialDistraction {};
        let texts = &["However, this is disputed.", "It was reportedly so."];
        let multi = "Where was the author of the book that won born?";
        check(F, multi, texts, &Action::Search("q".into()), true);
        check(F, multi, &texts[..1], &Action::Search("q".into()), false);
        check(F, "Where was Ada born?", texts, &Action::Search("q".into()), false);
        check(F, multi, texts, &Action::Invalid, false);
    }
}
