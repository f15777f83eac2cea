//! Analysis of text into terms, as a language asks.

use tantivy::tokenizer::{
    AsciiFoldingFilter, Language, LowerCaser, RawTokenizer, RemoveLongFilter, SimpleTokenizer,
    Stemmer, StopWordFilter, TextAnalyzer,
};

use super::Bm25Language;
use super::segment::{LONGEST_WORD, ScriptTokenizer, WordAnalysers};

/// Words that queries and documents are compared without: Lucene's English list.
const STOP_WORDS: [&str; 33] = [
    "a", "an", "and", "are", "as", "at", "be", "but", "by", "for", "if", "in", "into", "is", "it",
    "no", "not", "of", "on", "or", "such", "that", "the", "their", "then", "there", "these",
    "they", "this", "to", "was", "will", "with",
];

/// Analyser of text into terms.
pub(super) fn analyser(language: Bm25Language) -> TextAnalyzer {
    if language == Bm25Language::English {
        return TextAnalyzer::builder(SimpleTokenizer::default())
            .filter(RemoveLongFilter::limit(LONGEST_WORD))
            .filter(LowerCaser)
            .filter(stop_words())
            .filter(Stemmer::new(Language::English))
            .build();
    }
    TextAnalyzer::from(ScriptTokenizer::new(WordAnalysers {
        latin: of_words(latin(language)),
        arabic: of_words(Language::Arabic),
        cyrillic: of_words(Language::Russian),
        greek: of_words(Language::Greek),
        tamil: of_words(Language::Tamil),
    }))
}

/// Language of the stems of words of Latin script.
fn latin(language: Bm25Language) -> Language {
    match language {
        Bm25Language::English | Bm25Language::Multilingual => Language::English,
        Bm25Language::Danish => Language::Danish,
        Bm25Language::Dutch => Language::Dutch,
        Bm25Language::Finnish => Language::Finnish,
        Bm25Language::French => Language::French,
        Bm25Language::German => Language::German,
        Bm25Language::Hungarian => Language::Hungarian,
        Bm25Language::Italian => Language::Italian,
        Bm25Language::Norwegian => Language::Norwegian,
        Bm25Language::Portuguese => Language::Portuguese,
        Bm25Language::Romanian => Language::Romanian,
        Bm25Language::Spanish => Language::Spanish,
        Bm25Language::Swedish => Language::Swedish,
        Bm25Language::Turkish => Language::Turkish,
    }
}

/// Analyser of one word, in lower case, of a language.
fn of_words(language: Language) -> TextAnalyzer {
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn terms(language: Bm25Language, text: &str) -> Vec<String> {
        let mut terms = Vec::new();
        analyser(language).token_stream(text).process(&mut |it| terms.push(it.text.clone()));
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

    proptest! {
        /// Analyses English in ASCII alike, so an English corpus may be indexed either way.
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
                analyser(language).token_stream(&text).process(&mut |it| {
                    assert!(text.get(it.offset_from..it.offset_to).is_some_and(|it| !it.is_empty()));
                    assert!(it.offset_from >= last && !it.text.is_empty());
                    last = it.offset_from;
                });
            }
        }
    }
}
