//! Languages that texts are analysed in: which stemmer their words get, and which name an index has for
//! it.

use std::fmt;
use std::str::FromStr;

use serde::de::IntoDeserializer;
use serde::de::value::Error as ValueError;
use serde::{Deserialize, Serialize};
use tantivy::tokenizer::{
    AsciiFoldingFilter, Language, LowerCaser, RawTokenizer, RemoveLongFilter, SimpleTokenizer,
    Stemmer, StopWordFilter, TextAnalyzer,
};

use super::segment::ScriptTokenizer;

/// Words that queries and documents are compared without: Lucene's English list.
const STOP_WORDS: [&str; 33] = [
    "a", "an", "and", "are", "as", "at", "be", "but", "by", "for", "if", "in", "into", "is", "it",
    "no", "not", "of", "on", "or", "such", "that", "the", "their", "then", "there", "these",
    "they", "this", "to", "was", "will", "with",
];

/// Longest word, in bytes for English and in characters for others, plus one.
pub(super) const LONGEST_WORD: usize = 64;

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

    /// Stemmer of words of Latin script.
    fn latin(self) -> Language {
        match self {
            Self::English | Self::Multilingual => Language::English,
            Self::Danish => Language::Danish,
            Self::Dutch => Language::Dutch,
            Self::Finnish => Language::Finnish,
            Self::French => Language::French,
            Self::German => Language::German,
            Self::Hungarian => Language::Hungarian,
            Self::Italian => Language::Italian,
            Self::Norwegian => Language::Norwegian,
            Self::Portuguese => Language::Portuguese,
            Self::Romanian => Language::Romanian,
            Self::Spanish => Language::Spanish,
            Self::Swedish => Language::Swedish,
            Self::Turkish => Language::Turkish,
        }
    }

    /// Name of the analysis in an index; a change of what it does needs another one.
    pub(super) fn analysis(self) -> String {
        format!("zs_{self}_1")
    }

    /// Analyser of text into terms.
    pub(super) fn analyser(self) -> TextAnalyzer {
        if self == Self::English {
            return TextAnalyzer::builder(SimpleTokenizer::default())
                .filter(RemoveLongFilter::limit(LONGEST_WORD))
                .filter(LowerCaser)
                .filter(stop_words())
                .filter(Stemmer::new(Language::English))
                .build();
        }
        TextAnalyzer::from(ScriptTokenizer::new(stems(self.latin())))
    }
}

/// Analyser of one word, in lower case, of a language.
pub(super) fn stems(language: Language) -> TextAnalyzer {
    let word = TextAnalyzer::builder(RawTokenizer::default()).dynamic();
    let word = match language {
        Language::English => word.filter_dynamic(stop_words()),
        _ => word,
    };
    // Accents last: stemmers know their language with accents.
    word.filter_dynamic(Stemmer::new(language)).filter_dynamic(AsciiFoldingFilter).build()
}

fn stop_words() -> StopWordFilter {
    StopWordFilter::remove(STOP_WORDS.map(str::to_owned))
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
    use proptest::prelude::*;

    use super::*;

    fn terms(language: Bm25Language, text: &str) -> Vec<String> {
        let mut terms = Vec::new();
        language.analyser().token_stream(text).process(&mut |it| terms.push(it.text.clone()));
        terms
    }

    #[track_caller]
    fn check(language: &str, text: &str, expected: &[&str]) {
        assert_eq!(terms(language.parse().unwrap(), text), expected, "{language}: {text}");
    }

    #[test]
    fn words_are_found_by_script() {
        check("multilingual", "The Foxes, 1987!", &["fox", "1987"]);
        check(
            "chinese",
            "北京是首都",
            &["北", "北京", "京", "京是", "是", "是首", "首", "首都", "都"],
        );
        check("japanese", "日本のカメラ", &["日", "日本", "本", "本の", "のカ", "カメ", "メラ"]);
        check("japanese", "ｶﾒﾗ", &["カメ", "メラ"]);
        check("korean", "서울은 수도", &["서울", "울은", "수도"]);
        check("korean", "\u{1109}\u{1165}\u{110B}\u{116E}\u{11AF}", &["서울"]);
        check("thai", "น้ำไทย", &["น้\u{e4d}", "้\u{e4d}า", "\u{e4d}าไ", "าไท", "ไทย"]);
        check("multilingual", "2008年の本", &["2008", "年", "年の", "の本", "本"]);
        check("multilingual", "ＡＢＣ ﬁre", &["abc", "fire"]);
    }

    #[test]
    fn words_are_stemmed_in_their_language() {
        check("french", "les élections françaises", &["le", "elect", "franc"]);
        check("german", "Häuser und Straße", &["haus", "und", "strass"]);
        check("spanish", "educación, educaciones", &["educ", "educ"]);
        check("turkish", "İSTANBUL", &["istanbul"]);
        check("russian", "книги книгами", &["книг", "книг"]);
        check("greek", "Ὁδός οδοσ", &["οδ", "οδ"]);
        check("multilingual", "Москва\u{301}", &["москв"]);
        check("multilingual", "São Paulo, Sa\u{303}o", &["sao", "paulo", "sao"]);
    }

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

    proptest! {
        /// What is English and ASCII is analysed alike, so an English corpus may be indexed either way.
        #[test]
        fn english_is_english(text in "[ -~\n]{0,80}") {
            prop_assert_eq!(
                terms(Bm25Language::Multilingual, &text), terms(Bm25Language::English, &text)
            );
        }

        /// Offsets are those of the text, in order, whatever it holds.
        #[test]
        fn terms_know_their_place(text in "\\PC{0,40}|[a-c본서ｶ東กำ้e\u{301} ]{0,40}") {
            for language in Bm25Language::ALL {
                let mut last = 0;
                language.analyser().token_stream(&text).process(&mut |it| {
                    assert!(text.get(it.offset_from..it.offset_to).is_some_and(|it| !it.is_empty()));
                    assert!(it.offset_from >= last && !it.text.is_empty());
                    last = it.offset_from;
                });
            }
        }
    }
}
