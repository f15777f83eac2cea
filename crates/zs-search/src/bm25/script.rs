//! Scripts whose words the analysis of BM25 does not find.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;

/// Rows that are named by number.
const NUM_NAMED: usize = 5;

/// Script whose words BM25 does not tell apart: it splits texts at blanks and punctuation.
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
                '\u{3400}'..='\u{4DBF}'
                | '\u{4E00}'..='\u{9FFF}'
                | '\u{F900}'..='\u{FAFF}'
                | '\u{20000}'..='\u{323AF}' => han += 1,
                '\u{3040}'..='\u{30FF}' | '\u{31F0}'..='\u{31FF}' | '\u{FF66}'..='\u{FF9D}' => {
                    kana += 1;
                }
                '\u{1100}'..='\u{11FF}' | '\u{3130}'..='\u{318F}' | '\u{AC00}'..='\u{D7AF}' => {
                    hangul += 1;
                }
                '\u{0E00}'..='\u{0E7F}' => thai += 1,
                '\u{0E80}'..='\u{0EFF}'
                | '\u{0F00}'..='\u{0FFF}'
                | '\u{1000}'..='\u{109F}'
                | '\u{1780}'..='\u{17FF}' => other += 1,
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

/// Texts in scripts that BM25 does not know, with the first rows of each script.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ScriptCounts {
    /// Number of texts.
    pub total: usize,
    /// Number of texts and first rows, by script.
    pub unknown: BTreeMap<Script, (usize, Vec<usize>)>,
}

impl ScriptCounts {
    /// Languages that BM25 knows.
    pub const KNOWN: &str = "BM25 splits texts at blanks and punctuation and takes word stems as in \
        English, so it knows English and, less well, other languages with blanks between words";

    /// Counts the text of a row.
    pub fn add(&mut self, text: &str, row: usize) {
        self.total += 1;
        if let Some(script) = Script::of(text) {
            let (count, rows) = self.unknown.entry(script).or_default();
            *count += 1;
            if rows.len() < NUM_NAMED {
                rows.push(row);
            }
        }
    }

    /// Line about text that BM25 will not find; `None` where it knows all scripts.
    #[must_use]
    pub fn warning(&self, noun: &str) -> Option<String> {
        if self.unknown.is_empty() {
            return None;
        }
        let counts = self.unknown.iter().map(|(script, (count, rows))| {
            let rows: Vec<String> = rows.iter().map(ToString::to_string).collect();
            format!("{count} in {script} (rows {})", rows.join(", "))
        });
        Some(format!(
            "warning: of {} {noun}, {}: {}; of these, only whole runs of characters between \
             punctuation are found",
            self.total,
            counts.collect::<Vec<_>>().join(", "),
            Self::KNOWN
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
        assert_eq!(counts.warning("documents"), None);
        counts.add("首都", 2);
        let warning = counts.warning("documents").unwrap();
        assert!(
            warning.starts_with("warning: of 2 documents, 1 in Chinese (rows 2): "),
            "{warning}"
        );
    }
}
