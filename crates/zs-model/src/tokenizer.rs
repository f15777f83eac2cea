//! Tokenizers in Hugging Face format.

mod byte_runs;
mod configured;
mod limits;

use std::collections::{BTreeMap, HashSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use self::byte_runs::ByteTokens;
use crate::special_tokens::{TokenizerConfig, is_control};
use crate::{ChatMessage, ChatTemplate, ChatTemplateError, TokenId, model_file};

/// Tokenizer loaded from a model directory.
///
/// Consists of `tokenizer.json`, the special tokens by their roles, and the chat template, if any.
/// Sampled tokens are never decoded and re-encoded.
///
/// Decoded text holds no *control tokens*: special tokens that have a role (`eos_token`), or that are
/// written as one (`<|im_end|>`, `<s>`, `[PAD]`). Other special tokens are text, since a tokenizer may
/// hold tags such as `</search>` as special tokens.
#[derive(Clone, Debug)]
pub struct Tokenizer {
    inner: tokenizers::Tokenizer,
    source: PathBuf,
    chat_template: Option<ChatTemplate>,
    /// Texts of special tokens by role.
    roles: BTreeMap<String, String>,
    /// Special tokens that decoded text does not hold.
    control: Arc<HashSet<TokenId>>,
    /// Tokens of single bytes, for tokenizers that fall back to them.
    bytes: Option<Arc<ByteTokens>>,
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
    /// Reads `tokenizer.json` and the chat template of a model directory, with the tokens that
    /// `tokenizer_config.json` and the files beside it add.
    ///
    /// # Errors
    ///
    /// Fails if the file is missing or not a tokenizer, or the chat template is invalid.
    pub fn from_dir(dir: &Path) -> Result<Self, TokenizerError> {
        let path = dir.join("tokenizer.json");
        let bytes = model_file::read(&path).map_err(|it| TokenizerError::Read {
            path: path.clone(),
            message: format!("{it}{}", missing_advice(dir)),
        })?;
        let config = TokenizerConfig::from_dir(dir).map_err(ChatTemplateError::from)?;
        let roles = config.tokens.clone();
        let mut tokenizer = Self::from_bytes(&bytes, path)?;
        configured::add_configured(&mut tokenizer.inner, &config, dir)
            .map_err(ChatTemplateError::from)?;
        let chat_template = ChatTemplate::with_config(dir, config)?;
        Ok(Self { chat_template, roles, ..tokenizer }.with_control_tokens(&[]))
    }

    /// Parses the contents of a `tokenizer.json`; `source` names it in errors.
    ///
    /// # Errors
    ///
    /// Fails when the bytes are not a tokenizer, one whose text could grow without bound, or one with
    /// very long patterns.
    pub fn from_bytes(bytes: &[u8], source: impl Into<PathBuf>) -> Result<Self, TokenizerError> {
        let source = source.into();
        let failed = |message: String| TokenizerError::Read { path: source.clone(), message };
        limits::check(bytes).map_err(failed)?;
        let mut inner = unpanicked(|| tokenizers::Tokenizer::from_bytes(bytes)).map_err(failed)?;
        // Stored truncation or padding would silently change training data.
        inner.with_padding(None);
        inner.with_truncation(None).map_err(|it| failed(it.to_string()))?;
        let tokenizer = Self {
            bytes: ByteTokens::of(&inner).map(Arc::new),
            inner,
            source,
            chat_template: None,
            roles: BTreeMap::new(),
            control: Arc::default(),
        };
        // A part that is broken, or panics, is known before the first prompt.
        let probe = tokenizer.encode_start("Question: who? été 東京\n").or_else(|_| {
            // A small vocabulary may lack the signs.
            tokenizer.encode_start("")
        })?;
        unpanicked(|| tokenizer.inner.decode(&probe, false))
            .map_err(|message| TokenizerError::Read { path: tokenizer.source.clone(), message })?;
        Ok(tokenizer.with_control_tokens(&[]))
    }

    /// Tokenizer whose decoded text holds none of these tokens either, as far as they are special.
    #[must_use]
    pub(crate) fn with_control_tokens(mut self, tokens: &[TokenId]) -> Self {
        let decoder = self.inner.get_added_tokens_decoder();
        let special = decoder.iter().filter(|(_, it)| it.special);
        let has_role = |id: &TokenId, text: &str| {
            tokens.contains(id) || self.roles.values().any(|it| it == text)
        };
        let control = special.filter(|(id, it)| is_control(&it.content, has_role(id, &it.content)));
        self.control = Arc::new(control.map(|(id, _)| *id).collect());
        self
    }

    /// The token that ends a sequence, by `eos_token` of `tokenizer_config.json` or
    /// `special_tokens_map.json`.
    #[must_use]
    pub fn eos_token_id(&self) -> Option<TokenId> {
        self.token_id(self.roles.get("eos_token")?)
    }

    /// The configured `eos_token`, where it is not a token of the vocabulary.
    pub(crate) fn missing_eos_token(&self) -> Option<&str> {
        let text = self.roles.get("eos_token")?;
        self.token_id(text).is_none().then_some(text.as_str())
    }

    /// Tags of actions and thoughts that do not come back when they are encoded and decoded, each with
    /// the text that comes back. A policy with such a tokenizer writes no valid action.
    ///
    /// ```
    /// assert!(zs_model::testing::byte_tokenizer().lost_tags().is_empty());
    /// ```
    #[must_use]
    pub fn lost_tags(&self) -> Vec<(&'static str, String)> {
        const TAGS: [&str; 6] =
            ["<search>", "</search>", "<answer>", "</answer>", "<think>", "</think>"];
        let lost = |tag: &'static str| {
            let tokens = self.encode(&format!("a {tag} b")).unwrap_or_default();
            let back = self.decode(&tokens);
            (!back.contains(tag)).then_some((tag, back))
        };
        TAGS.into_iter().filter_map(lost).collect()
    }

    /// Special tokens that decoded text holds, sorted.
    pub(crate) fn text_special_tokens(&self) -> Vec<String> {
        let decoder = self.inner.get_added_tokens_decoder();
        let kept = decoder.iter().filter(|(id, it)| it.special && !self.control.contains(id));
        let mut texts: Vec<String> = kept.map(|(_, it)| it.content.clone()).collect();
        texts.sort();
        texts
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

    /// The part of the reply that a prompt already holds: `<think>` and what follows it, where the
    /// prompt ends with an open thinking block or an empty one; else an empty text.
    ///
    /// Chat templates of reasoning models open the block in the prompt. Rewards and readers of replies
    /// put this text before the reply.
    #[must_use]
    pub fn prefill(&self, prompt: &[TokenId]) -> String {
        // An empty block takes at most this many tokens, one a byte.
        const TAIL: usize = 64;
        zs_core::prefill(&self.decode(&prompt[prompt.len().saturating_sub(TAIL)..])).to_owned()
    }

    /// Decodes a sampled reply, with the part that the prompt already holds before it
    /// ([`prefill`](Self::prefill)). [`zs_core::without_thoughts`] is what follows its thoughts.
    #[must_use]
    pub fn decode_reply(&self, prompt: &[TokenId], reply: &[TokenId]) -> String {
        self.prefill(prompt) + &self.decode(reply)
    }

    /// Encodes a written reply to a prompt, without the part that the prompt already holds
    /// ([`prefill`](Self::prefill)).
    ///
    /// # Errors
    ///
    /// Fails like [`encode`](Self::encode).
    pub fn encode_reply(
        &self,
        prompt: &[TokenId],
        reply: &str,
    ) -> Result<Vec<TokenId>, TokenizerError> {
        self.encode(zs_core::without_prefill(reply, &self.prefill(prompt)))
    }

    fn encode_with(&self, text: &str, start: bool) -> Result<Vec<TokenId>, TokenizerError> {
        let encoding = unpanicked(|| self.inner.encode_fast(text, start));
        encoding.map(|it| it.get_ids().to_vec()).map_err(|message| TokenizerError::Encode {
            path: self.source.clone(),
            text: text.chars().take(80).collect(),
            message,
        })
    }

    /// Decodes tokens to text, without control tokens (end of sequence, padding).
    ///
    /// Invalid or incomplete UTF-8 becomes U+FFFD.
    #[must_use]
    pub fn decode(&self, tokens: &[TokenId]) -> String {
        let is_text = |it: &TokenId| !self.control.contains(it);
        match tokens.iter().all(is_text) {
            true => self.decode_with_special(tokens),
            false => {
                let text: Vec<TokenId> = tokens.iter().copied().filter(is_text).collect();
                self.decode_with_special(&text)
            }
        }
    }

    /// Decodes tokens to text, including control tokens.
    #[must_use]
    pub fn decode_with_special(&self, tokens: &[TokenId]) -> String {
        // Decoding does not fail on tokens of the model's vocabulary, and unknown identifiers are
        // skipped.
        let decode = |tokens: &[TokenId]| unpanicked(|| self.inner.decode(tokens, false));
        let text = match self.bytes.as_ref().and_then(|it| it.repaired(tokens)) {
            Some(tokens) => decode(&tokens),
            None => decode(tokens),
        };
        text.unwrap_or_default()
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

/// Advice for a directory that holds a tokenizer in another form only, after `; `.
fn missing_advice(dir: &Path) -> String {
    let others =
        ["tokenizer.model", "vocab.json", "vocab.txt", "tekken.json", "tokenizer.tiktoken"];
    let is_missing = !dir.join("tokenizer.json").exists();
    match others.iter().find(|it| is_missing && dir.join(it).exists()) {
        None => String::new(),
        Some(other) => format!(
            "; {other} alone does not load: convert it with transformers \
             (`AutoTokenizer.from_pretrained(DIR).save_pretrained(OUT)`)"
        ),
    }
}

/// Result of a call into the tokenizers crate, whose parts panic on some broken files.
fn unpanicked<T>(call: impl FnOnce() -> tokenizers::Result<T>) -> Result<T, String> {
    match catch_unwind(AssertUnwindSafe(call)) {
        Ok(result) => result.map_err(|it| it.to_string()),
        Err(panic) => {
            let message = panic.downcast_ref::<&str>().map(|it| (*it).to_owned());
            let message = message.or_else(|| panic.downcast_ref::<String>().cloned());
            Err(format!("the tokenizer is broken: {}", message.unwrap_or_default()))
        }
    }
}
