//! `POST /inference/v1/generate`: tokens in, tokens and their log-probabilities out, in the form of
//! vLLM's. Nothing is decoded, and no stop text is cut off.

use axum::Extension;
use axum::body::Body;
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use zs_core::StreamKey;
use zs_model::{Completion, SamplingParams, StopReason, TokenId};

use super::sampling::{DEFAULT_MAX_TOKENS, Sampling, Stop, check_model, check_num_tokens};
use super::{check_prompt, collect, finish_reason, sampler};
use crate::api_error::ApiError;
use crate::app::App;
use crate::connection::Client;
use crate::json::{Keys, read_object, whole};

/// Keys of a request.
const KEYS: Keys = Keys {
    read: &["model", "token_ids", "sampling_params"],
    also_read: &[],
    // No cache outlives a request, so a salt changes nothing.
    ignored: &["request_id", "priority", "cache_salt"],
    neutral: &[("stream", "false")],
};

/// Keys of `sampling_params`.
const PARAM_KEYS: Keys = Keys {
    read: &[
        "max_tokens",
        "temperature",
        "top_p",
        "top_k",
        "min_p",
        "repetition_penalty",
        "stop",
        "seed",
        "key",
    ],
    also_read: &[],
    // Log-probabilities are always there, and a stop text always stays.
    ignored: &["logprobs"],
    neutral: &[
        ("n", "1"),
        ("presence_penalty", "0"),
        ("frequency_penalty", "0"),
        ("stop_token_ids", "[]"),
        ("include_stop_str_in_output", "true"),
        ("ignore_eos", "false"),
        ("skip_special_tokens", "false"),
        ("min_tokens", "0"),
    ],
};

/// Request for a completion of one sequence.
#[derive(Debug, Deserialize)]
struct GenerateRequest {
    model: Option<String>,
    token_ids: Vec<TokenId>,
    sampling_params: Option<Box<RawValue>>,
}

#[derive(Debug, Default, Deserialize)]
struct GenerateParams {
    #[serde(default, deserialize_with = "whole")]
    max_tokens: Option<usize>,
    temperature: Option<f32>,
    top_p: Option<f32>,
    top_k: Option<i64>,
    min_p: Option<f32>,
    repetition_penalty: Option<f32>,
    stop: Option<Stop>,
    #[serde(default, deserialize_with = "whole")]
    seed: Option<u64>,
    key: Option<KeyInput>,
}

/// Key of the sequence's random numbers, of which `seed` alone is a part.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct KeyInput {
    seed: u64,
    step: u64,
    group: u32,
    sample: u32,
    turn: u32,
}

/// Answers a request for tokens.
pub(crate) async fn generate(
    State(app): State<App>,
    Extension(client): Extension<Client>,
    body: Body,
) -> Result<Response, ApiError> {
    let body = app.bodies.read(&app.config, body).await?;
    let checking = {
        let app = app.clone();
        move |body: &[u8]| check(&app, body)
    };
    let ((sampling, prompt), _share) = app.texts.read(body, checking).await?;
    let sampler = sampler(&app)?;
    let in_use = sampler.weights().enter()?;
    let _sequences = app.admit_sequences(1)?;
    let prompt_tokens = prompt.len();
    let version = sampler.weights().version();
    let events = sampler.sample(vec![(prompt, sampling.key)], sampling.params, false);
    let completions = tokio::select! {
        completions = collect(events, 1) => completions?,
        () = client.left() => return Err(ApiError::ClientLeft),
    };
    drop(in_use);
    let choices: Vec<Value> = completions.iter().map(|it| choice(it, &version)).collect();
    let sampled: usize = completions.iter().map(|it| it.tokens.len()).sum();
    let response = json!({
        "request_id": app.next_id("gen"),
        "choices": choices,
        "usage": super::usage(prompt_tokens, std::iter::once(sampled)),
    });
    let text = app.texts.run(sampled, move || Ok(response.to_string())).await?;
    Ok(([(header::CONTENT_TYPE, "application/json")], text).into_response())
}

fn choice(completion: &Completion, version: &str) -> Value {
    let sampling = completion.sampling_log_probs.as_ref().unwrap_or(&completion.log_probs);
    let numbers = completion.tokens.iter().zip(completion.log_probs.iter().zip(sampling));
    let content: Vec<Value> = numbers
        .map(|(token, (log_prob, sampling))| {
            json!({ "token_id": token, "logprob": log_prob, "sampling_logprob": sampling })
        })
        .collect();
    let end = completion.tokens.len();
    json!({
        "index": 0,
        "token_ids": completion.tokens,
        "finish_reason": finish_reason(completion),
        "stop_reason": match completion.stop_reason {
            StopReason::EndOfSequence => completion.tokens.last().copied(),
            StopReason::Stop | StopReason::Length => None,
        },
        "logprobs": { "content": content },
        "weight_versions": [{ "version": version, "start": 0, "end": end }],
    })
}

/// Reads a request and checks everything that the other routes check.
fn check(app: &App, body: &[u8]) -> Result<(Sampling, Vec<TokenId>), ApiError> {
    let sampler = sampler(app)?;
    let request: GenerateRequest = read_object(body, KEYS, "")?;
    check_model(request.model.as_deref(), sampler)?;
    let params: GenerateParams = match &request.sampling_params {
        None => GenerateParams::default(),
        Some(text) => read_object(text.get().as_bytes(), PARAM_KEYS, "`sampling_params`: ")?,
    };
    let defaults = SamplingParams::default();
    let max_new_tokens = params.max_tokens.unwrap_or(DEFAULT_MAX_TOKENS);
    check_num_tokens(max_new_tokens, app)?;
    // -1 means all tokens, as 0 does.
    let top_k = usize::try_from(params.top_k.unwrap_or(0).max(0)).unwrap_or(usize::MAX);
    let sampling_params = SamplingParams {
        temperature: params.temperature.unwrap_or(defaults.temperature),
        top_p: params.top_p.unwrap_or(defaults.top_p),
        top_k,
        min_p: params.min_p.unwrap_or(defaults.min_p),
        repetition_penalty: params.repetition_penalty.unwrap_or(defaults.repetition_penalty),
        max_new_tokens,
        stop: params.stop.map_or_else(|| Ok(Vec::new()), Stop::check)?,
    };
    let invalid =
        |error: zs_model::GenerateError| ApiError::field("sampling_params", error.to_string());
    sampling_params.check().map_err(invalid)?;
    let key = match (params.key, params.seed) {
        (Some(KeyInput { seed, step, group, sample, turn }), _) => {
            StreamKey { seed, step, group, sample, turn }
        }
        (None, Some(seed)) => StreamKey::new(seed),
        (None, None) => StreamKey::new(app.next_seed()),
    };
    check_prompt(&request.token_ids, sampler)?;
    let sampling = Sampling {
        params: sampling_params,
        num_choices: 1,
        key,
        is_streamed: false,
        include_usage: false,
    };
    sampling.check_size(std::slice::from_ref(&request.token_ids), app, sampler)?;
    Ok((sampling, request.token_ids))
}
