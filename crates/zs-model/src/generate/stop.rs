//! Incremental detection of stop texts.

use super::StopReason;
use crate::TokenId;
use crate::Tokenizer;

/// Bytes kept beyond the longest stop text. A decoder may render the start of a window differently
/// (a dropped leading space, a split character), which must not affect a stop text.
const MARGIN: usize = 16;

/// Stop texts of a completion.
///
/// A completion stops at the first token after which its decoded text contains a stop text, even
/// across token borders. The token is kept whole, even if it carries text after the stop. Special
/// tokens are not part of the decoded text; a stop text that is itself a special token matches by
/// its identifier.
#[derive(Debug)]
pub(crate) struct StopTexts<'a> {
    tokenizer: Option<&'a Tokenizer>,
    texts: &'a [String],
    special: Vec<TokenId>,
    longest: usize,
}

/// Last tokens of a completion, enough to contain the start of a stop text.
#[derive(Clone, Debug, Default)]
pub(crate) struct CompletionTail {
    tokens: Vec<TokenId>,
    /// Length of the decoded text after each token.
    ends: Vec<usize>,
}

impl<'a> StopTexts<'a> {
    pub(crate) fn new(tokenizer: Option<&'a Tokenizer>, texts: &'a [String]) -> Self {
        let special = texts.iter().filter_map(|it| tokenizer?.special_token_id(it)).collect();
        let longest = texts.iter().map(String::len).max().unwrap_or(0);
        Self { tokenizer, texts, special, longest }
    }

    /// Appends a token; returns the reason that the completion ends with it, if it does. `is_full`: no
    /// further token fits.
    pub(crate) fn stop_reason(
        &self,
        tail: &mut CompletionTail,
        token: TokenId,
        eos_token_ids: &[TokenId],
        is_full: bool,
    ) -> Option<StopReason> {
        if eos_token_ids.contains(&token) {
            Some(StopReason::EndOfSequence)
        } else if self.push(tail, token) {
            Some(StopReason::Stop)
        } else {
            is_full.then_some(StopReason::Length)
        }
    }

    /// Appends a token; returns true if it completes a stop text.
    ///
    /// The tail is decoded for each token and trimmed at twice the required length, so the cost per
    /// token does not grow with the completion.
    pub(crate) fn push(&self, tail: &mut CompletionTail, token: TokenId) -> bool {
        let Some(tokenizer) = self.tokenizer.filter(|_| self.longest > 0) else { return false };
        if self.special.contains(&token) {
            return true;
        }
        tail.tokens.push(token);
        let text = tokenizer.decode(&tail.tokens);
        if self.texts.iter().any(|it| text.contains(it.as_str())) {
            return true;
        }
        tail.ends.push(text.len());
        let needed = self.longest + MARGIN;
        if text.len() > 2 * needed {
            // Cuts through the last token that leaves enough text after it.
            let last = tail.ends.iter().rposition(|end| end + needed <= text.len());
            let cut = last.map_or(0, |it| it + 1);
            let start = last.map_or(0, |it| tail.ends[it]);
            tail.tokens.drain(..cut);
            tail.ends.drain(..cut);
            tail.ends.iter_mut().for_each(|end| *end = end.saturating_sub(start));
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::testing::{BYTE_EOS, byte_tokenizer};

    /// Index of the first token at which a stop text is found; `None` if there is none.
    fn incremental(tokenizer: &Tokenizer, stop: &[String], tokens: &[TokenId]) -> Option<usize> {
        let texts = StopTexts::new(Some(tokenizer), stop);
        let mut tail = CompletionTail::default();
        tokens.iter().position(|&token| texts.push(&mut tail, token))
    }

    /// Reference result, which decodes the whole text after each token.
    fn naive(tokenizer: &Tokenizer, stop: &[String], tokens: &[TokenId]) -> Option<usize> {
        (0..tokens.len()).find(|&last| {
            let text = tokenizer.decode(&tokens[..=last]);
            stop.iter().any(|it| text.contains(it.as_str()))
        })
    }

    /// Byte pairs and triples over a small alphabet, so that stop texts cross token borders.
    fn merging_tokenizer() -> Tokenizer {
        let pieces = [
            "<", "/", "s", ">", "a", "Ã", "©", "</", "s>", "</s", "</s>", "/s", ">a", "a<", "aa",
            "s>a", "Ã©", ">Ã", "©<",
        ];
        let vocab: serde_json::Map<_, _> = pieces
            .iter()
            .enumerate()
            .map(|(id, piece)| ((*piece).to_owned(), serde_json::Value::from(id)))
            .collect();
        let special = pieces.len();
        let json = serde_json::json!({
            "version": "1.0", "truncation": null, "padding": null,
            "added_tokens": [{
                "id": special, "content": "<|end|>", "single_word": false, "lstrip": false,
                "rstrip": false, "normalized": false, "special": true
            }],
            "normalizer": null, "pre_tokenizer": null, "post_processor": null,
            "decoder": {
                "type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true,
                "use_regex": true
            },
            "model": {
                "type": "BPE", "dropout": null, "unk_token": null,
                "continuing_subword_prefix": null, "end_of_word_suffix": null, "fuse_unk": false,
                "byte_fallback": false, "vocab": vocab, "merges": []
            }
        });
        Tokenizer::from_bytes(json.to_string().as_bytes(), "merging_tokenizer").unwrap()
    }

    proptest! {
        #![proptest_config(ProptestConfig {
            cases: 256,
            failure_persistence: None,
            ..ProptestConfig::default()
        })]

