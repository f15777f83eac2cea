//! Text completions: texts or tokens in, text out.

use serde::Deserialize;
use serde_json::{Value, json};
use zs_model::{Completion, TokenId, Tokenizer};

use super::sampling::SamplingInput;
use super::{ChoicePart, CompletionRequest};
use crate::api_error::ApiError;

/// Maximum number of prompts in a request.
const MAX_PROMPTS: usize = 256;

/// Request of `/v1/completions`.
#[derive(Debug, Deserialize)]
pub(crate) struct TextRequest {
    prompt: PromptInput,
    logprobs: Option<usize>,
    #[serde(flatten)]
    sampling: SamplingInput,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum PromptInput {
    Text(String),
    Tokens(Vec<TokenId>),
    Texts(Vec<String>),
    TokenLists(Vec<Vec<TokenId>>),
}

impl CompletionRequest for TextRequest {
    const ID_PREFIX: &'static str = "cmpl";
    const OBJECT: &'static str = "text_completion";
    const CHUNK_OBJECT: &'static str = "text_completion";

    fn sampling(&self) -> &SamplingInput {
        &self.sampling
    }

    fn wants_log_probs(&self) -> Result<bool, ApiError> {
        match self.logprobs {
            Some(2..) => Err(ApiError::field("logprobs", "`logprobs` must be at most 1")),
            other => Ok(other.is_some()),
        }
    }

    fn encode(&self, tokenizer: &Tokenizer) -> Result<Vec<Vec<TokenId>>, ApiError> {
        let encode = |texts: &[String]| {
            let tokens: Result<_, _> = texts.iter().map(|it| tokenizer.encode_start(it)).collect();
            tokens.map_err(|it| ApiError::field("prompt", it.to_string()))
        };
        let prompts = match &self.prompt {
            PromptInput::Text(text) => encode(std::slice::from_ref(text))?,
            PromptInput::Texts(texts) => encode(texts)?,
            PromptInput::Tokens(tokens) => vec![tokens.clone()],
            PromptInput::TokenLists(lists) => lists.clone(),
        };
        if !(1..=MAX_PROMPTS).contains(&prompts.len()) {
            let message =
                format!("send between 1 and {MAX_PROMPTS} prompts, not {}", prompts.len());
            return Err(ApiError::field("prompt", message));
        }
        Ok(prompts)
    }

    fn message(text: String) -> (&'static str, Value) {
        ("text", text.into())
    }

    fn log_probs(completion: &Completion, tokenizer: &Tokenizer) -> Value {
        let texts: Vec<String> =
            completion.tokens.iter().map(|it| tokenizer.decode_with_special(&[*it])).collect();
        let mut offset = 0;
        let offsets: Vec<usize> = texts
            .iter()
            .map(|it| {
                let start = offset;
                offset += it.chars().count();
                start
            })
            .collect();
        json!({
            "tokens": texts,
            "token_logprobs": completion.log_probs,
            "top_logprobs": null,
            "text_offset": offsets,
        })
    }

    fn chunk_choice(index: usize, part: ChoicePart<'_>) -> Option<Value> {
        let (text, reason) = match part {
            ChoicePart::Start => return None,
            ChoicePart::Text(text) => (text, None),
            ChoicePart::End(reason) => ("", Some(reason)),
        };
        Some(json!({ "index": index, "text": text, "logprobs": null, "finish_reason": reason }))
    }
}
