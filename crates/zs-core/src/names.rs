//! Finding names in text: whether a query names its entity in full, whether a document contains an
//! answer.

use crate::{Document, Question};

/// Capitalised words that begin sentences and questions of embedded worlds, and are no names.
pub const SENTENCE_WORDS: [&str; 23] = [
    "Another",
    "Answer",
    "Born",
    "By",
    "Documents",
    "For",
    "How",
    "I",
    "If",
    "In",
    "Is",
    "Let",
    "My",
    "Not",
    "Query",
    "Question",
    "The",
    "What",
    "When",
    "Where",
    "Which",
    "Who",
    "Whom",
];

/// Returns true if `text` contains `words` as whole words: no letter or digit touches either end.
///
/// ```
/// use zs_core::contains_words;
///
/// assert!(contains_words("The spouse of Anna Bada.", "Anna Bada"));
/// assert!(!contains_words("The spouse of Anna Badanath.", "Anna Bada"));
/// ```
#[must_use]
pub fn contains_words(text: &str, words: &str) -> bool {
    if words.is_empty() {
        return false;
    }
    let mut from = 0;
    while let Some(at) = text[from..].find(words) {
        let start = from + at;
        let end = start + words.len();
        let before = text[..start].chars().next_back();
        let after = text[end..].chars().next();
        let is_boundary = |ch: Option<char>| ch.is_none_or(|it| !it.is_alphanumeric());
        if is_boundary(before) && is_boundary(after) {
            return true;
        }
        from = start + words.chars().next().map_or(1, char::len_utf8);
    }
    false
}

/// The names in a text: its longest runs of capitalised words, [`SENTENCE_WORDS`] left out.
///
/// ```
/// use zs_core::names_in;
///
/// let names = names_in("Born in Tolarek, David Bada left. The Bada film");
/// assert_eq!(names, ["Tolarek", "David Bada", "Bada"]);
/// ```
#[must_use]
pub fn names_in(text: &str) -> Vec<&str> {
    let mut names = Vec::new();
    let mut run: Option<(usize, usize)> = None;
    for (start, word) in words(text) {
        let is_name = word.starts_with(char::is_uppercase) && !SENTENCE_WORDS.contains(&word);
        let end = start + word.len();
        run = match run {
            Some((from, until)) if is_name && text[until..start].trim().is_empty() => {
                Some((from, end))
            }
            open => {
                names.extend(open.map(|(from, until)| &text[from..until]));
                is_name.then_some((start, end))
            }
        };
    }
    names.extend(run.map(|(from, until)| &text[from..until]));
    names
}

/// The runs of letters and digits of a text, with where they start.
fn words(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.split(|ch: char| !ch.is_alphanumeric())
        .filter(|word| !word.is_empty())
        .map(move |word| (word.as_ptr() as usize - text.as_ptr() as usize, word))
}

/// Returns true if a query contains the full name of an entity that the question, its supporting
/// titles, or a document retrieved before it names.
///
/// A simulation LLM sees question and answer, so it can answer a query that names nobody ("spouse
/// of David" for "David Bada"); a retrieval engine cannot. The share of queries that name an entity
/// shows whether a policy has learned to lean on that.
#[must_use]
pub fn query_names_entity(question: &Question, retrieved: &[Document], query: &str) -> bool {
    let in_query = names_in(query);
    let known = |name: &str| {
        names_in(&question.text).contains(&name)
            || question.gold_titles.iter().any(|it| it == name)
            || retrieved.iter().any(|it| it.title == name || names_in(&it.text).contains(&name))
    };
    in_query.into_iter().any(known)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(query: &str, expected: bool) {
        let question = Question::new("q", "Who is the spouse of David Bada?", ["Anna Bofer"]);
        let documents = [Document::new("", "The spouse of David Bada is Anna Bofer.")];
        assert_eq!(query_names_entity(&question, &documents, query), expected, "{query}");
    }

    #[test]
    fn only_full_names_count() {
        check("David Bada spouse", true);
        check("birthplace of Anna Bofer", true);
        check("spouse of David", false);
        check("Bada spouse", false);
        check("Who is the spouse", false);
        check("", false);
    }

    #[test]
    fn words_are_matched_whole() {
        for (text, words, expected) in [
            ("in 1987.", "1987", true),
            ("in 19871.", "1987", false),
            ("Bada Badan", "Badan", true),
            ("Badan", "Bada", false),
            ("éBada Bada", "Bada", true),
            ("éé", "é", false),
            ("x", "", false),
        ] {
            assert_eq!(contains_words(text, words), expected, "{text} {words}");
        }
    }
}
