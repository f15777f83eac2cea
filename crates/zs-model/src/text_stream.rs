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
    /// The last tokens: those that still change the text of later ones.
    tail: Vec<TokenId>,
    /// Number of the tail's tokens before the last that ended with a whole character.
    ended: usize,
    /// Number of bytes of the tail's text that were returned.
    shown: usize,
}

/// Tokens after which a text that never ends with a whole character is taken for garbage. A character
/// has at most four bytes.
const LONGEST_CHARACTER: usize = 16;

impl<'a> TextStream<'a> {
    /// A decoder at the start of a text.
    #[must_use]
    pub fn new(tokenizer: &'a Tokenizer) -> Self {
        Self { tokenizer, tail: Vec::new(), ended: 0, shown: 0 }
    }

    /// Returns the text that this token adds, which is empty while a character is incomplete.
    pub fn push(&mut self, token: TokenId) -> String {
        self.tail.push(token);
        let now = self.tokenizer.decode(&self.tail);
        // A character that is cut decodes to one U+FFFD.
        let whole = now.strip_suffix('\u{fffd}').unwrap_or(&now);
        let added = whole.get(self.shown..).unwrap_or_default().to_owned();
        self.shown = self.shown.max(whole.len());
        if whole.len() == now.len() {
            self.forget(self.ended);
            self.ended = self.tail.len();
        } else if self.tail.len() - self.ended > LONGEST_CHARACTER {
            self.forget(self.tail.len() - LONGEST_CHARACTER / 2);
            self.ended = 0;
        }
        added
    }

    /// Drops the first tokens of the tail.
    fn forget(&mut self, num_tokens: usize) {
        if num_tokens > 0 {
            self.tail.drain(..num_tokens);
            let left = self.tokenizer.decode(&self.tail);
            self.shown = left.strip_suffix('\u{fffd}').unwrap_or(&left).len();
        }
    }

    /// Ends the text and returns what was held back.
    #[must_use]
    pub fn finish(self) -> String {
        let now = self.tokenizer.decode(&self.tail);
        now.get(self.shown..).unwrap_or_default().to_owned()
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

    /// A tokenizer of words that falls back to bytes, as those of Llama 2 and Mistral do.
    fn fallback_tokenizer() -> Tokenizer {
        let mut vocab = serde_json::Map::new();
        vocab.insert("▁a".to_owned(), 256.into());
        vocab.insert("▁".to_owned(), 257.into());
        vocab.insert("<unk>".to_owned(), 258.into());
        for byte in 0..256 {
            vocab.insert(format!("<0x{byte:02X}>"), byte.into());
        }
        let space = serde_json::json!({ "String": " " });
        let json = serde_json::json!({
            "version": "1.0", "truncation": null, "padding": null, "added_tokens": [],
            "normalizer": { "type": "Replace", "pattern": space, "content": "▁" },
            "pre_tokenizer": null, "post_processor": null,
            "decoder": { "type": "Sequence", "decoders": [
                { "type": "Replace", "pattern": { "String": "▁" }, "content": " " },
                { "type": "ByteFallback" }, { "type": "Fuse" },
            ]},
            "model": {
                "type": "BPE", "dropout": null, "unk_token": "<unk>", "continuing_subword_prefix": null,
                "end_of_word_suffix": null, "fuse_unk": true, "byte_fallback": true, "vocab": vocab,
                "merges": [],
            }
        });
        Tokenizer::from_bytes(json.to_string().as_bytes(), "fallback").unwrap()
    }

    /// Checks every cut of a text: what is whole is shown at once, what is cut is one U+FFFD.
    #[track_caller]
    fn check_cuts(tokenizer: &Tokenizer, text: &str) {
        let tokens = tokenizer.encode(text).unwrap();
        for cut in 0..=tokens.len() {
            let mut stream = TextStream::new(tokenizer);
            let mut streamed: String = tokens[..cut].iter().map(|it| stream.push(*it)).collect();
            assert!(text.starts_with(&streamed), "{streamed:?}");
            streamed.push_str(&stream.finish());
            assert_eq!(streamed, tokenizer.decode(&tokens[..cut]), "{text:?} at {cut}");
            let whole = streamed.strip_suffix('\u{fffd}').unwrap_or(&streamed);
            assert!(text.starts_with(whole), "{streamed:?}");
            assert!(text.len() - whole.len() <= tokens.len() - cut + 3, "{streamed:?} at {cut}");
        }
    }

    #[test]
    fn a_text_may_be_cut_anywhere() {
        for tokenizer in [byte_tokenizer(), fallback_tokenizer()] {
            for text in ["état", "東京🎬é", "東 🎬🎬", "e\u{301}\u{fffd}"] {
                check_cuts(&tokenizer, text);
            }
        }
        // Bytes of no character are shown, too.
        for tokenizer in [byte_tokenizer(), fallback_tokenizer()] {
            let mut stream = TextStream::new(&tokenizer);
            let mut text: String = (0..100).map(|_| stream.push(0xff)).collect();
            assert!(text.len() > 3 * 80);
            text.push_str(&stream.finish());
            assert_eq!(text, "\u{fffd}".repeat(100));
        }
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
