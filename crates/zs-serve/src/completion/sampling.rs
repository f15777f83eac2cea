//! Sampling parameters of a completion request.

use std::fmt;

use serde::de::value::SeqAccessDeserializer;
use serde::de::{Error, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;
use zs_core::StreamKey;
use zs_model::{SamplingParams, TokenId};

use crate::api_error::ApiError;
use crate::app::App;
use crate::json::{Capped, Keys, read_object, whole};
use crate::sample_worker::{Sampler, sequence_tokens};

/// Maximum length of a completion when the request does not set one.
pub(super) const DEFAULT_MAX_TOKENS: usize = 256;

/// Maximum number of stop texts in a request.
const MAX_STOPS: usize = 16;

/// Maximum size of a stop text, in bytes.
const MAX_STOP_BYTES: usize = 256;

/// Keys that both routes read.
pub(super) const KEYS: &[&str] = &[
    "model",
    "max_tokens",
    "max_completion_tokens",
    "temperature",
    "top_p",
    "stop",
    "n",
    "seed",
    "stream",
    "stream_options",
];

/// Keys that name, file or schedule a request, and do not change its response.
pub(super) const IGNORED: &[&str] = &[
    "user",
    "metadata",
    "store",
    "service_tier",
    "safety_identifier",
    "prompt_cache_key",
    "prompt_cache_retention",
    "request_id",
    "priority",
    "parallel_tool_calls",
];

/// Unsupported keys that would change the response, each with its neutral value. Keys that are not listed
/// are refused too, whatever their value but null.
pub(super) const NEUTRAL: &[(&str, &str)] = &[
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
    ("top_k", "0"),
    ("min_p", "0"),
    ("top_logprobs", "0"),
    ("function_call", "\"none\""),
    ("function_call", "\"auto\""),
    ("modalities", r#"["text"]"#),
    ("add_generation_prompt", "true"),
    ("continue_final_message", "false"),
    ("use_beam_search", "false"),
];

/// Keys of `stream_options`.
const STREAM_KEYS: Keys = Keys {
    read: &["include_usage"],
    also_read: &[],
    ignored: &["include_obfuscation"],
    neutral: &[("continuous_usage_stats", "false")],
};

/// The sampling part of a request.
#[derive(Debug, Default, Deserialize)]
pub(super) struct SamplingInput {
    model: Option<String>,
    #[serde(default, deserialize_with = "whole")]
    max_tokens: Option<usize>,
    #[serde(default, deserialize_with = "whole")]
    max_completion_tokens: Option<usize>,
    temperature: Option<f32>,
    top_p: Option<f32>,
    stop: Option<Stop>,
    #[serde(default, deserialize_with = "whole")]
    n: Option<usize>,
    #[serde(default, deserialize_with = "whole")]
    seed: Option<u64>,
    stream: Option<bool>,
    stream_options: Option<Box<RawValue>>,
}

/// Stop texts, sent as one text or as a list.
#[derive(Debug)]
pub(super) struct Stop(Vec<String>);

#[derive(Debug, Deserialize)]
struct StreamOptions {
    include_usage: Option<bool>,
}

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
    pub(super) fn check(self, app: &App, sampler: &Sampler) -> Result<Sampling, ApiError> {
        check_model(self.model.as_deref(), sampler)?;
        let include_usage = match &self.stream_options {
            Some(options) => {
                let place = "`stream_options`: ";
                let read = read_object(options.get().as_bytes(), STREAM_KEYS, place);
                read.map(|it: StreamOptions| it.include_usage.unwrap_or(false))?
            }
            None => false,
        };
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
        check_num_tokens(max_new_tokens, app)?;
        let (num_choices, most) = (self.n.unwrap_or(1), app.config.max_choices);
        if !(1..=most).contains(&num_choices) {
            return Err(ApiError::field("n", format!("`n` must be between 1 and {most}")));
        }
        let stop = self.stop.map_or_else(|| Ok(Vec::new()), Stop::check)?;
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
            is_streamed: self.stream.unwrap_or(false),
            include_usage,
        })
    }
}

/// Refuses the name of another model.
pub(super) fn check_model(name: Option<&str>, sampler: &Sampler) -> Result<(), ApiError> {
    let Some(name) = name else { return Ok(()) };
    // The reference client of ZeroSearch sends an empty name.
    if name.is_empty() || name == "default" || name == sampler.name() {
        return Ok(());
    }
    let served = sampler.name();
    let name: String = name.chars().take(80).collect();
    Err(ApiError::NotFound(format!("there is no model `{name}` here; use `{served}`")))
}

/// Checks the number of tokens that a request asks for.
pub(super) fn check_num_tokens(max_new_tokens: usize, app: &App) -> Result<(), ApiError> {
    let most = app.config.max_tokens;
    if !(1..=most).contains(&max_new_tokens) {
        let message = format!("`max_tokens` must be between 1 and {most}");
        return Err(ApiError::field("max_tokens", message));
    }
    Ok(())
}

impl Stop {
    /// Checks number and sizes of the texts.
    pub(super) fn check(self) -> Result<Vec<String>, ApiError> {
        let Self(stop) = self;
        let is_usable = |it: &String| (1..=MAX_STOP_BYTES).contains(&it.len());
        if stop.len() > MAX_STOPS || !stop.iter().all(is_usable) {
            return Err(ApiError::field(
                "stop",
                format!("send at most {MAX_STOPS} stops of 1 to {MAX_STOP_BYTES} bytes"),
            ));
        }
        Ok(stop)
    }
}

impl Sampling {
    /// Checks the numbers of sequences and tokens of a request.
    pub(super) fn check_size(
        &self,
        prompts: &[Vec<TokenId>],
        app: &App,
        sampler: &Sampler,
    ) -> Result<(), ApiError> {
        let context = sampler.context_length();
        let tokens =
            |it: &Vec<TokenId>| sequence_tokens(it.len(), self.params.max_new_tokens, context);
        let total = prompts.iter().map(tokens).sum::<usize>().saturating_mul(self.num_choices);
        let most = app.config.max_request_tokens.max(context);
        if total > most {
            let message = format!(
                "the sequences of this request may hold {total} tokens, prompts and completions; at \
                 most {most} are served; send fewer prompts, a smaller `n` or `max_tokens`"
            );
            return Err(ApiError::field("max_tokens", message));
        }
        Ok(())
    }

    /// Checks the number of sequences of a request.
    pub(super) fn check_sequences(&self, num_prompts: usize, app: &App) -> Result<(), ApiError> {
        let (most, count) = (app.config.max_sequences, num_prompts * self.num_choices);
        if count > most {
            let message = format!(
                "{num_prompts} prompts times `n` are {count} sequences; at most {most} are served in \
                 one request"
            );
            return Err(ApiError::field("n", message));
        }
        Ok(())
    }

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

impl<'de> Deserialize<'de> for Stop {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(StopVisitor)
    }
}

struct StopVisitor;

impl<'de> Visitor<'de> for StopVisitor {
    type Value = Stop;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a text or a list of texts as `stop`")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Stop, E> {
        Ok(Stop(vec![text.to_owned()]))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<Stop, A::Error> {
        let list = SeqAccessDeserializer::new(list);
        Capped::<String, MAX_STOPS>::deserialize(list).map(|it| Stop(it.0))
    }
}
