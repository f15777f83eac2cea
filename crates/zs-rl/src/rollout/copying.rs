//! Fraction of the policy's text that is copied from documents.

use std::collections::HashMap;

use crate::Trajectory;

/// Words in a row that make a passage: longer than a name or a date that an answer rightly repeats.
const PASSAGE: usize = 8;

/// Words of one episode.
///
/// A word of the policy is *copied* when it lies in [`PASSAGE`] consecutive words of a turn that also
/// stand, in the same order, in a document returned in an earlier turn. Words are runs of letters and
/// digits in lower case; tags are no words, and end a passage.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct CopiedWords {
    /// Words that the policy wrote after it had been shown documents.
    pub(super) written: usize,
    /// Copied words among them.
    pub(super) copied: usize,
}

impl CopiedWords {
    /// Counts the words of one episode.
    pub(super) fn of(trajectory: &Trajectory) -> Self {
        let documents: Vec<(usize, Vec<String>)> = trajectory
            .turns
            .iter()
            .enumerate()
            .flat_map(|(turn, it)| it.search.iter().map(move |search| (turn, search)))
            .flat_map(|(turn, search)| {
                search.documents.iter().map(move |it| (turn, words(&it.text)))
            })
            .collect();
        let Some(&(first, _)) = documents.first() else { return Self::default() };
        let mut passages: HashMap<&[String], usize> = HashMap::new();
        for (turn, document) in &documents {
            for passage in document.windows(PASSAGE) {
                passages.entry(passage).or_insert(*turn);
            }
        }
        let mut count = Self::default();
        for turn in (first + 1).max(trajectory.num_shared_turns())..trajectory.turns.len() {
            for run in runs(&trajectory.turn_text(turn)) {
                let mut end = 0; // of the words that are known to be copied
                for (start, passage) in run.windows(PASSAGE).enumerate() {
                    if passages.get(passage).is_some_and(|shown| *shown < turn) {
                        count.copied += start + PASSAGE - end.max(start);
                        end = start + PASSAGE;
                    }
                }
                count.written += run.len();
            }
        }
        count
    }
}

/// The words between tags, a run each.
fn runs(text: &str) -> impl Iterator<Item = Vec<String>> {
    text.split('<').map(|part| {
        let is_name = |it: char| it.is_ascii_alphabetic() || matches!(it, '/' | '_' | '|');
        match part.split_once('>') {
            Some((name, rest)) if !name.is_empty() && name.chars().all(is_name) => words(rest),
            _ => words(part),
        }
    })
}

fn words(text: &str) -> Vec<String> {
    let words = text.split(|it: char| !it.is_alphanumeric()).filter(|it| !it.is_empty());
    words.map(str::to_lowercase).collect()
}

#[cfg(test)]
mod tests {
    use zs_core::{Action, Document, DocumentQuality};
    use zs_model::{Completion, StopReason};

    use super::*;
    use crate::{SearchRecord, Turn};

    /// An episode of turns, each with the document that its search returned.
    fn episode(turns: &[(&str, &str)]) -> Trajectory {
        let mut trajectory = Trajectory::new("q", vec![1]);
        trajectory.turns = turns
            .iter()
            .map(|(text, document)| Turn {
                completion: Completion {
                    tokens: Vec::new(),
                    log_probs: Vec::new(),
                    sampling_log_probs: None,
                    stop_reason: StopReason::Stop,
                },
                text: (*text).to_owned(),
                action: Action::Invalid,
                observation: Vec::new(),
                observation_text: String::new(),
                search: (!document.is_empty()).then(|| SearchRecord {
                    query: String::new(),
                    quality: DocumentQuality::Useful,
                    documents: vec![Document::new("", *document)],
                    error: None,
                }),
            })
            .collect();
        trajectory
    }

    #[track_caller]
    fn check(turns: &[(&str, &str)], written: usize, copied: usize) {
        assert_eq!(CopiedWords::of(&episode(turns)), CopiedWords { written, copied }, "{turns:?}");
    }

    #[test]
    fn passages_of_eight_words_are_copies() {
        const DOCUMENT: &str = "One two three, four five six seven EIGHT nine ten.";
        let (search, said) =
            (("<search> q </search>", DOCUMENT), "one two three four five six seven eight");
        // The words before the first document count nowhere.
        check(&[search], 0, 0);
        check(&[search, (said, "")], 8, 8);
        check(&[search, (&format!("<answer>So {said} nine eleven</answer>"), "")], 11, 9);
        check(&[search, ("<answer> one two three four five six seven </answer>", "")], 7, 0);
        // A tag ends a passage, and a document cannot be copied before it is read.
        check(&[search, ("one two three four <answer> five six seven eight", "")], 8, 0);
        check(&[(said, DOCUMENT)], 0, 0);
        check(&[("a", "b"), (said, DOCUMENT)], 8, 0);
        check(&[("a", ""), ("b c", "")], 0, 0);
        // Two copies of the same passage are both copies.
        check(&[search, (&format!("{said}. {said}"), "")], 16, 16);
    }
}
