//! Tokenizers in Hugging Face format.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::{ChatMessage, ChatTemplate, ChatTemplateError, TokenId};

/// Tokenizer loaded from a model directory.
///
/// Consists of `tokenizer.json` and the chat template, if any. Sampled tokens are never decoded and
/// re-encoded.
#[derive(Clone, Debug)]
pub struct Tokenizer {
    inner: tokenizers::Tokenizer,
    source: PathBuf,
    chat_template: Option<ChatTemplate>,
}

/// Error while reading a tokenizer or encoding text.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TokenizerError {
    /// The file is missing, unreadable, or not a tokenizer.
    #[error("{path}: not a readable tokenizer.json: {message}", path = path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Message of the parser.
        message: String,
    },
    /// The text cannot be encoded.
    #[error("{path}: cannot encode `{text}`: {message}", path = path.display())]
    Encode {
        /// The tokenizer's file.
        path: PathBuf,
        /// Text, shortened.
        text: String,
        /// Message of the tokenizer.
        message: String,
    },
    /// The chat template cannot be read or rendered.
    #[error(transparent)]
    ChatTemplate(#[from] ChatTemplateError),
}

impl Tokenizer {
    /// Reads `tokenizer.json` and the chat template of a model directory.
    ///
    /// # Errors
    ///
    /// Fails if the file is missing or not a tokenizer, or the chat template is invalid.
    pub fn from_dir(dir: &Path) -> Result<Self, TokenizerError> {
        let path = dir.join("tokenizer.json");
        let bytes = std::fs::read(&path)
            .map_err(|it| TokenizerError::Read { path: path.clone(), message: it.to_string() })?;
        let tokenizer = Self::from_bytes(&bytes, path)?;
        Ok(Self { chat_template: ChatTemplate::from_dir(dir)?, ..tokenizer })
    }

    /// Parses the contents of a `tokenizer.json`; `source` names it in errors.
    ///
    /// # Errors
    ///
    /// Fails when the bytes are not a tokenizer.
    pub fn from_bytes(bytes: &[u8], source: impl Into<PathBuf>) -> Result<Self, TokenizerError> {
        let source = source.into();
        let mut inner = tokenizers::Tokenizer::from_bytes(bytes)
            .map_err(|it| TokenizerError::Read { path: source.clone(), message: it.to_string() })?;
        // Stored truncation or padding would silently change training data.
        inner.with_padding(None);
        inner
            .with_truncation(None)
            .map_err(|it| TokenizerError::Read { path: source.clone(), message: it.to_string() })?;
        Ok(Self { inner, source, chat_template: None })
    }

    /// Encodes text that continues a sequence, without adding special tokens.
    ///
    /// # Errors
    ///
    /// Fails when the tokenizer has no token for a part of the text and no unknown token.
    pub fn encode(&self, text: &str) -> Result<Vec<TokenId>, TokenizerError> {
        self.encode_with(text, false)
    }

    /// Encodes text that starts a sequence, applying the tokenizer's template (e.g. a
    /// beginning-of-sequence token).
    ///
    /// # Errors
    ///
    /// Fails like [`encode`](Self::encode).
    pub fn encode_start(&self, text: &str) -> Result<Vec<TokenId>, TokenizerError> {
        self.encode_with(text, true)
    }

    /// Encodes a prompt: as a user message in the chat template if there is one, else as the start
    /// of a sequence.
    ///
    /// The template writes all special tokens, so the tokenizer adds none.
    ///
    /// # Errors
    ///
    /// Fails like [`encode`](Self::encode), and if the chat template rejects the message.
    pub fn encode_prompt(&self, text: &str) -> Result<Vec<TokenId>, TokenizerError> {
        let Some(template) = &self.chat_template else { return self.encode_start(text) };
        self.encode(&template.render(&[ChatMessage::user(text)])?)
    }

    /// Chat template of the model directory, if any.
    #[must_use]
    pub fn chat_template(&self) -> Option<&ChatTemplate> {
        self.chat_template.as_ref()
    }

    /// Replaces or removes the chat template.
    #[must_use]
    pub fn with_chat_template(mut self, chat_template: Option<ChatTemplate>) -> Self {
        self.chat_template = chat_template;
        self
    }

    fn encode_with(&self, text: &str, start: bool) -> Result<Vec<TokenId>, TokenizerError> {
        self.inner.encode_fast(text, start).map(|it| it.get_ids().to_vec()).map_err(|it| {
            TokenizerError::Encode {
                path: self.source.clone(),
                text: text.chars().take(80).collect(),
                message: it.to_string(),
            }
        })
    }

    /// Decodes tokens to text, without special tokens (end of sequence, padding).
    ///
    /// Invalid or incomplete UTF-8 becomes U+FFFD.
    #[must_use]
    pub fn decode(&self, tokens: &[TokenId]) -> String {
        // Decoding does not fail on tokens of the model's vocabulary, and unknown identifiers are
        // skipped.
        self.inner.decode(tokens, true).unwrap_or_default()
    }

    /// Decodes tokens to text, including special tokens.
    #[must_use]
    pub fn decode_with_special(&self, tokens: &[TokenId]) -> String {
        self.inner.decode(tokens, false).unwrap_or_default()
    }

    /// Identifier of a token, given its exact text.
    #[must_use]
    pub fn token_id(&self, token: &str) -> Option<TokenId> {
        self.inner.token_to_id(token)
    }

    /// Exact text of a token, given its identifier.
    #[must_use]
    pub fn token_text(&self, token: TokenId) -> Option<String> {
        self.inner.id_to_token(token)
    }

    /// Identifier of a special token, given its exact text; `None` for any other text.
    #[must_use]
    pub fn special_token_id(&self, token: &str) -> Option<TokenId> {
        let decoder = self.inner.get_added_tokens_decoder();
        decoder.iter().find(|(_, it)| it.special && it.content == token).map(|(id, _)| *id)
    }

    /// Special tokens by identifier.
    #[must_use]
    pub fn special_tokens(&self) -> BTreeMap<TokenId, String> {
        let decoder = self.inner.get_added_tokens_decoder();
        let special = decoder.into_iter().filter(|(_, it)| it.special);
        special.map(|(id, it)| (id, it.content)).collect()
    }

    /// Largest token identifier plus one.
    #[must_use]
    pub fn vocab_size(&self) -> usize {
        self.inner.get_vocab(true).into_values().max().map_or(0, |it| it as usize + 1)
    }

    pub(crate) fn inner(&self) -> &tokenizers::Tokenizer {
        &self.inner
    }

    /// File that the tokenizer was read from.
    #[must_use]
    pub fn source(&self) -> &Path {
        &self.source
    }

    /// Serialises the tokenizer to a `tokenizer.json`.
    ///
    /// # Errors
    ///
    /// Fails if the tokenizer cannot be serialised.
    pub fn to_json(&self) -> Result<String, TokenizerError> {
        self.inner.to_string(true).map_err(|it| TokenizerError::Read {
            path: self.source.clone(),
            message: it.to_string(),
        })
    }
}
