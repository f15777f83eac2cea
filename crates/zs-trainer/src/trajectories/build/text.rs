//! Texts of episodes: answers as documents write them, titles as queries, documents cut to words.

use zs_core::{Document, normalize_answer};
use zs_simulator::tuning::contains_answer;

use super::super::holds_answer;

/// Title and text of a document in one line each, of which the first `words` words of the text are
/// kept.
pub(super) fn shown(document: &Document, words: Option<usize>) -> Document {
    let words = document.text.split_whitespace().take(words.unwrap_or(usize::MAX));
    Document::new(document.title.trim(), words.collect::<Vec<_>>().join(" "))
}

/// The first golden answer that occurs in documents, as whole words.
pub(super) fn found_answer<'a>(
    documents: &[Document],
    golden_answers: &'a [String],
) -> Option<&'a String> {
    golden_answers.iter().find(|answer| {
        let answer = std::slice::from_ref(*answer);
        documents.iter().any(|it| holds_answer(it, answer))
    })
}

/// The answer as the first document that holds it writes it, where only case differs.
pub(super) fn as_written(answer: &str, documents: &[Document]) -> String {
    let texts = documents.iter().flat_map(|it| [&it.text, &it.title]);
    let written = texts.filter_map(|it| occurrence(answer, it)).next();
    written.unwrap_or_else(|| answer.trim()).to_owned()
}

/// The part of a text that differs from a phrase in case alone and stands between words.
fn occurrence<'t>(phrase: &str, text: &'t str) -> Option<&'t str> {
    let wanted: Vec<char> = phrase.trim().chars().flat_map(char::to_lowercase).collect();
    let mut before = ' ';
    for (start, first) in text.char_indices() {
        let is_start = !before.is_alphanumeric();
        before = first;
        if let Some(end) = match_end(&wanted, &text[start..]).filter(|_| is_start) {
            return Some(&text[start..start + end]);
        }
    }
    None
}

/// Bytes of the beginning of a text that is `wanted` in lower case and ends a word.
fn match_end(wanted: &[char], text: &str) -> Option<usize> {
    let mut left = wanted.iter();
    for (at, sign) in text.char_indices() {
        if left.len() == 0 {
            return (at > 0 && !sign.is_alphanumeric()).then_some(at);
        }
        if !sign.to_lowercase().all(|it| left.next() == Some(&it)) {
            return None;
        }
    }
    (left.len() == 0 && !text.is_empty()).then_some(text.len())
}

/// A title without what tells it apart from others of its name: `Oh My God (song)`.
pub(super) fn bare_title(title: &str) -> &str {
    match title.split_once(" (") {
        Some((name, _)) if !name.trim().is_empty() => name.trim(),
        _ => title.trim(),
    }
}

/// True if a text names a title, as whole words.
pub(super) fn names(text: &str, title: &str) -> bool {
    contains_answer(text, &[bare_title(title).to_owned()])
}

/// True for two writings of one title.
pub(super) fn is_title(document: &Document, title: &str) -> bool {
    normalize_answer(&document.title) == normalize_answer(title)
}

/// True for an answer that documents hold whether it is right or not: a verdict, or a part of the
/// question, as in comparisons.
pub(super) fn is_in_question(answer: &str, question: &str) -> bool {
    is_verdict(answer) || contains_answer(question, &[answer.to_owned()])
}

/// True for yes and no.
pub(super) fn is_verdict(answer: &str) -> bool {
    matches!(normalize_answer(answer).as_str(), "yes" | "no" | "noanswer")
}

/// Number of words.
pub(super) fn num_words(text: &str) -> usize {
    text.split_whitespace().count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_copied_as_documents_write_them() {
        let documents = [Document::new("ÉTAT", "Not jamesmadison. It was James Madison, he said.")];
        assert_eq!(as_written("james madison", &documents), "James Madison");
        assert_eq!(as_written(" état ", &documents), "ÉTAT");
        assert_eq!(as_written("madison!", &documents), "madison!");
        assert_eq!(as_written("", &documents), "");
        assert_eq!(as_written("said", &[Document::new("", "he said")]), "said");
        let golden = ["Monroe".to_owned(), "the James Madison".to_owned()];
        assert_eq!(found_answer(&documents, &golden), Some(&golden[1]));
        assert_eq!(found_answer(&documents, &golden[..1]), None);
    }

    #[test]
    fn titles_are_named_by_their_names() {
        assert_eq!(bare_title("Oh My God (Guns N' Roses song)"), "Oh My God");
        assert_eq!(bare_title("(What's the Story)"), "(What's the Story)");
        assert!(names("Who sang \"Oh my god\"?", "Oh My God (song)"));
        assert!(!names("Who sang Oh my gods?", "Oh My God (song)"));
        assert!(is_title(&Document::new("\"Heroes\"", ""), "heroes"));
        assert!(is_verdict("Yes.") && !is_verdict("Norway"));
        assert!(is_in_question("no", "Who?") && is_in_question("Emma", "Dune or Emma?"));
        assert!(!is_in_question("Emma", "Who?"));
        let cut = shown(&Document::new(" T ", "a b\nc d"), Some(3));
        assert_eq!(cut, Document::new("T", "a b c"));
    }
}
