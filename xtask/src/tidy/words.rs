//! Doc comments that open with a question word instead of a noun phrase or a verb in the third person.

use super::{Findings, starts_tests};

/// Words that no doc comment opens with.
const REFUSED: [&str; 8] = ["How", "What", "When", "Where", "Whether", "Which", "Who", "Why"];

/// Checks the text of one file.
pub(super) fn check(file: &str, text: &str, findings: &mut Findings) {
    let advice = "open with a noun phrase or a verb in the third person";
    let found = openings(text).into_iter();
    findings
        .errors
        .extend(found.map(|(number, line)| format!("{file}:{number}: {line} ({advice})")));
}

/// Every first line of a doc comment, before the tests, that opens with one of the words.
fn openings(text: &str) -> Vec<(usize, &str)> {
    let mut found = Vec::new();
    let mut before = None;
    for (index, line) in text.lines().take_while(|it| !starts_tests(it)).enumerate() {
        let line = line.trim();
        let doc = line.strip_prefix("///").map(|it| ('/', it));
        let doc = doc.or_else(|| line.strip_prefix("//!").map(|it| ('!', it)));
        let kind = doc.map(|it| it.0);
        if let Some((_, text)) = doc
            && kind != before
            && text
                .split(|it: char| !it.is_alphabetic())
                .find(|it| !it.is_empty())
                .is_some_and(|it| REFUSED.contains(&it))
        {
            found.push((index + 1, line));
        }
        before = kind;
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: &[usize]) {
        let numbers: Vec<usize> = openings(text).into_iter().map(|it| it.0).collect();
        assert_eq!(numbers, expected, "{text}");
    }

    #[test]
    fn question_words_are_found() {
        check(
            "//! What it is.\n\n/// Whether so.\nfn f() {}\n    /// How.\n    x: u8,\n",
            &[1, 3, 5],
        );
        check("//! A.\n/// Which one.\n", &[2]);
    }

    #[test]
    fn other_openings_are_fine() {
        check("/// Number of\n/// What comes second.\n", &[]);
        check("/// Whatever.\n// Why a comment.\nlet x = \"/// How\";\n", &[]);
        check("/// A.\n#[cfg(test)]\nmod tests {\n/// What.\n}\n", &[]);
    }
}
