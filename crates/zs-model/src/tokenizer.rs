//! Text to tokens and back, in the Hugging Face format.

use std::path::{Path, PathBuf};

use crate::{ChatMessage, ChatTemplate, ChatTemplateError, TokenId};

/// A tokenizer loaded from a model directory.
///
/// Reads `tokenizer.json`, and the chat template where there is one. Tokens in, tokens out: the rest
/// of the project never decodes and re-encodes what was sampled.
#[derive(Clone, Debug)]
pub struct Tokenizer {
    inner: tokenizers::Tokenizer,
    source: PathBuf,
    chat_template: Option<ChatTemplate>,
}

/// Why a tokenizer could not be read or could not encode.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TokenizerError {
    /// The file is missing, unreadable, or not a tokenizer.
    #[error("{path}: not a readable tokenizer.json: {message}", path = path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the parser said.
        message: String,
    },
    /// The text could not be encoded.
    #[error("{path}: cannot encode `{text}`: {message}", path = path.display())]
    Encode {
        /// The tokenizer's file.
        path: PathBuf,
        /// The text, shortened.
        text: String,
        /// What the tokenizer said.
        message: String,
    },
    /// The chat template cannot be read or rendered.
    #[error(transparent)]
    ChatTemplate(#[from] ChatTemplateError),
}

impl Tokenizer {
    /// Reads `tokenizer.json` of a model directory, and its chat template.
    ///
    /// # Errors
    ///
    /// Fails when the file is missing or not a tokenizer, or the chat template is broken.
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
        // A stored truncation or padding would silently change what is trained on.
        inner.with_padding(None);
        inner
            .with_truncation(None)
            .map_err(|it| TokenizerError::Read { path: source.clone(), message: it.to_string() })?;
        Ok(Self { inner, source, chat_template: None })
    }

    /// Encodes text that continues a sequence: no special token is added.
    ///
    /// # Errors
    ///
    /// Fails when the tokenizer has no token for a part of the text and no unknown token.
    pub fn encode(&self, text: &str) -> Result<Vec<TokenId>, TokenizerError> {
        self.encode_with(text, false)
    }

    /// Encodes text that starts a sequence: the tokenizer's own template (e.g. a beginning-of-text
    /// token) is applied.
    ///
    /// # Errors
    ///
    /// As [`encode`](Self::encode).
    pub fn encode_start(&self, text: &str) -> Result<Vec<TokenId>, TokenizerError> {
        self.encode_with(text, true)
    }

    /// Encodes a prompt: as the user's message in the chat template where there is one, else as the
    /// start of a sequence.
    ///
    /// The template writes every special token itself, a beginning-of-text token included, so the
    /// tokenizer adds none.
    ///
    /// # Errors
    ///
    /// As [`encode`](Self::encode), and where the chat template refuses the message.
    pub fn encode_prompt(&self, text: &str) -> Result<Vec<TokenId>, TokenizerError> {
        let Some(template) = &self.chat_template else { return self.encode_start(text) };
        self.encode(&template.render(&[ChatMessage::user(text)])?)
    }

    /// The chat template, where the model directory has one.
    #[must_use]
    pub fn chat_template(&self) -> Option<&ChatTemplate> {
        self.chat_template.as_ref()
    }

    /// The same tokenizer with another chat template, or none.
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

    /// The text of some tokens, special tokens (end of sequence, padding) left out.
    ///
    /// Bytes that are not yet valid UTF-8 become U+FFFD.
    #[must_use]
    pub fn decode(&self, tokens: &[TokenId]) -> String {
        // Decoding fails on no input that this project can produce: ids come from the model's own
        // vocabulary, and an id unknown to the tokenizer is skipped by it.
        self.inner.decode(tokens, true).unwrap_or_default()
    }

    /// The text of some tokens, special tokens included.
    #[must_use]
    pub fn decode_with_special(&self, tokens: &[TokenId]) -> String {
        self.inner.decode(tokens, false).unwrap_or_default()
    }

    /// The identifier of a token, given its exact text.
    #[must_use]
    pub fn token_id(&self, token: &str) -> Option<TokenId> {
        self.inner.token_to_id(token)
    }

    /// The exact text of a token, given its identifier.
    #[must_use]
    pub fn token_text(&self, token: TokenId) -> Option<String> {
        self.inner.id_to_token(token)
    }

    /// The identifier of a special token, given its exact text; `None` for every other text.
    #[must_use]
    pub fn special_token_id(&self, token: &str) -> Option<TokenId> {
        let decoder = self.inner.get_added_tokens_decoder();
        decoder.iter().find(|(_, it)| it.special && it.content == token).map(|(id, _)| *id)
    }

    /// One more than the largest token identifier.
    #[must_use]
    pub fn vocab_size(&self) -> usize {
        self.inner.get_vocab(true).into_values().max().map_or(0, |it| it as usize + 1)
    }

    /// The file that the tokenizer was read from.
    #[must_use]
    pub fn source(&self) -> &Path {
        &self.source
    }

    /// The tokenizer as the contents of a `tokenizer.json`.
    ///
    /// # Errors
    ///
    /// Fails when the tokenizer cannot be serialised.
    pub fn to_json(&self) -> Result<String, TokenizerError> {
        self.inner.to_string(true).map_err(|it| TokenizerError::Read {
            path: self.source.clone(),
            message: it.to_string(),
        })
    }
}
