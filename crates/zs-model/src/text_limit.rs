//! Limits on the text that is worth encoding, checked before the work of encoding it.

use tokenizers::models::ModelWrapper;

use crate::Tokenizer;

/// Longest word, in characters, that a WordPiece tokenizer is given. It compares every part of a word
/// with its vocabulary, so the time for a word grows with the third power of its length.
const MAX_WORD_CHARS: usize = 256;

/// Limits on a text that is to be encoded, from the tokenizer and the context of a model.
///
/// A text passes when its tokens may fit the context; one that does not pass cannot fit, or would take
/// a tokenizer out of proportion to encode. Checking takes one pass over the bytes at most.
///
/// ```
/// use zs_model::{TextLimit, testing::byte_tokenizer};
///
/// let limit = TextLimit::new(&byte_tokenizer(), 64);
/// assert!(limit.check("a question").is_ok());
/// assert!(limit.check(&"a".repeat(1000)).unwrap_err().to_string().contains("1000 bytes"));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TextLimit {
    context_length: usize,
    max_bytes: usize,
    max_word_chars: Option<usize>,
}

/// Reason not to encode a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TextLimitError {
    /// More bytes than the tokens of a whole context can stand for.
    #[error(
        "the text has {num_bytes} bytes; the model's context of {context_length} tokens holds at most \
         {max_bytes}; shorten the text"
    )]
    TooLong {
        /// Bytes of the text.
        num_bytes: usize,
        /// Context length of the model.
        context_length: usize,
        /// Context length times the longest token.
        max_bytes: usize,
    },
    /// A word that this kind of tokenizer takes too long to encode.
    #[error(
        "a word of the text is longer than {max_word_chars} characters, the limit for a WordPiece \
         tokenizer; split it"
    )]
    LongWord {
        /// Maximum number of characters of a word.
        max_word_chars: usize,
    },
}

impl TextLimit {
    /// Limits of texts for a model with this tokenizer and context.
    #[must_use]
    pub fn new(tokenizer: &Tokenizer, context_length: usize) -> Self {
        let vocabulary = tokenizer.inner().get_vocab(true);
        let longest = vocabulary.keys().map(String::len).max().unwrap_or(0);
        let max_word_chars = match tokenizer.inner().get_model() {
            // Up to its own limit a word is encoded, and beyond it is one unknown token.
            ModelWrapper::WordPiece(it) if it.max_input_chars_per_word > MAX_WORD_CHARS => {
                Some(MAX_WORD_CHARS)
            }
            _ => None,
        };
        let max_bytes = context_length.saturating_mul(longest);
        Self { context_length, max_bytes, max_word_chars }
    }

    /// Checks a text that is to be encoded.
    ///
    /// # Errors
    ///
    /// Fails when the text cannot fit the context, and when it holds a word that the tokenizer would
    /// take too long for.
    pub fn check(&self, text: &str) -> Result<(), TextLimitError> {
        let Self { context_length, max_bytes, max_word_chars } = *self;
        if text.len() > max_bytes {
            let num_bytes = text.len();
            return Err(TextLimitError::TooLong { num_bytes, context_length, max_bytes });
        }
        match max_word_chars {
            Some(max_word_chars) if has_longer_word(text, max_word_chars) => {
                Err(TextLimitError::LongWord { max_word_chars })
            }
            _ => Ok(()),
        }
    }
}

/// Returns true when a text has more than `max` characters without white space or ASCII punctuation
/// between them, where every WordPiece tokenizer splits.
fn has_longer_word(text: &str, max: usize) -> bool {
    let splits = |it: char| it.is_whitespace() || it.is_ascii_punctuation();
    text.split(splits).any(|word| word.len() > max && word.chars().nth(max).is_some())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::byte_tokenizer;

    fn word_piece(max_input_chars_per_word: usize) -> Tokenizer {
        let json = serde_json::json!({
            "version": "1.0", "truncation": null, "padding": null, "added_tokens": [],
            "normalizer": null, "pre_tokenizer": { "type": "BertPreTokenizer" },
            "post_processor": null, "decoder": null,
            "model": {
                "type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##",
                "max_input_chars_per_word": max_input_chars_per_word,
                "vocab": { "[UNK]": 0, "a": 1, "##a": 2 }
            }
        });
        Tokenizer::from_bytes(json.to_string().as_bytes(), "tokenizer.json").unwrap()
    }

    #[track_caller]
    fn check(tokenizer: &Tokenizer, text: &str, expected: Result<(), &str>) {
        let limit = TextLimit::new(tokenizer, 200);
        let actual = limit.check(text).map_err(|it| it.to_string());
        match (actual, expected) {
            (Err(actual), Err(expected)) => assert!(actual.contains(expected), "{actual}"),
            (actual, expected) => assert_eq!(actual, expected.map_err(str::to_owned)),
        }
    }

    #[test]
    fn texts_that_cannot_fit_are_told_by_their_bytes() {
        // The longest token is `<eos>`, of five bytes.
        check(&byte_tokenizer(), &"a".repeat(1000), Ok(()));
        check(&byte_tokenizer(), &"a".repeat(1001), Err("1001 bytes"));
        check(&byte_tokenizer(), "", Ok(()));
    }

    #[test]
    fn long_words_are_kept_from_word_piece_alone() {
        let (long, short) = ("a".repeat(257), "é".repeat(256));
        check(&byte_tokenizer(), &long, Ok(()));
        check(&word_piece(1_000_000), &short, Ok(()));
        check(&word_piece(1_000_000), &long, Err("longer than 256 characters"));
        check(&word_piece(1_000_000), &format!("{} {}", &long[1..], &long[1..]), Ok(()));
        // It has a limit of its own, beyond which a word is one unknown token.
        check(&word_piece(100), &long, Ok(()));
    }
}
