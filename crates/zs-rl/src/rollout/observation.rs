//! Observations as tokens, cut where they would not fit.

use zs_core::{Document, render_observation};
use zs_model::{TokenId, Tokenizer, TokenizerError};

use super::{RolloutConfig, RolloutError};

/// Encodes observations within limits.
#[derive(Debug)]
pub(crate) struct ObservationWriter<'a> {
    tokenizer: &'a Tokenizer,
    max_tokens: usize,
    titles: bool,
}

/// Observation of the policy, as text and as tokens.
#[derive(Debug, Default)]
pub(crate) struct Observation {
    pub(crate) text: String,
    pub(crate) tokens: Vec<TokenId>,
}

impl<'a> ObservationWriter<'a> {
    pub(crate) fn new(
        tokenizer: &'a Tokenizer,
        config: &RolloutConfig,
    ) -> Result<Self, RolloutError> {
        let max_tokens = config.max_observation_tokens;
        let empty = tokenizer.encode(&render_observation(&[], false))?.len();
        if empty > max_tokens {
            let field = "max_observation_tokens";
            let message =
                format!("is {max_tokens}, but a block without documents takes {empty} tokens");
            return Err(RolloutError::Config { field, message });
        }
        Ok(Self { tokenizer, max_tokens, titles: config.document_titles })
    }

    /// The `<information>` block, as many documents as fit `room` tokens and the configured limit.
    ///
    /// Whole documents are dropped from the end; of a single one that is still too long, the text is
    /// cut at the end. `None` where not even a character of it fits.
    pub(crate) fn documents(
        &self,
        documents: &[Document],
        room: usize,
    ) -> Result<Option<Observation>, TokenizerError> {
        let limit = room.min(self.max_tokens);
        for kept in (documents.len().min(1)..=documents.len()).rev() {
            let text = render_observation(&documents[..kept], self.titles);
            if let Some(tokens) = self.encode_within(&text, limit)? {
                return Ok(Some(Observation { text, tokens }));
            }
        }
        match documents.first() {
            None => Ok(None),
            Some(first) => self.cut_document(first, limit),
        }
    }

    /// A message, whole or not at all.
    pub(crate) fn message(
        &self,
        text: &str,
        room: usize,
    ) -> Result<Option<Observation>, TokenizerError> {
        let text = text.to_owned();
        Ok(self.encode_within(&text, room)?.map(|tokens| Observation { text, tokens }))
    }

    /// The longest beginning of a document that fits, found by bisection over its characters.
    fn cut_document(
        &self,
        document: &Document,
        limit: usize,
    ) -> Result<Option<Observation>, TokenizerError> {
        let ends: Vec<usize> = document.text.char_indices().map(|(at, _)| at).skip(1).collect();
        let mut best = None;
        let (mut low, mut high) = (0, ends.len());
        while low < high {
            let middle = low + (high - low) / 2;
            let text = document.text[..ends[middle]].to_owned();
            let cut = Document { text, ..document.clone() };
            let text = render_observation(&[cut], self.titles);
            match self.encode_within(&text, limit)? {
                Some(tokens) => {
                    best = Some(Observation { text, tokens });
                    low = middle + 1;
                }
                None => high = middle,
            }
        }
        Ok(best)
    }

    fn encode_within(
        &self,
        text: &str,
        limit: usize,
    ) -> Result<Option<Vec<TokenId>>, TokenizerError> {
        let tokens = self.tokenizer.encode(text)?;
        Ok((tokens.len() <= limit).then_some(tokens))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use zs_model::testing::byte_tokenizer;

    use super::*;

    const FRAME: usize = "\n\n<information></information>\n\n".len();

    /// The body of the block that is shown; one token is a byte.
    fn body(texts: &[&str], room: usize) -> Option<String> {
        let tokenizer = byte_tokenizer();
        let observer = ObservationWriter::new(&tokenizer, &RolloutConfig::default()).unwrap();
        let documents: Vec<Document> = texts.iter().map(|it| Document::new("", *it)).collect();
        let Observation { text, tokens } = observer.documents(&documents, room).unwrap()?;
        assert_eq!(tokenizer.decode(&tokens), text);
        assert!(tokens.len() <= room);
        let body = text.strip_prefix("\n\n<information>").unwrap();
        Some(body.strip_suffix("</information>\n\n").unwrap().to_owned())
    }

    #[track_caller]
    fn check(texts: &[&str], room: usize, expected: Option<&str>) {
        assert_eq!(body(texts, FRAME + room).as_deref(), expected, "{texts:?} in {room}");
    }

    #[test]
    fn cuts_at_document_boundaries_first() {
        let texts = ["abcd", "efgh"];
        check(&texts, 26, Some("Doc 1: abcd\nDoc 2: efgh\n"));
        check(&texts, 24, Some("Doc 1: abcd\nDoc 2: efgh\n"));
        check(&texts, 23, Some("Doc 1: abcd\n"));
        check(&texts, 12, Some("Doc 1: abcd\n"));
        check(&texts, 11, Some("Doc 1: abc\n"));
        check(&texts, 9, Some("Doc 1: a\n"));
        check(&texts, 8, None);
        // Two bytes a character: never cut inside.
        check(&["ééé"], 13, Some("Doc 1: éé\n"));
        check(&[], 25, Some("No information available."));
        check(&[], 24, None);
    }

    #[test]
    fn impossible_limits_are_refused() {
        let config = RolloutConfig { max_observation_tokens: 30, ..RolloutConfig::default() };
        let message = ObservationWriter::new(&byte_tokenizer(), &config).unwrap_err().to_string();
        assert!(
            message.contains("`max_observation_tokens`") && message.contains("30"),
            "{message}"
        );
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn whatever_is_shown_fits_and_closes(
            texts in proptest::collection::vec("[a-é]{0,20}", 0..4),
            room in 0_usize..160,
        ) {
            let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
            let _ = body(&texts, room);
        }
    }
}
