//! Models that reply to prompts, in this process or on servers.

use std::fmt::Debug;
use std::sync::Arc;

use rand::RngExt;
use zs_core::{Domain, StreamKey};
use zs_model::{Generator, SamplingParams, TextLimit, TokenId};
use zs_search::Ledger;
use zs_search::http::HttpError;

use crate::remote::{RemoteConfig, RemoteModel};

/// Reasons that a prompt has no reply.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReplyError {
    /// The model cannot reply to this prompt.
    #[error("{message}")]
    Prompt {
        /// Cause.
        message: String,
    },
    /// The model replies to none.
    #[error("the model gave no reply: {message}")]
    Model {
        /// Cause.
        message: String,
    },
}

/// Language model that replies to prompts.
pub trait ReplyModel: Debug + Send + Sync {
    /// One reply per prompt, in order. Each is a function of prompt and key, as far as the model is one.
    fn replies(&self, prompts: &[(String, StreamKey)]) -> Vec<Result<String, ReplyError>>;
}

/// Model in this process.
#[derive(Debug)]
pub struct LocalReplies {
    generator: Arc<dyn Generator>,
    limit: TextLimit,
    params: SamplingParams,
}

impl LocalReplies {
    /// Creates a model that samples with these parameters.
    #[must_use]
    pub fn new(generator: Arc<dyn Generator>, params: SamplingParams) -> Self {
        let limit = TextLimit::new(generator.tokenizer(), generator.context_length());
        Self { generator, limit, params }
    }

    fn encode(&self, prompt: &str) -> Result<Vec<TokenId>, ReplyError> {
        let failed = |message: String| ReplyError::Prompt { message };
        self.limit.check(prompt).map_err(|it| failed(it.to_string()))?;
        let tokens = self.generator.tokenizer().encode_prompt(prompt);
        let tokens = tokens.map_err(|it| failed(it.to_string()))?;
        let (num_tokens, context_length) = (tokens.len(), self.generator.context_length());
        match num_tokens < context_length {
            true => Ok(tokens),
            false => Err(failed(format!(
                "the prompt has {num_tokens} tokens, the model's context {context_length}"
            ))),
        }
    }
}

impl ReplyModel for LocalReplies {
    fn replies(&self, prompts: &[(String, StreamKey)]) -> Vec<Result<String, ReplyError>> {
        let encoded: Vec<Result<(Vec<TokenId>, StreamKey), ReplyError>> =
            prompts.iter().map(|(prompt, key)| Ok((self.encode(prompt)?, *key))).collect();
        let usable: Vec<(Vec<TokenId>, StreamKey)> = encoded.iter().flatten().cloned().collect();
        let completions = match usable.is_empty() {
            true => Ok(Vec::new()),
            false => self.generator.generate(&usable, &self.params),
        };
        let completions = completions.map_err(|it| ReplyError::Model { message: it.to_string() });
        let mut completions = completions.map(Vec::into_iter);
        let reply = |prompt: Result<(Vec<TokenId>, StreamKey), ReplyError>| {
            let (prompt, _) = prompt?;
            let completion = completions.as_mut().map_err(|it| it.clone())?.next();
            let tokens = completion.map(|it| it.tokens).unwrap_or_default();
            Ok(self.generator.tokenizer().decode_reply(&prompt, &tokens))
        };
        encoded.into_iter().map(reply).collect()
    }
}

/// Model on servers.
#[derive(Debug)]
pub struct ServerReplies(RemoteModel);

impl ServerReplies {
    /// Creates a model over the servers of a configuration; nothing is sent yet.
    ///
    /// # Errors
    ///
    /// Fails when an address cannot be used, or the named environment variable holds no key.
    pub fn new(config: RemoteConfig) -> Result<Self, HttpError> {
        Ok(Self(RemoteModel::new("questions", config, Arc::new(Ledger::default()))?))
    }
}

impl ReplyModel for ServerReplies {
    fn replies(&self, prompts: &[(String, StreamKey)]) -> Vec<Result<String, ReplyError>> {
        self.0.client().for_each(prompts, |(prompt, key)| {
            let seed = key.rng(Domain::Sampling).random();
            match self.0.reply(prompt, seed) {
                Ok(reply) => Ok(reply.text),
                // What servers say of a prompt that is too long, or that they do not take.
                Err(error @ HttpError::Status { status: 400 | 413 | 422, .. }) => {
                    Err(ReplyError::Prompt { message: error.to_string() })
                }
                Err(error) => Err(ReplyError::Model { message: error.to_string() }),
            }
        })
    }
}
