//! A teacher on servers, which score prompts of tokens.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use zs_core::registry::{Settings, SettingsError};
use zs_model::{Generator, LanguageModel, TokenId, Tokenizer};
use zs_search::Ledger;
use zs_search::http::{ApiKey, HttpClient, HttpConfig, HttpError, HttpRequest};

use super::TeacherError;
use super::reply::{self, TeacherApi};

/// Name that calls are booked under.
const NAME: &str = "teacher";
/// Tokens of the vocabulary that a server is asked about before a run.
const NUM_PROBED: usize = 64;

/// Settings of `server`: a teacher on servers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ServerTeacher {
    /// The servers' addresses, all with the same model: up to and with `/v1`, or without it for
    /// `api = "generate"`.
    pub endpoints: Vec<String>,
    /// Form of requests and replies.
    #[serde(default)]
    pub api: TeacherApi,
    /// The model's name there; none is sent where it is empty, which means the only model of most
    /// servers.
    #[serde(default)]
    pub model: String,
    /// The environment variable that holds the servers' key, where they want one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_variable: Option<String>,
    /// Deadlines, retries and limits.
    #[serde(default)]
    pub http: HttpConfig,
}

impl Settings for ServerTeacher {
    const KIND: &'static str = "server";

    fn check(&self) -> Result<(), SettingsError> {
        if self.endpoints.is_empty() {
            return Err(SettingsError::out_of_range("endpoints", "have at least one address"));
        }
        self.http.check().map_err(|error| match error {
            SettingsError::OutOfRange { key, requirement } => {
                SettingsError::out_of_range(format!("http.{key}"), requirement)
            }
            other => other,
        })
    }
}

/// Client of the servers of a teacher.
///
/// Each episode is one request, sent as tokens; nothing is ever encoded anew. A reply is used only if it
/// has one finite number for every token and names the same tokens.
#[derive(Debug)]
pub struct TeacherServer {
    client: HttpClient,
    settings: ServerTeacher,
}

impl TeacherServer {
    /// A client; nothing is sent yet.
    ///
    /// # Errors
    ///
    /// Fails when an address cannot be used, or the named environment variable holds no key.
    pub fn new(settings: ServerTeacher, ledger: Arc<Ledger>) -> Result<Self, HttpError> {
        let key = ApiKey::bearer(settings.key_variable.as_deref())?;
        let client =
            HttpClient::new(NAME, &settings.endpoints, key, settings.http.clone(), ledger)?;
        Ok(Self { client, settings })
    }

    /// Checks that tokens from the whole vocabulary are the policy's.
    ///
    /// # Errors
    ///
    /// Fails where they are not, and when the server gives no usable reply.
    pub fn check(&self, policy: &LanguageModel) -> Result<(), TeacherError> {
        let tokenizer = policy.tokenizer();
        let last = tokenizer.vocab_size().saturating_sub(1);
        let count = NUM_PROBED.min(last + 1).min(policy.context_length().saturating_sub(1)).max(2);
        let probe = (0..count).map(|it| (it * last / (count - 1)) as TokenId).collect();
        self.score(&[probe], tokenizer).map(|_| ())
    }

    /// Log-probability of each token given those before it, one row a sequence; 0 for the first.
    ///
    /// Requests are sent concurrently, up to the configured limit.
    ///
    /// # Errors
    ///
    /// Fails with the first sequence for which no server gives a usable reply.
    pub fn score(
        &self,
        rows: &[Vec<TokenId>],
        tokenizer: &Tokenizer,
    ) -> Result<Vec<Vec<f32>>, TeacherError> {
        let score = |row: &Vec<TokenId>| self.ask(row, tokenizer);
        let scores = self.client.for_each(rows, score);
        Ok(scores.into_iter().collect::<Result<_, _>>()?)
    }

    fn ask(&self, row: &[TokenId], tokenizer: &Tokenizer) -> Result<Vec<f32>, HttpError> {
        let api = self.settings.api;
        let path = match api {
            TeacherApi::PromptLogprobs | TeacherApi::Echo => "/completions",
            TeacherApi::Generate => "/generate",
        };
        let request =
            HttpRequest { path, body: Some(self.body(row).to_string()), ..HttpRequest::default() };
        self.client.send(&request, |text| {
            let (log_probs, prompt_tokens) = reply::read(text, api, row, tokenizer)?;
            self.client.ledger().record(NAME, |usage| usage.prompt_tokens += prompt_tokens);
            Ok(log_probs)
        })
    }

    fn body(&self, row: &[TokenId]) -> Value {
        let mut body = match self.settings.api {
            TeacherApi::PromptLogprobs => json!({
                "prompt": row, "max_tokens": 1, "temperature": 1.0, "prompt_logprobs": 1,
            }),
            TeacherApi::Echo => json!({
                "prompt": row, "max_tokens": 1, "temperature": 1.0, "echo": true, "logprobs": 1,
            }),
            TeacherApi::Generate => json!({
                "input_ids": row,
                "sampling_params": { "max_new_tokens": 0, "temperature": 1.0 },
                "return_logprob": true,
                "logprob_start_len": 0,
                "return_text_in_logprobs": true,
            }),
        };
        if !self.settings.model.is_empty() {
            body["model"] = self.settings.model.as_str().into();
        }
        body
    }
}
