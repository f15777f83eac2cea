//! Chat completions: messages in, a message out.

use serde::Deserialize;
use serde_json::{Value, json};
use zs_model::{Completion, TextLimit, TokenId, Tokenizer};

use super::messages::{RawMessages, encode, read_messages};
use super::{ChoicePart, CompletionRequest};
use crate::api_error::ApiError;

/// Keys of `/v1/chat/completions` that `/v1/completions` does not have or reads otherwise.
#[derive(Debug, Deserialize)]
pub(crate) struct ChatRequest {
    messages: Option<RawMessages>,
    logprobs: Option<bool>,
}

impl CompletionRequest for ChatRequest {
    const KEYS: &'static [&'static str] = &["messages", "logprobs"];
    const ID_PREFIX: &'static str = "chatcmpl";
    const OBJECT: &'static str = "chat.completion";
    const CHUNK_OBJECT: &'static str = "chat.completion.chunk";

    fn wants_log_probs(&self) -> Result<bool, ApiError> {
        Ok(self.logprobs.unwrap_or(false))
    }

    fn num_prompts(&self) -> usize {
        1
    }

    fn encode(
        self,
        tokenizer: &Tokenizer,
        limit: &TextLimit,
    ) -> Result<Vec<Vec<TokenId>>, ApiError> {
        let Some(messages) = self.messages else {
            return Err(ApiError::field("messages", "`messages` is missing"));
        };
        Ok(vec![encode(&read_messages(&messages)?, tokenizer, limit)?])
    }

    fn message(text: String) -> (&'static str, Value) {
        ("message", json!({ "role": "assistant", "content": text, "refusal": null }))
    }

    fn log_probs(completion: &Completion, tokenizer: &Tokenizer) -> Value {
        let sampled = completion.tokens.iter().zip(&completion.log_probs);
        let content: Vec<Value> = sampled
            .map(|(token, log_prob)| {
                let text = tokenizer.decode_with_special(&[*token]);
                json!({
                    "token": text,
                    "logprob": log_prob,
                    "bytes": text.as_bytes(),
                    "top_logprobs": [],
                })
            })
            .collect();
        json!({ "content": content, "refusal": null })
    }

    fn chunk_choice(index: usize, part: ChoicePart<'_>) -> Option<Value> {
        let (delta, reason) = match part {
            ChoicePart::Start => (json!({ "role": "assistant", "content": "" }), None),
            ChoicePart::Text(text) => (json!({ "content": text }), None),
            ChoicePart::End(reason) => (json!({}), Some(reason)),
        };
        Some(json!({ "index": index, "delta": delta, "finish_reason": reason }))
    }
}
