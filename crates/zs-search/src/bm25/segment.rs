//! Text cut into terms by script: words where blanks part them, overlapping grams where nothing does.

use std::borrow::Cow;
use std::ops::Range;

use icu_normalizer::{ComposingNormalizerBorrowed, DecomposingNormalizerBorrowed};
use tantivy::tokenizer::{TextAnalyzer, Token, TokenStream, Tokenizer};
use unicode_properties::{GeneralCategory, GeneralCategoryGroup, UnicodeGeneralCategory};

use super::script::{Segments, is_han, segments};

/// Longest word, in bytes for English and in characters for others, plus one.
pub(super) const LONGEST_WORD: usize = 64;

/// Analysers of single words, by the script of their first letter.
#[derive(Clone)]
pub(super) struct WordAnalysers {
    /// Of scripts without another one, too.
    pub(super) latin: TextAnalyzer,
    pub(super) arabic: TextAnalyzer,
    pub(super) cyrillic: TextAnalyzer,
    pub(super) greek: TextAnalyzer,
    pub(super) tamil: TextAnalyzer,
}

/// Tokenizer that analyses every run of one script as its script asks.
///
/// Characters are those of Unicode's compatible composed form (NFKC). A run of Chinese, Japanese or
/// Korean becomes its pairs of characters, and each Chinese character alone; one of Thai, Lao, Khmer,
/// Burmese or Tibetan its triples; a run that is shorter is one term. Words of Latin, Greek, Cyrillic,
/// Hebrew and Arabic lose the marks that do not compose; Greek ones lose all.
///
/// # References
///
/// - Lucene's `CJKBigramFilter`, with `outputUnigrams` for Chinese characters alone
#[derive(Clone)]
pub(super) struct ScriptTokenizer {
    words: WordAnalysers,
    tokens: Vec<Token>,
    word: String,
}

impl ScriptTokenizer {
    pub(super) fn new(words: WordAnalysers) -> Self {
        Self { words, tokens: Vec::new(), word: String::new() }
    }

    /// Adds the term of a word, unless it is a stop word or too long.
    fn push_word(&mut self, text: &str, place: &Range<usize>) {
        let raw = &text[place.clone()];
        let Some(first) = raw.chars().next() else { return };
        if raw.chars().count() >= LONGEST_WORD {
            return;
        }
        let analyser = match first {
            '\u{370}'..='\u{3FF}' | '\u{1F00}'..='\u{1FFF}' => &mut self.words.greek,
            '\u{400}'..='\u{52F}' => &mut self.words.cyrillic,
            '\u{600}'..='\u{6FF}' | '\u{750}'..='\u{77F}' => &mut self.words.arabic,
            '\u{B80}'..='\u{BFF}' => &mut self.words.tamil,
            _ => &mut self.words.latin,
        };
        let characters = match first {
            '\u{370}'..='\u{3FF}' | '\u{1F00}'..='\u{1FFF}' => {
                DecomposingNormalizerBorrowed::new_nfkd().normalize(raw)
            }
            _ => composed(raw),
        };
        // The marks of later scripts are vowels and part of the word.
        let has_accents = matches!(first, ..'\u{900}' | '\u{1E00}'..='\u{1FFF}');
        let letters = characters.chars().flat_map(char::to_lowercase);
        self.word.clear();
        self.word.extend(letters.filter(|it| !has_accents || !is_accent(*it)));
        let mut terms = analyser.token_stream(&self.word);
        while terms.advance() {
            if !terms.token().text.is_empty() {
                push(&mut self.tokens, terms.token().text.clone(), place.clone());
            }
        }
    }

    /// Adds the overlapping grams of a run.
    fn push_grams(&mut self, text: &str, run: &Range<usize>, length: usize) {
        let raw = &text[run.clone()];
        let characters: Vec<char> = composed(raw).chars().collect();
        let starts = raw.char_indices().map(|(at, _)| run.start + at);
        let bounds: Vec<usize> = starts.chain([run.end]).collect();
        // Where composing has joined or parted characters, each gram stands for the whole run.
        let is_moved = bounds.len() != characters.len() + 1;
        let mut push_gram = |gram: Range<usize>| {
            let place = if is_moved { run.clone() } else { bounds[gram.start]..bounds[gram.end] };
            push(&mut self.tokens, characters[gram].iter().collect(), place);
        };
        let count = characters.len();
        for (first, character) in characters.iter().enumerate() {
            if count == 1 || (length == 2 && is_han(*character)) {
                push_gram(first..first + 1);
            }
            if count > 1 && first <= count.saturating_sub(length) {
                push_gram(first..(first + length).min(count));
            }
        }
    }
}

impl Tokenizer for ScriptTokenizer {
    type TokenStream<'a> = Terms<'a>;

    fn token_stream<'a>(&'a mut self, text: &'a str) -> Terms<'a> {
        self.tokens.clear();
        let mut run: Option<(usize, Segments)> = None;
        // The blank at the end ends the last run.
        for (at, character) in text.char_indices().chain([(text.len(), ' ')]) {
            let next = match run {
                // A mark belongs to the letter before it.
                Some((_, kind)) if is_mark(character) => Some(kind),
                _ => segments(character),
            };
            let Some((start, kind)) = run else {
                run = next.map(|it| (at, it));
                continue;
            };
            if next == Some(kind) {
                continue;
            }
            match kind {
                Segments::Words => self.push_word(text, &(start..at)),
                Segments::Pairs => self.push_grams(text, &(start..at), 2),
                Segments::Triples => self.push_grams(text, &(start..at), 3),
            }
            run = next.map(|it| (at, it));
        }
        Terms { tokens: &mut self.tokens, num_passed: 0 }
    }
}

/// Terms of a text, in order.
pub(super) struct Terms<'a> {
    tokens: &'a mut [Token],
    num_passed: usize,
}

impl TokenStream for Terms<'_> {
    fn advance(&mut self) -> bool {
        let has_next = self.num_passed < self.tokens.len();
        self.num_passed += usize::from(has_next);
        has_next
    }

    fn token(&self) -> &Token {
        &self.tokens[self.num_passed - 1]
    }

    fn token_mut(&mut self) -> &mut Token {
        &mut self.tokens[self.num_passed - 1]
    }
}

fn push(tokens: &mut Vec<Token>, text: String, place: Range<usize>) {
    let position = tokens.len();
    let (offset_from, offset_to) = (place.start, place.end);
    tokens.push(Token { offset_from, offset_to, position, text, position_length: 1 });
}

fn composed(text: &str) -> Cow<'_, str> {
    ComposingNormalizerBorrowed::new_nfkc().normalize(text)
}

fn is_mark(character: char) -> bool {
    // ASCII has none, and looking the others up takes a search.
    !character.is_ascii() && character.general_category_group() == GeneralCategoryGroup::Mark
}

fn is_accent(character: char) -> bool {
    !character.is_ascii() && character.general_category() == GeneralCategory::NonspacingMark
}
