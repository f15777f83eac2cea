//! Chat completions: messages in, a message out.

use serde::Deserialize;
use serde_json::{Value, json};
use zs_model::{Completion, TokenId, Tokenizer};

use super::messages::{RequestMessage, encode};
use super::sampling::SamplingInput;
use super::{ChoicePart, CompletionRequest};
use crate::api_error::ApiError;

/// Request of `/v1/chat/completions`.
#[derive(Debug, Deserialize)]
pub(crate) struct ChatRequest {
    messages: Vec<RequestMessage>,
    #[serde(default)]
    logprobs: bool,
    #[serde(flatten)]
    sampling: SamplingInput,
}

impl CompletionRequest for ChatRequest {
    const ID_PREFIX: &'static str = "chatcmpl";
    const OBJECT: &'static str = "chat.completion";
    const CHUNK_OBJECT: &'static str = "chat.completion.chunk";

    fn sampling(&self) -> &SamplingInput {
        &self.sampling
    }

    fn wants_log_probs(&self) -> Result<bool, ApiError> {
        Ok(self.logprobs)
    }

    fn encode(&self, tokenizer: &Tokenizer) -> Result<Vec<Vec<TokenId>>, ApiError> {
        Ok(vec![encode(&self.messages, tokenizer)?])
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
