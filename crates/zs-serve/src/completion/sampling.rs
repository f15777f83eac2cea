//! Sampling parameters of a completion request.

use serde::Deserialize;
use serde_json::{Map, Value};
use zs_core::StreamKey;
use zs_model::{SamplingParams, TokenId};

use crate::api_error::ApiError;
use crate::app::App;
use crate::sample_worker::Sampler;

/// Maximum length of a completion when the request does not set one.
const DEFAULT_MAX_TOKENS: usize = 256;

/// Maximum number of stop texts in a request.
const MAX_STOPS: usize = 16;

/// Maximum size of a stop text, in bytes.
const MAX_STOP_BYTES: usize = 256;

/// The sampling part of a request.
#[derive(Debug, Deserialize)]
pub(crate) struct SamplingInput {
    model: Option<String>,
    max_tokens: Option<usize>,
    max_completion_tokens: Option<usize>,
    temperature: Option<f32>,
    top_p: Option<f32>,
    stop: Option<Stop>,
    n: Option<usize>,
    seed: Option<u64>,
    #[serde(default)]
    stream: bool,
    stream_options: Option<StreamOptions>,
    /// All other keys, of which unsupported ones are rejected.
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

/// Unsupported keys that would change the response, each with its neutral value.
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

/// Checked sampling parameters of a request.
#[derive(Debug)]
pub(crate) struct Sampling {
    pub(super) params: SamplingParams,
    /// Completions per prompt.
    pub(super) num_choices: usize,
    pub(super) key: StreamKey,
    /// True when tokens are sent as they are sampled.
    pub(super) is_streamed: bool,
    pub(super) include_usage: bool,
}

impl SamplingInput {
    /// Applies defaults and checks every value.
    pub(super) fn check(&self, app: &App, sampler: &Sampler) -> Result<Sampling, ApiError> {
        if let Some(name) = &self.model {
            // The reference client of ZeroSearch sends an empty name.
            if !name.is_empty() && name != "default" && name != sampler.name() {
                let served = sampler.name();
                return Err(ApiError::NotFound(format!(
                    "there is no model `{name}` here; use `{served}`"
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
                format!("send at most {MAX_STOPS} stops of 1 to {MAX_STOP_BYTES} bytes"),
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
            is_streamed: self.stream,
            include_usage: self.stream_options.as_ref().is_some_and(|it| it.include_usage),
        })
    }

    fn check_rest(&self) -> Result<(), ApiError> {
        for (key, neutral) in UNSUPPORTED {
            let Some(value) = self.rest.get(key) else { continue };
            let neutral: Value = serde_json::from_str(neutral).unwrap_or_default();
            let is_same_number = value.as_f64().is_some_and(|it| Some(it) == neutral.as_f64());
            if !(value.is_null() || is_same_number || *value == neutral) {
                let message = format!("`{key}` is not supported; remove it");
                return Err(ApiError::field(key, message));
            }
        }
        Ok(())
    }
}

impl Sampling {
    /// Repeats each prompt once per completion, each with its own key.
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
