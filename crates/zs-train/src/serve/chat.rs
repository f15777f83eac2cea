//! `POST /v1/chat/completions`.

use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use serde::Deserialize;
use serde_json::{Value, json};
use zs_model::{Completion, Tokenizer};

use super::app::{App, Place, read_json};
use super::error::ApiError;
use super::generation::{
    SamplingInput, check_prompt, collect, finish_reason, now, usage, visible_text,
};
use super::prompt::{RequestMessage, encode};
use super::stream::{Stream, sse};

#[derive(Debug, Deserialize)]
pub(super) struct ChatRequest {
    messages: Vec<RequestMessage>,
    #[serde(default)]
    logprobs: bool,
    #[serde(flatten)]
    sampling: SamplingInput,
}

pub(super) async fn chat_completions(
    State(app): State<App>,
    Extension(place): Extension<Place>,
    body: Body,
) -> Result<Response, ApiError> {
    let request: ChatRequest = read_json(&app.config, body).await?;
    let Some(sampler) = &app.sampler else {
        return Err(ApiError::NotFound("this server has no model".to_owned()));
    };
    let sampling = request.sampling.check(&app, sampler)?;
    if request.logprobs && request.sampling.stream {
        return Err(ApiError::field("logprobs", "`logprobs` cannot be streamed here"));
    }
    let prompt = encode(&request.messages, sampler.tokenizer())?;
    check_prompt(&prompt, sampler)?;
    let prompt_tokens = prompt.len();
    let prompts = sampling.prompts(vec![prompt]);
    let num_sequences = prompts.len();
    let (id, created) = (app.next_id("chatcmpl"), now());
    let model = sampler.name().to_owned();
    let stop = sampling.params.stop.clone();
    let events = sampler.sample(prompts, sampling.params, request.sampling.stream);
    if request.sampling.stream {
        let chunk = move |choices: Value| {
            json!({
                "id": id,
                "object": "chat.completion.chunk",
                "created": created,
                "model": model,
                "choices": choices,
            })
        };
        let role = |index: usize| {
            let delta = json!({ "role": "assistant", "content": "" });
            json!([{ "index": index, "delta": delta, "finish_reason": null }])
        };
        let text = |index: usize, text: &str| {
            let delta = json!({ "content": text });
            json!([{ "index": index, "delta": delta, "finish_reason": null }])
        };
        let end = |index: usize, reason: &str| json!([{ "index": index, "delta": {}, "finish_reason": reason }]);
        return Ok(sse(Stream {
            events,
            generator: sampler.generator(),
            stop,
            num_sequences,
            prompt_tokens,
            include_usage: sampling.include_usage,
            chunk: Box::new(chunk),
            first: Some(role),
            text,
            end,
            place,
        })
        .into_response());
    }
    let completions = collect(events).await?;
    let tokenizer = sampler.tokenizer();
    let choice = |(index, it): (usize, &Completion)| {
        json!({
            "index": index,
            "message": {
                "role": "assistant",
                "content": visible_text(it, tokenizer, &stop),
                "refusal": null,
            },
            "logprobs": request.logprobs.then(|| log_probs(it, tokenizer)),
            "finish_reason": finish_reason(it),
        })
    };
    let choices: Vec<Value> = completions.iter().enumerate().map(choice).collect();
    Ok(Json(json!({
        "id": id,
        "object": "chat.completion",
        "created": created,
        "model": model,
        "choices": choices,
        "usage": usage(prompt_tokens, &completions),
    }))
    .into_response())
}

/// Log-probabilities of the sampled tokens under the full distribution at temperature 1.
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
