//! Queries of known quality, derived from questions.

use std::collections::BTreeMap;

use rand::RngExt;
use serde::{Deserialize, Serialize};
use zs_core::{Domain, Question, StreamKey, normalize_answer};

/// Quality of a derived query.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum QueryForm {
    /// The question itself: all that there is to say.
    Oracle,
    /// The first half of its words, as where a query was cut.
    Truncated,
    /// Without the half of its words that fewest other questions have: what is left names nothing.
    Vague,
    /// Another question, with other answers.
    Wrong,
}

impl QueryForm {
    /// Every form, from the best to the worst.
    pub const ALL: [Self; 4] = [Self::Oracle, Self::Truncated, Self::Vague, Self::Wrong];

    /// Its name in tables.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Oracle => "oracle",
            Self::Truncated => "truncated",
            Self::Vague => "vague",
            Self::Wrong => "wrong",
        }
    }
}

/// One query a question, all of one form; a function of the questions and the seed.
///
/// No language is assumed: which words are telling is counted in the questions themselves, so there
/// should be some dozens of them.
///
/// ```
/// use zs_core::Question;
/// use zs_simulator::audit::{QueryForm, derive_queries};
///
/// let questions = [
///     Question::new("1", "who directed Jaws", ["Spielberg"]),
///     Question::new("2", "who directed Alien", ["Scott"]),
/// ];
/// assert_eq!(derive_queries(&questions, QueryForm::Truncated, 0)[0], "who directed");
/// assert_eq!(derive_queries(&questions, QueryForm::Vague, 0)[0], "who directed");
/// assert_eq!(derive_queries(&questions, QueryForm::Wrong, 0)[0], "who directed Alien");
/// ```
#[must_use]
pub fn derive_queries(questions: &[Question], form: QueryForm, seed: u64) -> Vec<String> {
    let texts = || questions.iter().map(|it| it.text.trim());
    match form {
        QueryForm::Oracle => texts().map(str::to_owned).collect(),
        QueryForm::Truncated => texts()
            .map(|text| {
                let words: Vec<&str> = text.split_whitespace().collect();
                words[..words.len().div_ceil(2)].join(" ")
            })
            .collect(),
        QueryForm::Vague => {
            let frequencies = document_frequencies(texts());
            texts().map(|it| without_rare_words(it, &frequencies)).collect()
        }
        QueryForm::Wrong => {
            (0..questions.len()).map(|it| another_question(questions, it, seed)).collect()
        }
    }
}

/// In how many texts each word occurs, case and punctuation aside.
fn document_frequencies<'a>(texts: impl Iterator<Item = &'a str>) -> BTreeMap<String, usize> {
    let mut frequencies = BTreeMap::new();
    for text in texts {
        let mut words: Vec<String> = text.split_whitespace().map(normalize_answer).collect();
        words.sort();
        words.dedup();
        words.into_iter().for_each(|it| *frequencies.entry(it).or_default() += 1);
    }
    frequencies
}

/// A text without the rarer half of its words; among equally rare ones, longer ones go first.
fn without_rare_words(text: &str, frequencies: &BTreeMap<String, usize>) -> String {
    let words: Vec<&str> = text.split_whitespace().collect();
    let mut order: Vec<usize> = (0..words.len()).collect();
    order.sort_by_key(|&it| {
        let frequency = frequencies.get(&normalize_answer(words[it])).copied().unwrap_or(0);
        (frequency, usize::MAX - words[it].chars().count())
    });
    let mut kept: Vec<usize> = order.split_off(words.len() / 2);
    kept.sort_unstable();
    kept.into_iter().map(|it| words[it]).collect::<Vec<_>>().join(" ")
}

/// The text of another question that shares no answer; empty where there is none.
fn another_question(questions: &[Question], index: usize, seed: u64) -> String {
    let own = &questions[index];
    let answers: Vec<String> = own.golden_answers.iter().map(|it| normalize_answer(it)).collect();
    let is_other = |it: &Question| {
        it.text != own.text
            && !it.golden_answers.iter().any(|it| answers.contains(&normalize_answer(it)))
    };
    let key = StreamKey { sample: index as u32, ..StreamKey::new(seed) };
    let start = key.rng(Domain::Questions).random_range(0..questions.len());
    let around = (0..questions.len()).map(|it| &questions[(start + it) % questions.len()]);
    around.into_iter().find(|it| is_other(it)).map(|it| it.text.clone()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn vague_queries_lose_what_is_telling() {
        let questions: Vec<Question> = ["who wrote the novel Dune?", "who wrote the song Imagine?"]
            .iter()
            .map(|it| Question::new("", *it, ["a"]))
            .collect();
        let vague = derive_queries(&questions, QueryForm::Vague, 0);
        assert_eq!(vague, ["who wrote the", "who wrote the"]);
    }

    proptest! {
        #[test]
        fn every_form_gives_one_query_a_question(
            texts in proptest::collection::vec("[a-c]{1,3}( [a-cé]{1,3}){0,5}", 0..8), seed in 0..9_u64,
        ) {
            let numbered = texts.iter().enumerate();
            let questions: Vec<Question> =
                numbered.map(|(at, it)| Question::new("", it, [at.to_string()])).collect();
            for form in QueryForm::ALL {
                let queries = derive_queries(&questions, form, seed);
                prop_assert_eq!(queries.len(), questions.len());
                prop_assert_eq!(&queries, &derive_queries(&questions, form, seed));
                for (query, question) in queries.iter().zip(&questions) {
                    let is_part = query.split(' ').all(|it| question.text.contains(it));
                    prop_assert!(form == QueryForm::Wrong || is_part);
                    prop_assert!(form != QueryForm::Wrong || *query != question.text);
                }
            }
        }
    }
}
