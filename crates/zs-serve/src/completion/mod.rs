//! `POST /v1/chat/completions` and `POST /v1/completions`, one path for both routes; and
//! `POST /inference/v1/generate`, which knows only tokens.
//!
//! ```text
//! body -> request -> sampling parameters, prompts -> sampler -> stream of chunks | one response
//! ```

mod chat;
mod generate;
mod messages;
mod prompt_scores;
mod sampling;
mod stream;
mod text;

use axum::Extension;
use axum::body::Body;
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::sync::mpsc::UnboundedReceiver;
use zs_model::{Completion, StopReason, TextLimit, TokenId, Tokenizer};

use crate::api_error::ApiError;
use crate::app::{App, InFlight};
use crate::connection::Client;
use crate::json::{Keys, read_known, read_object};
use crate::sample_worker::{SampleEvent, Sampler};

use sampling::{Sampling, SamplingInput};
use stream::Stream;

pub(crate) use chat::ChatRequest;
pub(crate) use generate::generate;
pub(crate) use text::TextRequest;

/// The request of one route, and the form of its response.
pub(crate) trait CompletionRequest: DeserializeOwned + Send + 'static {
    /// Keys of the request besides those of [`sampling`].
    const KEYS: &'static [&'static str];
    /// Prefix of response identifiers.
    const ID_PREFIX: &'static str;
    /// The key `object` of a response.
    const OBJECT: &'static str;
    /// The key `object` of a streamed chunk.
    const CHUNK_OBJECT: &'static str;

    /// Returns true when the request asks for log-probabilities.
    fn wants_log_probs(&self) -> Result<bool, ApiError>;

    /// Returns true when the request asks for the log-probabilities of its prompts.
    fn wants_prompt_log_probs(&self) -> Result<bool, ApiError> {
        Ok(false)
    }

    /// Returns the number of prompts.
    fn num_prompts(&self) -> usize;

    /// Encodes the prompts whose texts pass the limit.
    fn encode(
        self,
        tokenizer: &Tokenizer,
        limit: &TextLimit,
    ) -> Result<Vec<Vec<TokenId>>, ApiError>;

    /// Renders a completion as a choice without its index, log-probabilities and finish reason.
    fn message(text: String) -> (&'static str, Value);

    /// Renders the log-probabilities of a completion, of the full distribution at temperature 1.
    fn log_probs(completion: &Completion, tokenizer: &Tokenizer) -> Value;

    /// Renders a part of a streamed choice, or `None` when the route sends nothing for it.
    fn chunk_choice(index: usize, part: ChoicePart<'_>) -> Option<Value>;
}

/// A part of a streamed choice.
#[derive(Clone, Copy, Debug)]
pub(crate) enum ChoicePart<'a> {
    /// The start, before any text.
    Start,
    /// More text.
    Text(&'a str),
    /// The end, with its finish reason.
    End(&'static str),
}

/// A request that was read and checked.
struct Checked {
    sampling: Sampling,
    wants_log_probs: bool,
    wants_prompt_log_probs: bool,
    prompts: Vec<Vec<TokenId>>,
}

/// Answers a completion request, streamed or in one response.
pub(crate) async fn complete<R: CompletionRequest>(
    State(app): State<App>,
    Extension(in_flight): Extension<InFlight>,
    Extension(client): Extension<Client>,
    body: Body,
) -> Result<Response, ApiError> {
    let deadline = tokio::time::Instant::now() + app.config.request_timeout;
    let body = app.bodies.read(&app.config, body).await?;
    let checking = {
        let app = app.clone();
        move |body: &[u8]| check::<R>(&app, body)
    };
    let (Checked { sampling, wants_log_probs, wants_prompt_log_probs, prompts }, share) =
        app.texts.read(body, checking).await?;
    let sampler = sampler(&app)?;
    let in_use = sampler.weights().enter()?;
    let prompt_tokens = prompts.iter().map(Vec::len).sum();
    let prompts = sampling.prompts(prompts);
    let num_sequences = prompts.len();
    let sequences = app.admit_sequences(num_sequences)?;
    let prompt_scores = match wants_prompt_log_probs {
        true => Some(prompt_scores::score(&app, sampler, &prompts).await?),
        false => None,
    };
    let stop = sampling.params.stop.clone();
    let most_tokens = num_sequences * sampling.params.max_new_tokens;
    let events = sampler.sample(prompts, sampling.params, sampling.is_streamed);
    let mut response = json!({
        "id": app.next_id(R::ID_PREFIX),
        "object": if sampling.is_streamed { R::CHUNK_OBJECT } else { R::OBJECT },
        "created": unix_seconds(),
        "model": sampler.name(),
        "choices": [],
    });
    if sampling.is_streamed {
        let stream = Stream {
            events,
            generator: sampler.generator(),
            stop,
            num_sequences,
            prompt_tokens,
            include_usage: sampling.include_usage,
            chunk: response,
            held: (in_flight, in_use, sequences, share),
        };
        return Ok(stream::sse::<R>(stream, client, deadline).into_response());
    }
    // Leaving drops the events, which ends the sampling.
    let completions = tokio::select! {
        completions = collect(events, num_sequences) => completions?,
        () = client.left() => return Err(ApiError::ClientLeft),
    };
    drop(in_use);
    let generator = sampler.generator();
    let rendering = move || {
        let tokenizer = generator.tokenizer();
        let choice = |(index, it): (usize, &Completion)| {
            let (key, message) = R::message(visible_text(it, tokenizer, &stop));
            let mut choice = json!({
                "index": index,
                key: message,
                "logprobs": wants_log_probs.then(|| R::log_probs(it, tokenizer)),
                "finish_reason": finish_reason(it),
            });
            if let Some(scores) = &prompt_scores {
                choice["prompt_logprobs"] = scores[index].render(tokenizer);
            }
            choice
        };
        response["choices"] = completions.iter().enumerate().map(choice).collect();
        response["usage"] = usage(prompt_tokens, completions.iter().map(|it| it.tokens.len()));
        Ok(response.to_string())
    };
    let text = app.texts.run(most_tokens, rendering).await?;
    Ok(([(header::CONTENT_TYPE, "application/json")], text).into_response())
}

/// Returns the model's worker.
fn sampler(app: &App) -> Result<&Sampler, ApiError> {
    app.sampler.as_ref().ok_or_else(ApiError::no_model)
}

/// Reads a request, encodes its prompts and checks both.
fn check<R: CompletionRequest>(app: &App, body: &[u8]) -> Result<Checked, ApiError> {
    let keys = Keys {
        read: R::KEYS,
        also_read: sampling::KEYS,
        ignored: sampling::IGNORED,
        neutral: sampling::NEUTRAL,
    };
    let sampler = sampler(app)?;
    let request: R = read_object(body, keys, "")?;
    let input: SamplingInput = read_known(body, "")?;
    let sampling = input.check(app, sampler)?;
    let wants_log_probs = request.wants_log_probs()?;
    let wants_prompt_log_probs = request.wants_prompt_log_probs()?;
    if (wants_log_probs || wants_prompt_log_probs) && sampling.is_streamed {
        return Err(ApiError::field("logprobs", "`logprobs` is not supported with `stream`"));
    }
    sampling.check_sequences(request.num_prompts(), app)?;
    let prompts = request.encode(sampler.tokenizer(), sampler.limit())?;
    prompts.iter().try_for_each(|it| check_prompt(it, sampler))?;
    sampling.check_size(&prompts, app, sampler)?;
    Ok(Checked { sampling, wants_log_probs, wants_prompt_log_probs, prompts })
}

/// Rejects prompts that leave no room for a token, or hold tokens outside of the vocabulary.
fn check_prompt(prompt: &[TokenId], sampler: &Sampler) -> Result<(), ApiError> {
    let (len, most) = (prompt.len(), sampler.context_length());
    if len == 0 {
        return Err(ApiError::field("prompt", "the prompt is empty"));
    }
    if len >= most {
        let message =
            format!("the prompt has {len} tokens; the context of this model holds {most}");
        return Err(ApiError::field("prompt", message));
    }
    if let Some(token) = prompt.iter().find(|it| **it as usize >= sampler.vocab_size()) {
        let message = format!("token {token} of the prompt is outside of the model's vocabulary");
        return Err(ApiError::field("prompt", message));
    }
    Ok(())
}

/// Waits for all completions of a request.
async fn collect(
    mut events: UnboundedReceiver<SampleEvent>,
    num_sequences: usize,
) -> Result<Vec<Completion>, ApiError> {
    let mut done: Vec<Option<Completion>> = vec![None; num_sequences];
    while let Some(event) = events.recv().await {
        match event {
            SampleEvent::Token { .. } => {}
            SampleEvent::Done { first, completions } => {
                for (slot, completion) in done[first..].iter_mut().zip(completions) {
                    *slot = Some(completion);
                }
            }
            SampleEvent::Failed(error) => return Err(error),
        }
    }
    let done: Option<Vec<Completion>> = done.into_iter().collect();
    done.ok_or_else(|| ApiError::Upstream(NO_RESULT.to_owned()))
}

/// The error of sampling that ended without a result.
const NO_RESULT: &str = "the sampling thread has ended; see the log of the server";

/// Returns the text of a completion up to its first stop text.
fn visible_text(completion: &Completion, tokenizer: &Tokenizer, stop: &[String]) -> String {
    let mut text = tokenizer.decode(&completion.tokens);
    if let Some(at) = first_stop(&text, stop) {
        text.truncate(at);
    }
    text
}

/// Returns the position of the first stop text.
fn first_stop(text: &str, stop: &[String]) -> Option<usize> {
    stop.iter().filter_map(|it| text.find(it.as_str())).min()
}

/// Returns the finish reason of the protocol.
fn finish_reason(completion: &Completion) -> &'static str {
    match completion.stop_reason {
        StopReason::Stop | StopReason::EndOfSequence => "stop",
        StopReason::Length => "length",
    }
}

/// Counts prompt tokens and sampled tokens.
fn usage(prompt_tokens: usize, completion_lengths: impl Iterator<Item = usize>) -> Value {
    let completion_tokens: usize = completion_lengths.sum();
    json!({
        "prompt_tokens": prompt_tokens,
        "completion_tokens": completion_tokens,
        "total_tokens": prompt_tokens + completion_tokens,
    })
}

/// Returns the seconds since 1970.
fn unix_seconds() -> u64 {
    std::time::SystemTime::UNIX_EPOCH.elapsed().map_or(0, |it| it.as_secs())
}
