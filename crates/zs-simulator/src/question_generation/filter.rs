//! Selection among question and answer pairs by rules.

use std::collections::BTreeSet;

use zs_core::{Document, normalize_answer};

use crate::tuning::contains_answer;

/// Reason to drop a passage or a pair; its text is the name in the manifest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PairDrop {
    /// The passage has too few words.
    #[error("short_passage")]
    ShortPassage,
    /// The model could not reply to the prompt.
    #[error("no_reply")]
    NoReply,
    /// The reply is not a question and an answer.
    #[error("unreadable_reply")]
    UnreadableReply,
    /// The answer does not occur in the passage.
    #[error("answer_not_in_passage")]
    AnswerNotInPassage,
    /// The answer has too many words.
    #[error("long_answer")]
    LongAnswer,
    /// The question holds the answer, or the answer is yes or no.
    #[error("answer_in_question")]
    AnswerInQuestion,
    /// The question refers to the passage, which nobody who searches has seen.
    #[error("refers_to_passage")]
    RefersToPassage,
    /// An earlier pair has the same question.
    #[error("duplicate")]
    Duplicate,
    /// The model is wrong when it is shown the passage.
    #[error("wrong_with_passage")]
    WrongWithPassage,
    /// The model is right when it is not shown the passage.
    #[error("right_without_passage")]
    RightWithoutPassage,
}

/// Phrases, normalised, of questions about the passage itself.
const REFERENCES: [&str; 9] = [
    "according to passage",
    "in passage",
    "this passage",
    "according to text",
    "in text",
    "this text",
    "according to document",
    "in document",
    "this document",
];

/// Question and answer that a model wrote about a passage.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Pair {
    /// Index of the passage.
    pub(super) passage: usize,
    pub(super) question: String,
    pub(super) answer: String,
}

/// Rules that a pair must keep; remembers the questions that it has seen.
pub(super) struct Rules {
    pub(super) max_answer_words: usize,
    pub(super) seen: BTreeSet<String>,
}

impl Rules {
    /// Checks a pair against its passage and the pairs before.
    pub(super) fn check(&mut self, pair: &Pair, passage: &Document) -> Result<(), PairDrop> {
        let (question, answer) = (&pair.question, std::slice::from_ref(&pair.answer));
        let refers = REFERENCES.map(str::to_owned);
        let is_verdict = matches!(normalize_answer(&pair.answer).as_str(), "yes" | "no");
        if pair.answer.split_whitespace().count() > self.max_answer_words {
            Err(PairDrop::LongAnswer)
        } else if !contains_answer(&passage.text, answer) {
            Err(PairDrop::AnswerNotInPassage)
        } else if is_verdict || contains_answer(question, answer) {
            Err(PairDrop::AnswerInQuestion)
        } else if contains_answer(question, &refers) {
            Err(PairDrop::RefersToPassage)
        } else if !self.seen.insert(normalize_answer(question)) {
            Err(PairDrop::Duplicate)
        } else {
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_are_checked_in_order() {
        let mut rules = Rules { max_answer_words: 2, seen: BTreeSet::new() };
        let passage = Document::new("Dune", "No, the novel Dune is by Frank P. Herbert.");
        let mut check = |question: &str, answer: &str, expected: Result<(), PairDrop>| {
            let pair = Pair { passage: 0, question: question.into(), answer: answer.into() };
            assert_eq!(rules.check(&pair, &passage), expected, "{question} {answer}");
        };
        check("Who wrote Dune?", "Frank P. Herbert", Err(PairDrop::LongAnswer));
        check("Who wrote Dune?", "Frank", Ok(()));
        check("Who wrote Dune?", "Asimov", Err(PairDrop::AnswerNotInPassage));
        check("Who wrote dune", "Herbert", Err(PairDrop::Duplicate));
        check("Is Dune by Asimov?", "No", Err(PairDrop::AnswerInQuestion));
        check("Which novel is Dune?", "the Dune", Err(PairDrop::AnswerInQuestion));
        check("Who wrote the novel in the passage?", "Frank", Err(PairDrop::RefersToPassage));
        check("Who wrote it?", "Frank", Ok(()));
    }
}
