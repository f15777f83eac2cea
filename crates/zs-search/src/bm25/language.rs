//! Languages that texts are analysed in, and their names.

use std::fmt;
use std::str::FromStr;

use serde::de::IntoDeserializer;
use serde::de::value::Error as ValueError;
use serde::{Deserialize, Serialize};

/// Analysis of texts and queries; an index records its own.
///
/// Every analysis but `english` chooses by script, word for word: Chinese, Japanese and Korean are cut
/// into overlapping pairs of characters; Thai, Lao, Khmer, Burmese and Tibetan into overlapping
/// triples; words of other scripts are lower-cased, stemmed and freed of accents. Arabic, Cyrillic,
/// Greek and Tamil words have the stemmers of Arabic, Russian, Greek and Tamil. Words of Latin script
/// have the stemmer of the language itself, and those of `multilingual` the English one.
///
/// ```
/// use zs_search::Bm25Language;
///
/// assert_eq!("chinese".parse(), Ok(Bm25Language::Multilingual));
/// assert_eq!(Bm25Language::French.to_string(), "french");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Bm25Language {
    /// English words: split at all but letters and digits, without stop words, stemmed. Other scripts
    /// are not told apart, and accents stay.
    English,
    /// By script; Latin words as English ones. For languages with scripts of their own, whose names it
    /// answers to.
    #[serde(
        alias = "arabic",
        alias = "burmese",
        alias = "chinese",
        alias = "greek",
        alias = "japanese",
        alias = "khmer",
        alias = "korean",
        alias = "lao",
        alias = "russian",
        alias = "tamil",
        alias = "thai",
        alias = "tibetan"
    )]
    Multilingual,
    /// By script; Latin words as Danish ones.
    Danish,
    /// By script; Latin words as Dutch ones.
    Dutch,
    /// By script; Latin words as Finnish ones.
    Finnish,
    /// By script; Latin words as French ones.
    French,
    /// By script; Latin words as German ones.
    German,
    /// By script; Latin words as Hungarian ones.
    Hungarian,
    /// By script; Latin words as Italian ones.
    Italian,
    /// By script; Latin words as Norwegian ones.
    Norwegian,
    /// By script; Latin words as Portuguese ones.
    Portuguese,
    /// By script; Latin words as Romanian ones.
    Romanian,
    /// By script; Latin words as Spanish ones.
    Spanish,
    /// By script; Latin words as Swedish ones.
    Swedish,
    /// By script; Latin words as Turkish ones.
    Turkish,
}

impl Bm25Language {
    /// All analyses.
    pub const ALL: [Self; 15] = [
        Self::English,
        Self::Multilingual,
        Self::Danish,
        Self::Dutch,
        Self::Finnish,
        Self::French,
        Self::German,
        Self::Hungarian,
        Self::Italian,
        Self::Norwegian,
        Self::Portuguese,
        Self::Romanian,
        Self::Spanish,
        Self::Swedish,
        Self::Turkish,
    ];

    /// Name of the analysis in an index; a change of what it does needs another one.
    pub(super) fn analysis(self) -> String {
        format!("zs_{self}_1")
    }
}

impl fmt::Display for Bm25Language {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.serialize(f)
    }
}

/// Reads the name of a language, as run files write it.
impl FromStr for Bm25Language {
    type Err = ValueError;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        Self::deserialize(name.into_deserializer())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_run_files() {
        for language in Bm25Language::ALL {
            assert_eq!(language.to_string().parse(), Ok(language));
            assert_eq!(serde_json::to_value(language).unwrap(), language.to_string());
        }
        assert_eq!(Bm25Language::English.analysis(), "zs_english_1");
        let error = "klingon".parse::<Bm25Language>().unwrap_err().to_string();
        assert!(
            error.contains("unknown variant `klingon`") && error.contains("`french`"),
            "{error}"
        );
    }
}
