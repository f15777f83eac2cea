//! Answers as `SQuAD` compares them, character for character as its Python script does on any
//! Unicode text.

use unicode_properties::{GeneralCategoryGroup, UnicodeGeneralCategory};

/// Normalises an answer as `SQuAD`'s evaluation script does.
///
/// ```text
/// lower-case -> drop ASCII punctuation -> drop the words a, an, the -> squeeze white space
/// ```
///
/// Each step follows Python, in which the official scripts are written:
///
/// - lower-casing is Unicode's full mapping, final sigma included (`str.lower`);
/// - punctuation is the 32 ASCII characters of `string.punctuation`; `“` or `…` stay;
/// - articles are dropped on word boundaries, where a word is a run of letters, numbers and `_`
///   (`\b` of `re`), so a combining mark ends a word;
/// - white space is that of `str.split`: Unicode's, and the separators U+001C to U+001F.
///
/// HotpotQA, FlashRAG, Search-R1 and ZeroSearch use the same four steps.
///
/// # References
///
/// - [SQuAD 1.1 evaluation script](https://rajpurkar.github.io/SQuAD-explorer/), `normalize_answer`
///
/// ```
/// assert_eq!(zs_core::normalize_answer("The  U.S.A.!"), "usa");
/// ```
#[must_use]
pub fn normalize_answer(text: &str) -> String {
    let lower = text.to_lowercase();
    let kept = lower.chars().filter(|it| !it.is_ascii_punctuation());
    // Each maximal run of word characters is one token; articles among them become a space.
    let mut without_articles = String::with_capacity(lower.len());
    let mut word = String::new();
    for ch in kept.chain(std::iter::once(' ')) {
        if is_word_character(ch) {
            word.push(ch);
            continue;
        }
        if matches!(word.as_str(), "a" | "an" | "the") {
            without_articles.push(' ');
        } else {
            without_articles.push_str(&word);
        }
        word.clear();
        without_articles.push(ch);
    }
    let words = without_articles.split(is_python_space).filter(|it| !it.is_empty());
    words.collect::<Vec<_>>().join(" ")
}

/// The text without white space at its ends, as Python's `str.strip` has it.
#[must_use]
pub fn strip_answer(text: &str) -> &str {
    text.trim_matches(is_python_space)
}

/// Python's `\w`: the general categories L and N, and `_`.
fn is_word_character(ch: char) -> bool {
    if ch.is_ascii() {
        return ch.is_ascii_alphanumeric() || ch == '_';
    }
    matches!(
        ch.general_category_group(),
        GeneralCategoryGroup::Letter | GeneralCategoryGroup::Number
    )
}

/// Python's `str.isspace`.
fn is_python_space(ch: char) -> bool {
    ch.is_whitespace() || matches!(ch, '\u{1c}'..='\u{1f}')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[track_caller]
    fn check(text: &str, expected: &str) {
        assert_eq!(normalize_answer(text), expected, "{text:?}");
    }

    // Expected values are those that SQuAD's `normalize_answer` prints under Python 3.11.

    #[test]
    fn lower_cases_as_python_does() {
        check("ÉCOLE the Élan", "école élan");
        check("ΟΔΥΣΣΕΥΣ Σ Σα", "οδυσσευς σ σα");
        check("İstanbul", "i\u{307}stanbul");
        check("STRAẞE", "straße");
        check("ǅ Ⓐ", "ǆ ⓐ");
    }

    #[test]
    fn drops_ascii_punctuation_only() {
        check("U.S.A.", "usa");
        check("1,000", "1000");
        check("the_end", "theend");
        check("!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~", "");
        check("“quoted” — …", "“quoted” — …");
        check("$5 €6", "5 €6");
    }

    #[test]
    fn drops_articles_between_word_boundaries() {
        check("The Cat", "cat");
        check("  An  apple , a day ", "apple day");
        check("theatre a-the b", "theatre athe b");
        check("the", "");
        check("an2 a2 2a", "an2 a2 2a");
        check("café the café", "café café");
        // A combining mark is no word character: `a` stands alone before it.
        check("a\u{301}b", "\u{301}b");
        check("a\u{345} the\u{93e}", "\u{345} \u{93e}");
        check("an\u{200d}d", "\u{200d}d");
        // A circled letter is a symbol, a Roman numeral and a superscript are numbers.
        check("aⓐ", "ⓐ");
        check("aⅧ a² a½", "aⅷ a² a½");
        check("a中 中the", "a中 中the");
    }

    #[test]
    fn squeezes_the_white_space_of_python() {
        check("a\u{a0}b", "b");
        check("x\u{1c}y\u{1d}\u{1e}z\u{1f}", "x y z");
        check("x\u{85}y\u{2028}z\u{3000}w", "x y z w");
        check("\t x \u{b}\u{c}\r\n y ", "x y");
        // A zero-width space is none.
        check("x\u{200b}y", "x\u{200b}y");
    }

    #[test]
    fn strips_as_python_does() {
        assert_eq!(strip_answer("\u{1f}\n x y\u{a0}"), "x y");
        assert_eq!(strip_answer(" \u{1c} "), "");
    }

    proptest! {
        #[test]
        fn normalising_twice_changes_nothing(text in "\\PC{0,24}") {
            let once = normalize_answer(&text);
            prop_assert_eq!(normalize_answer(&once), once);
        }
    }
}
