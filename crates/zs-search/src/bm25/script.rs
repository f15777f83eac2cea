//! Scripts: how texts of each are cut into terms, and which analysis a corpus asks for.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;
use zs_core::Document;

use super::Bm25Language;

/// Rows that are named by number.
const NUM_NAMED: usize = 5;

/// Documents that decide about the analysis of a corpus: its first ones.
pub(super) const SAMPLE: usize = 1000;

/// Segmentation of a run of one script.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Segments {
    /// Words between blanks.
    Words,
    /// Pairs of characters.
    Pairs,
    /// Triples of characters.
    Triples,
}

/// Segmentation of a character's script; `None` for what belongs to no term.
pub(super) fn segments(character: char) -> Option<Segments> {
    match character {
        _ if character.is_ascii() => character.is_ascii_alphanumeric().then_some(Segments::Words),
        _ if is_han(character) || is_kana(character) || is_hangul(character) => {
            character.is_alphanumeric().then_some(Segments::Pairs)
        }
        _ if is_thai(character) || is_other_without_blanks(character) => {
            character.is_alphanumeric().then_some(Segments::Triples)
        }
        _ => character.is_alphanumeric().then_some(Segments::Words),
    }
}

/// Returns true for Chinese characters, with the marks for repeated ones.
pub(super) fn is_han(character: char) -> bool {
    matches!(
        character,
        '\u{3005}'..='\u{3007}'
            | '\u{3400}'..='\u{4DBF}'
            | '\u{4E00}'..='\u{9FFF}'
            | '\u{F900}'..='\u{FAFF}'
            | '\u{20000}'..='\u{323AF}'
    )
}

fn is_kana(character: char) -> bool {
    matches!(
        character,
        '\u{3040}'..='\u{30FF}' | '\u{31F0}'..='\u{31FF}' | '\u{FF66}'..='\u{FF9F}'
    )
}

fn is_hangul(character: char) -> bool {
    matches!(
        character,
        '\u{1100}'..='\u{11FF}' | '\u{3130}'..='\u{318F}' | '\u{AC00}'..='\u{D7AF}'
    )
}

fn is_thai(character: char) -> bool {
    matches!(character, '\u{0E00}'..='\u{0E7F}')
}

fn is_other_without_blanks(character: char) -> bool {
    matches!(
        character,
        '\u{0E80}'..='\u{0FFF}' | '\u{1000}'..='\u{109F}' | '\u{1780}'..='\u{17FF}'
    )
}

fn is_latin(character: char) -> bool {
    matches!(
        character,
        ..'\u{250}'
            | '\u{1E00}'..='\u{1EFF}'
            | '\u{2C60}'..='\u{2C7F}'
            | '\u{A720}'..='\u{A7FF}'
            | '\u{FB00}'..='\u{FB06}'
            | '\u{FF21}'..='\u{FF5A}'
    )
}

/// Script whose words the analysis `english` does not tell apart: it splits texts at blanks and
/// punctuation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Script {
    /// Chinese characters without kana or hangul.
    Chinese,
    /// Chinese characters and kana.
    Japanese,
    /// Hangul; words are told apart, but not from the particles that they end in.
    Korean,
    /// Thai.
    Thai,
    /// Lao, Khmer, Burmese or Tibetan.
    OtherWithoutBlanks,
}

impl Script {
    /// The script of most letters of a text, if it is one of these.
    ///
    /// ```
    /// use zs_search::Script;
    ///
    /// assert_eq!(Script::of("首都"), Some(Script::Chinese));
    /// assert_eq!(Script::of("the capital 首都"), None);
    /// ```
    #[must_use]
    pub fn of(text: &str) -> Option<Self> {
        let (mut han, mut kana, mut hangul, mut thai, mut other, mut letters) = (0, 0, 0, 0, 0, 0);
        for letter in text.chars().filter(|it| it.is_alphabetic()) {
            letters += 1;
            match letter {
                _ if is_han(letter) => han += 1,
                _ if is_kana(letter) => kana += 1,
                _ if is_hangul(letter) => hangul += 1,
                _ if is_thai(letter) => thai += 1,
                _ if is_other_without_blanks(letter) => other += 1,
                _ => {}
            }
        }
        let most = |count: usize| count > 0 && 2 * count >= letters;
        match () {
            () if !most(han + kana + hangul + thai + other) => None,
            () if most(hangul) => Some(Self::Korean),
            () if most(thai) => Some(Self::Thai),
            () if most(other) => Some(Self::OtherWithoutBlanks),
            () if kana > 0 => Some(Self::Japanese),
            () if han > 0 => Some(Self::Chinese),
            () => Some(Self::OtherWithoutBlanks),
        }
    }
}

impl fmt::Display for Script {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Chinese => "Chinese",
            Self::Japanese => "Japanese",
            Self::Korean => "Korean",
            Self::Thai => "Thai",
            Self::OtherWithoutBlanks => "another script without blanks",
        })
    }
}

