//! `POST /v1/completions`: text or tokens in, text out.

use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use serde::Deserialize;
use serde_json::{Value, json};
use zs_model::{Completion, TokenId, Tokenizer};

use super::app::{App, Place, read_json};
use super::error::ApiError;
use super::generation::{
    SamplingInput, check_prompt, collect, finish_reason, now, usage, visible_text,
};
use super::stream::{Stream, sse};
use super::worker::Sampler;

/// Prompts of one request.
const MAX_PROMPTS: usize = 256;

#[derive(Debug, Deserialize)]
pub(super) struct CompletionRequest {
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

pub(super) async fn completions(
    State(app): State<App>,
    Extension(place): Extension<Place>,
    body: Body,
) -> Result<Response, ApiError> {
    let request: CompletionRequest = read_json(&app.config, body).await?;
    let Some(sampler) = &app.sampler else {
        return Err(ApiError::NotFound("this server has no model".to_owned()));
    };
    let sampling = request.sampling.check(&app, sampler)?;
    match request.logprobs {
        Some(2..) => {
            return Err(ApiError::field("logprobs", "`logprobs` must be at most 1"));
        }
        Some(_) if request.sampling.stream => {
            return Err(ApiError::field("logprobs", "`logprobs` cannot be streamed here"));
        }
        _ => {}
    }
    let prompts = encode(request.prompt, sampler)?;
    let prompt_tokens = prompts.iter().map(Vec::len).sum();
    let prompts = sampling.prompts(prompts);
    let num_sequences = prompts.len();
    let (id, created) = (app.next_id("cmpl"), now());
    let model = sampler.name().to_owned();
    let stop = sampling.params.stop.clone();
    let events = sampler.sample(prompts, sampling.params, request.sampling.stream);
    if request.sampling.stream {
        let chunk = move |choices: Value| {
            json!({
                "id": id,
                "object": "text_completion",
                "created": created,
                "model": model,
                "choices": choices,
            })
        };
        let choice = |index: usize, text: &str, reason: Option<&str>| json!([{ "index": index, "text": text, "logprobs": null, "finish_reason": reason }]);
        return Ok(sse(Stream {
            events,
            generator: sampler.generator(),
            stop,
            num_sequences,
            prompt_tokens,
            include_usage: sampling.include_usage,
            chunk: Box::new(chunk),
            first: None,
            text: move |index: usize, text: &str| choice(index, text, None),
            end: move |index: usize, reason: &str| choice(index, "", Some(reason)),
            place,
        })
        .into_response());
    }
    let completions = collect(events).await?;
    let tokenizer = sampler.tokenizer();
    let choice = |(index, it): (usize, &Completion)| {
        json!({
            "index": index,
            "text": visible_text(it, tokenizer, &stop),
            "logprobs": request.logprobs.map(|_| log_probs(it, tokenizer)),
            "finish_reason": finish_reason(it),
        })
    };
    let choices: Vec<Value> = completions.iter().enumerate().map(choice).collect();
    Ok(Json(json!({
        "id": id,
        "object": "text_completion",
        "created": created,
        "model": model,
        "choices": choices,
        "usage": usage(prompt_tokens, &completions),
    }))
    .into_response())
}

fn encode(input: PromptInput, sampler: &Sampler) -> Result<Vec<Vec<TokenId>>, ApiError> {
    let prompts = match input {
        PromptInput::Text(text) => encode_texts(&[text], sampler)?,
        PromptInput::Texts(texts) => encode_texts(&texts, sampler)?,
        PromptInput::Tokens(tokens) => vec![tokens],
        PromptInput::TokenLists(lists) => lists,
    };
    if !(1..=MAX_PROMPTS).contains(&prompts.len()) {
        let message = format!("give between 1 and {MAX_PROMPTS} prompts, not {}", prompts.len());
        return Err(ApiError::field("prompt", message));
    }
    prompts.iter().try_for_each(|it| check_prompt(it, sampler))?;
    Ok(prompts)
}

fn encode_texts(texts: &[String], sampler: &Sampler) -> Result<Vec<Vec<TokenId>>, ApiError> {
    let encode = |it: &String| sampler.tokenizer().encode_start(it);
    let tokens: Result<_, _> = texts.iter().map(encode).collect();
    tokens.map_err(|it| ApiError::field("prompt", it.to_string()))
}

/// Log-probabilities of the sampled tokens under the full distribution at temperature 1.
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