        #[test]
        fn finds_what_a_naive_search_finds(
            mut tokens in proptest::collection::vec(0_u32..20, 0..160),
            rare in any::<bool>(),
            stop in proptest::sample::subsequence(
                vec!["</s>", "é<", "s>a</s", "aaaaaaa", "a</s>aéa<é"], 1..4,
            ),
        ) {
            if rare {
                // Without a closing bracket stop texts are rare and the tail is trimmed many times.
                tokens.retain(|it| ![3, 8, 10, 12, 15].contains(it));
            }
            let tokenizer = merging_tokenizer();
            let stop: Vec<String> = stop.into_iter().map(str::to_owned).collect();
            prop_assert_eq!(
                incremental(&tokenizer, &stop, &tokens),
                naive(&tokenizer, &stop, &tokens),
            );
        }
    }

    #[track_caller]
    fn check(text: &str, stop: &str, expected: Option<usize>) {
        let tokenizer = byte_tokenizer();
        let tokens = tokenizer.encode(text).unwrap();
        assert_eq!(incremental(&tokenizer, &[stop.to_owned()], &tokens), expected, "{text}");
    }

    #[test]
    fn byte_tokens_stop_at_the_last_byte() {
        let long = format!("{} </search>", "a fairly long query".repeat(9));
        check(&long, "</search>", Some(long.len() - 1));
        check("état", "é", Some(1));
        check("plain", "</search>", None);
        let tokens = byte_tokenizer().encode("abc").unwrap();
        assert_eq!(incremental(&byte_tokenizer(), &[], &tokens), None);
    }

    #[test]
    fn stops_at_a_token_that_extends_past_the_stop_text() {
        let tokenizer = merging_tokenizer();
        let [slash, tail] = ["</", "s>a"].map(|it| tokenizer.token_id(it).unwrap());
        let tokens = [slash, tail, slash];
        assert_eq!(incremental(&tokenizer, &["</s>".to_owned()], &tokens), Some(1));
    }

    #[test]
    fn special_tokens_match_by_identifier_only() {
        let tokenizer = byte_tokenizer();
        let tokens = [97, BYTE_EOS, 98];
        assert_eq!(incremental(&tokenizer, &["<eos>".to_owned()], &tokens), Some(1));
        assert_eq!(incremental(&tokenizer, &["ab".to_owned()], &tokens), Some(2));
    }
}
