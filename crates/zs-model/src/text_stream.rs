//! Incremental decoding: the text that each token adds.

use crate::{TokenId, Tokenizer};

/// Incremental decoder of one sequence.
///
/// Each step decodes the last few tokens only. A token's text may depend on the token before it, e.g.
/// by a space, and a character may take several tokens: an incomplete character is held back.
///
/// ```
/// use zs_model::TextStream;
/// use zs_model::testing::byte_tokenizer;
///
/// let tokenizer = byte_tokenizer();
/// let mut stream = TextStream::new(&tokenizer);
/// let parts: Vec<String> = "aéb".bytes().map(|it| stream.push(it.into())).collect();
/// assert_eq!(parts, ["a", "", "é", "b"]);
/// ```
#[derive(Debug)]
pub struct TextStream<'a> {
    tokenizer: &'a Tokenizer,
    tokens: Vec<TokenId>,
    /// Start of the tokens that still change the text of later ones.
    context: usize,
    /// Number of tokens that were returned as text.
    printed: usize,
}

impl<'a> TextStream<'a> {
    /// A decoder at the start of a text.
    #[must_use]
    pub fn new(tokenizer: &'a Tokenizer) -> Self {
        Self { tokenizer, tokens: Vec::new(), context: 0, printed: 0 }
    }

    /// Returns the text that this token adds, which is empty while a character is incomplete.
    pub fn push(&mut self, token: TokenId) -> String {
        self.tokens.push(token);
        let before = self.tokenizer.decode(&self.tokens[self.context..self.printed]);
        let now = self.tokenizer.decode(&self.tokens[self.context..]);
        if now.ends_with('\u{fffd}') {
            return String::new();
        }
        self.context = self.printed;
        self.printed = self.tokens.len();
        now.get(before.len()..).unwrap_or_default().to_owned()
    }

    /// Ends the text and returns what was held back.
    #[must_use]
    pub fn finish(self) -> String {
        let before = self.tokenizer.decode(&self.tokens[self.context..self.printed]);
        let now = self.tokenizer.decode(&self.tokens[self.context..]);
        now.get(before.len()..).unwrap_or_default().to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::byte_tokenizer;

    /// A tokenizer that writes a space between words.
    fn word_tokenizer() -> Tokenizer {
        let json = r###"{
            "version": "1.0", "truncation": null, "padding": null, "added_tokens": [],
            "normalizer": null, "pre_tokenizer": { "type": "WhitespaceSplit" },
            "post_processor": null,
            "decoder": { "type": "WordPiece", "prefix": "##", "cleanup": false },
            "model": {
                "type": "WordPiece", "unk_token": "?", "continuing_subword_prefix": "##",
                "max_input_chars_per_word": 100,
                "vocab": { "?": 0, "<search>": 1, "David": 2, "Ba": 3, "##da": 4, "spouse": 5 }
            }
        }"###;
        Tokenizer::from_bytes(json.as_bytes(), "words").unwrap()
    }

    #[track_caller]
    fn check(tokenizer: &Tokenizer, text: &str) {
        let tokens = tokenizer.encode(text).unwrap();
        let mut stream = TextStream::new(tokenizer);
        let mut streamed: String = tokens.iter().map(|it| stream.push(*it)).collect();
        streamed.push_str(&stream.finish());
        assert_eq!(streamed, tokenizer.decode(&tokens), "{text}");
    }

    #[test]
    fn pieces_make_up_the_whole() {
        for text in ["", "a", "état — 東京 🎬", "a b  c\n\nd"] {
            check(&byte_tokenizer(), text);
        }
        check(&word_tokenizer(), "<search> David Bada spouse");
        // The end of a text cut inside a character is shown as far as it can be.
        let tokenizer = byte_tokenizer();
        let mut stream = TextStream::new(&tokenizer);
        assert_eq!(stream.push(0xc3), "");
        assert_eq!(stream.finish(), "\u{fffd}");
    }
}
