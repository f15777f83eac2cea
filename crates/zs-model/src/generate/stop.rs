//! Finding stop texts while tokens arrive.

use super::TokenId;
use crate::Tokenizer;

/// Watches the decoded end of a completion for stop texts.
///
/// Only the last few tokens are decoded: a stop text of `n` bytes spans at most `n` tokens, so a
/// window of that many tokens sees it the moment it is complete, also when it straddles tokens. The
/// token that completes it is kept whole, even where it carries text beyond the stop.
#[derive(Debug)]
pub(crate) struct StopWatch<'a> {
    tokenizer: Option<&'a Tokenizer>,
    stop: &'a [String],
    window: usize,
}

impl<'a> StopWatch<'a> {
    pub(crate) fn new(tokenizer: Option<&'a Tokenizer>, stop: &'a [String]) -> Self {
        let window = stop.iter().map(String::len).max().unwrap_or(0);
        Self { tokenizer, stop, window }
    }

    /// Whether the last of `tokens` completed a stop text.
    pub(crate) fn is_complete(&self, tokens: &[TokenId]) -> bool {
        let Some(tokenizer) = self.tokenizer.filter(|_| self.window > 0) else { return false };
        let start = tokens.len().saturating_sub(self.window);
        let text = tokenizer.decode(&tokens[start..]);
        self.stop.iter().any(|stop| text.contains(stop.as_str()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::byte_tokenizer;

    #[test]
    fn sees_a_stop_that_straddles_tokens() {
        let tokenizer = byte_tokenizer();
        let stop = ["</search>".to_owned(), "</answer>".to_owned()];
        let watch = StopWatch::new(Some(&tokenizer), &stop);
        let tokens = tokenizer.encode("a fairly long query </search>").unwrap();
        let complete: Vec<usize> =
            (1..=tokens.len()).filter(|&it| watch.is_complete(&tokens[..it])).collect();
        assert_eq!(complete, [tokens.len()]);
        assert!(!StopWatch::new(Some(&tokenizer), &[]).is_complete(&tokens));
    }
}
