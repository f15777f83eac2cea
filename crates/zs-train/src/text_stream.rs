//! Tokens as the text that they add, one by one.

use zs_model::{TokenId, Tokenizer};

/// Decodes a sequence as it grows.
///
/// Only the last few tokens are decoded each time: a token's text may depend on the one before it,
/// e.g. by a space, and a character may take several tokens, so what is not whole yet is held back.
///
/// ```
/// use zs_model::testing::byte_tokenizer;
/// use zs_train::text_stream::TextStream;
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
    /// Tokens before this one no longer change what follows.
    context: usize,
    /// Tokens before this one have been handed out as text.
    printed: usize,
}

impl<'a> TextStream<'a> {
    /// A stream at the start of a text.
    #[must_use]
    pub fn new(tokenizer: &'a Tokenizer) -> Self {
        Self { tokenizer, tokens: Vec::new(), context: 0, printed: 0 }
    }

    /// What this token adds; nothing while a character is not whole.
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

    /// What was held back, at the end of the text.
    #[must_use]
    pub fn finish(self) -> String {
        let before = self.tokenizer.decode(&self.tokens[self.context..self.printed]);
        let now = self.tokenizer.decode(&self.tokens[self.context..]);
        now.get(before.len()..).unwrap_or_default().to_owned()
    }
}

#[cfg(test)]
mod tests {
    use zs_model::testing::byte_tokenizer;

    use super::*;

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
        check(
            &zs_simulator::pretraining::world_tokenizer(),
            "<search> David Bada spouse </search>",
        );
        // The end of a text cut inside a character is shown as far as it can be.
        let tokenizer = byte_tokenizer();
        let mut stream = TextStream::new(&tokenizer);
        assert_eq!(stream.push(0xc3), "");
        assert_eq!(stream.finish(), "\u{fffd}");
    }
}
