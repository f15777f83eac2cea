//! What chat and text completions have in common: how to sample, and when to stop.

use serde::Deserialize;
use serde_json::{Map, Value, json};
use zs_core::StreamKey;
use zs_model::{Completion, SamplingParams, StopReason, TokenId, Tokenizer};

use super::app::App;
use super::error::ApiError;
use super::worker::{SampleEvent, Sampler};

/// Tokens of a completion where the request does not say.
const DEFAULT_MAX_TOKENS: usize = 256;

/// Stop texts of one request.
const MAX_STOPS: usize = 16;

/// Bytes of one stop text.
const MAX_STOP_BYTES: usize = 256;

/// The sampling part of a request.
#[derive(Debug, Deserialize)]
pub(super) struct SamplingInput {
    model: Option<String>,
    max_tokens: Option<usize>,
    max_completion_tokens: Option<usize>,
    temperature: Option<f32>,
    top_p: Option<f32>,
    stop: Option<Stop>,
    n: Option<usize>,
    seed: Option<u64>,
    /// Whether tokens are sent as they are sampled.
    #[serde(default)]
    pub(super) stream: bool,
    stream_options: Option<StreamOptions>,
    /// Everything else, to refuse what would change the answer and is not supported.
    #[serde(flatten)]
    rest: Map<String, Value>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Stop {
    One(String),
    Many(Vec<String>),
}

#[derive(Debug, Deserialize)]
struct StreamOptions {
    #[serde(default)]
    include_usage: bool,
}

/// Keys that would change the answer if they were honoured, with the value that changes nothing.
const UNSUPPORTED: [(&str, &str); 14] = [
    ("presence_penalty", "0"),
    ("frequency_penalty", "0"),
    ("repetition_penalty", "1"),
    ("logit_bias", "{}"),
    ("tools", "[]"),
    ("functions", "[]"),
    ("response_format", r#"{"type":"text"}"#),
    ("suffix", "\"\""),
    ("echo", "false"),
    ("best_of", "1"),
    ("top_k", "-1"),
    ("min_p", "0"),
    ("top_logprobs", "0"),
    ("audio", "null"),
];

/// How a request samples, checked.
#[derive(Debug)]
pub(super) struct Sampling {
    pub(super) params: SamplingParams,
    /// Completions a prompt.
    pub(super) num_choices: usize,
    pub(super) key: StreamKey,
    pub(super) include_usage: bool,
}

impl SamplingInput {
    /// Fills in what is left open and refuses what makes no sense.
    pub(super) fn check(&self, app: &App, sampler: &Sampler) -> Result<Sampling, ApiError> {
        if let Some(name) = &self.model {
            // The reference client of ZeroSearch sends an empty name.
            if !name.is_empty() && name != "default" && name != sampler.name() {
                let served = sampler.name();
                return Err(ApiError::NotFound(format!(
                    "there is no model `{name}` here; this server has `{served}`"
                )));
            }
        }
        self.check_rest()?;
        let temperature = self.temperature.unwrap_or(1.0);
        if !(0.0..=10.0).contains(&temperature) {
            return Err(ApiError::field("temperature", "`temperature` must be in [0, 10]"));
        }
        let top_p = self.top_p.unwrap_or(1.0);
        if !(top_p > 0.0 && top_p <= 1.0) {
            return Err(ApiError::field("top_p", "`top_p` must be in (0, 1]"));
        }
        let max_new_tokens =
            self.max_completion_tokens.or(self.max_tokens).unwrap_or(DEFAULT_MAX_TOKENS);
        if max_new_tokens == 0 {
            return Err(ApiError::field("max_tokens", "`max_tokens` must be at least 1"));
        }
        let (num_choices, most) = (self.n.unwrap_or(1), app.config.max_choices);
        if !(1..=most).contains(&num_choices) {
            return Err(ApiError::field("n", format!("`n` must be between 1 and {most}")));
        }
        let stop = match &self.stop {
            None => Vec::new(),
            Some(Stop::One(text)) => vec![text.clone()],
            Some(Stop::Many(texts)) => texts.clone(),
        };
        let is_usable = |it: &String| (1..=MAX_STOP_BYTES).contains(&it.len());
        if stop.len() > MAX_STOPS || !stop.iter().all(is_usable) {
            return Err(ApiError::field(
                "stop",
                format!("give at most {MAX_STOPS} stops of 1 to {MAX_STOP_BYTES} bytes"),
            ));
        }
        Ok(Sampling {
            params: SamplingParams {
                temperature,
                top_p,
                max_new_tokens,
                stop,
                ..SamplingParams::default()
            },
            num_choices,
            key: StreamKey::new(self.seed.unwrap_or_else(|| app.next_seed())),
            include_usage: self.stream_options.as_ref().is_some_and(|it| it.include_usage),
        })
    }

    fn check_rest(&self) -> Result<(), ApiError> {
        for (key, neutral) in UNSUPPORTED {
            let Some(value) = self.rest.get(key) else { continue };
            let neutral: Value = serde_json::from_str(neutral).unwrap_or_default();
            let is_same_number = value.as_f64().is_some_and(|it| Some(it) == neutral.as_f64());
            if !(value.is_null() || is_same_number || *value == neutral) {
                let message = format!("`{key}` is not supported here; leave it out");
                return Err(ApiError::field(key, message));
            }
        }
        Ok(())
    }
}

impl Sampling {
    /// Each prompt as often as completions of it are wanted, each with its own key.
    pub(super) fn prompts(&self, prompts: Vec<Vec<TokenId>>) -> Vec<(Vec<TokenId>, StreamKey)> {
        let mut keyed = Vec::with_capacity(prompts.len() * self.num_choices);
        for (group, prompt) in prompts.into_iter().enumerate() {
            for sample in 0..self.num_choices as u32 {
                let key = StreamKey { group: group as u32, sample, ..self.key };
                keyed.push((prompt.clone(), key));
            }
        }
        keyed
    }
}

/// Refuses prompts that leave no room for a token, or hold tokens that the model has not.
pub(super) fn check_prompt(prompt: &[TokenId], sampler: &Sampler) -> Result<(), ApiError> {
    let (len, most) = (prompt.len(), sampler.context_length());
    if len == 0 {
        return Err(ApiError::field("prompt", "the prompt is empty"));
    }
    if len >= most {
        let message = format!("the prompt has {len} tokens; this model's context holds {most}");
        return Err(ApiError::field("prompt", message));
    }
    if let Some(token) = prompt.iter().find(|it| **it as usize >= sampler.vocab_size()) {
        let message = format!("token {token} of the prompt is not in the model's vocabulary");
        return Err(ApiError::field("prompt", message));
    }
    Ok(())
}

/// Waits for all completions of a request.
pub(super) async fn collect(
    mut events: tokio::sync::mpsc::UnboundedReceiver<SampleEvent>,
) -> Result<Vec<Completion>, ApiError> {
    while let Some(event) = events.recv().await {
        match event {
            SampleEvent::Token { .. } => {}
            SampleEvent::Done(completions) => return Ok(completions),
            SampleEvent::Failed(message) => return Err(ApiError::Upstream(message)),
        }
    }
    Err(ApiError::Upstream("the model broke down".to_owned()))
}

/// The text of a completion up to its first stop text.
pub(super) fn visible_text(
    completion: &Completion,
    tokenizer: &Tokenizer,
    stop: &[String],
) -> String {
    let mut text = tokenizer.decode(&completion.tokens);
    if let Some(at) = stop.iter().filter_map(|it| text.find(it.as_str())).min() {
        text.truncate(at);
    }
    text
}

/// Why a completion ended, in the words of the protocol.
pub(super) fn finish_reason(completion: &Completion) -> &'static str {
    match completion.stop_reason {
        StopReason::Stop | StopReason::EndOfSequence => "stop",
        StopReason::Length => "length",
    }
}

/// Tokens read and written.
pub(super) fn usage(prompt_tokens: usize, completions: &[Completion]) -> Value {
    let completion_tokens: usize = completions.iter().map(|it| it.tokens.len()).sum();
    json!({
        "prompt_tokens": prompt_tokens,
        "completion_tokens": completion_tokens,
        "total_tokens": prompt_tokens + completion_tokens,
    })
}

/// Seconds since 1970.
pub(super) fn now() -> u64 {
    std::time::SystemTime::UNIX_EPOCH.elapsed().map_or(0, |it| it.as_secs())
}