/// Scripts of the texts of a corpus, with the first rows of those that `english` does not know.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ScriptCounts {
    /// Number of texts.
    pub total: usize,
    /// Number of texts and first rows, by script.
    pub unknown: BTreeMap<Script, (usize, Vec<usize>)>,
    /// Texts among the first ones that are in another script than the Latin one.
    #[serde(skip)]
    num_not_latin: usize,
}

impl ScriptCounts {
    /// Counts the first documents of a corpus in memory.
    pub(super) fn of_first(documents: &[Document]) -> Self {
        let mut counts = Self::default();
        documents.iter().take(SAMPLE).zip(1..).for_each(|(it, row)| counts.add(&it.text, row));
        counts
    }

    /// Counts the text of a row.
    pub fn add(&mut self, text: &str, row: usize) {
        if self.total < SAMPLE {
            let letters = || text.chars().filter(|it| it.is_alphabetic());
            let num_latin = letters().filter(|it| is_latin(*it)).count();
            self.num_not_latin += usize::from(2 * num_latin < letters().count());
        }
        self.total += 1;
        if let Some(script) = Script::of(text) {
            let (count, rows) = self.unknown.entry(script).or_default();
            *count += 1;
            if rows.len() < NUM_NAMED {
                rows.push(row);
            }
        }
    }

    /// Analysis of a corpus of these texts where none is named: `multilingual` where at least one in
    /// ten of the first 1,000 is mostly in another script than the Latin one, else `english`.
    ///
    /// ```
    /// use zs_search::{Bm25Language, ScriptCounts};
    ///
    /// let mut counts = ScriptCounts::default();
    /// counts.add("The capital.", 1);
    /// assert_eq!(counts.language(), Bm25Language::English);
    /// counts.add("首都", 2);
    /// assert_eq!(counts.language(), Bm25Language::Multilingual);
    /// ```
    #[must_use]
    pub fn language(&self) -> Bm25Language {
        let num_sampled = self.total.min(SAMPLE);
        match self.num_not_latin > 0 && 10 * self.num_not_latin >= num_sampled {
            true => Bm25Language::Multilingual,
            false => Bm25Language::English,
        }
    }

    /// Line about text that an index of some language does not find; `None` where it knows all scripts.
    #[must_use]
    pub fn warning(&self, noun: &str, language: Bm25Language) -> Option<String> {
        if self.unknown.is_empty() || language != Bm25Language::English {
            return None;
        }
        let counts = self.unknown.iter().map(|(script, (count, rows))| {
            let rows: Vec<String> = rows.iter().map(ToString::to_string).collect();
            format!("{count} in {script} (rows {})", rows.join(", "))
        });
        Some(format!(
            "warning: of {} {noun}, {}: the analysis `english` finds only whole runs of characters \
             between blanks and punctuation in them; index the corpus with the language \
             `multilingual`",
            self.total,
            counts.collect::<Vec<_>>().join(", "),
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: Option<Script>) {
        assert_eq!(Script::of(text), expected, "{text}");
    }

    #[test]
    fn scripts_are_those_of_most_letters() {
        check("", None);
        check("1234 !?", None);
        check("Beijing (北京) is the capital", None);
        check("北京是中华人民共和国的首都", Some(Script::Chinese));
        check("東京は日本の首都です", Some(Script::Japanese));
        check("서울은 대한민국의 수도이다", Some(Script::Korean));
        check("กรุงเทพเป็นเมืองหลวงของไทย", Some(Script::Thai));
        check("ភ្នំពេញ", Some(Script::OtherWithoutBlanks));
        check("Москва — столица России", None);
    }

    #[test]
    fn the_warning_counts() {
        let mut counts = ScriptCounts::default();
        counts.add("a text", 1);
        assert_eq!(counts.warning("documents", Bm25Language::English), None);
        counts.add("首都", 2);
        assert_eq!(counts.warning("documents", Bm25Language::French), None);
        let warning = counts.warning("documents", Bm25Language::English).unwrap();
        assert!(
            warning.starts_with("warning: of 2 documents, 1 in Chinese (rows 2): "),
            "{warning}"
        );
    }

    #[test]
    fn a_corpus_has_the_analysis_of_its_scripts() {
        let check = |others: usize, latin: usize, expected: Bm25Language| {
            for other in ["首都はどこ", "столица", "पानी", "العاصمة"] {
                let mut counts = ScriptCounts::default();
                (0..latin).for_each(|row| counts.add("the état of 東", row));
                (0..others).for_each(|row| counts.add(other, row));
                assert_eq!(counts.language(), expected, "{others} {other}, {latin}");
            }
        };
        check(0, 0, Bm25Language::English);
        check(0, 5, Bm25Language::English);
        check(1, 10, Bm25Language::English);
        check(1, 9, Bm25Language::Multilingual);
        check(3, 0, Bm25Language::Multilingual);
        // Only the first texts decide.
        check(999, SAMPLE, Bm25Language::English);
    }
}
