//! A language model as the judge, behind any OpenAI-compatible server.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use parking_lot::Mutex;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use serde_json::json;
use zs_core::DocumentQuality;
use zs_data::{JsonLinesWriter, digest, read_whole_rows};
use zs_search::Ledger;
use zs_search::http::{ApiKey, HttpClient, HttpConfig, HttpError, HttpRequest};

use crate::chat_reply::read_reply;

use super::{CollectError, Judge, JudgeCase, JudgeError, JudgePrompt, parse_verdict};

/// Settings of a language model as judge.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LlmJudgeConfig {
    /// The server, up to and with `/v1`, e.g. `http://127.0.0.1:8000/v1`.
    pub url: String,
    /// The model's name there.
    pub model: String,
    /// The environment variable with the server's key, where it needs one.
    pub key_env: Option<String>,
    /// The text of the prompt's template.
    pub template: String,
    /// Requests in flight at once.
    pub concurrency: usize,
    /// Attempts for each document before it counts as failed.
    pub attempts: u32,
    /// Tokens of a reply at most; enough for a judge that reasons first.
    pub max_tokens: usize,
}

/// Judge that asks a model about each document and caches its verdicts.
///
/// Every verdict is written to a file immediately, so an interrupted collection does not ask again.
#[derive(Debug)]
pub struct LlmJudge {
    config: LlmJudgeConfig,
    prompt: JudgePrompt,
    client: HttpClient,
    workers: rayon::ThreadPool,
    known: Mutex<Known>,
}

#[derive(Debug)]
struct Known {
    verdicts: BTreeMap<String, DocumentQuality>,
    file: JsonLinesWriter,
}

/// A row of the file of verdicts.
#[derive(Debug, Serialize, Deserialize)]
struct Verdict {
    /// Digest of server, model and prompt.
    key: String,
    label: DocumentQuality,
}

impl LlmJudge {
    /// A judge that keeps its verdicts in a file, which is read first where there is one.
    ///
    /// # Errors
    ///
    /// Fails on a template that does not parse, an address that cannot be used, a key that is not in
    /// the environment, or a file that cannot be read.
    pub fn open(config: LlmJudgeConfig, verdicts: &Path) -> Result<Self, CollectError> {
        let prompt = JudgePrompt::new(&config.template)?;
        let key = ApiKey::bearer(config.key_env.as_deref())?;
        let http = HttpConfig {
            max_in_flight: config.concurrency,
            connect_timeout_s: 10.0,
            read_timeout_s: 120.0,
            total_timeout_s: 600.0,
            max_attempts: config.attempts,
            // There is no other server to turn to while this one is paused.
            breaker_failures: u32::MAX,
            ..HttpConfig::default()
        };
        let urls = [config.url.clone()];
        let client = HttpClient::new("judge", &urls, key, http, Arc::new(Ledger::default()))?;
        let workers = rayon::ThreadPoolBuilder::new().num_threads(config.concurrency).build()?;
        let known = Mutex::new(Known::open(verdicts)?);
        Ok(Self { config, prompt, client, workers, known })
    }

    fn label(&self, case: &JudgeCase<'_>) -> Result<DocumentQuality, JudgeError> {
        let failed = |message: String| JudgeError::Failed { message };
        let prompt = self.prompt.render(case).map_err(|it| failed(it.to_string()))?;
        let LlmJudgeConfig { url, model, .. } = &self.config;
        let key = digest::of_bytes(format!("{url}\n{model}\n{prompt}").as_bytes());
        if let Some(label) = self.known.lock().verdicts.get(&key) {
            return Ok(*label);
        }
        let seed = u64::from_str_radix(&key[..16], 16).unwrap_or_default();
        let mut problem = String::new();
        for attempt in 0..self.config.attempts {
            // The first try is greedy; a model that gave no verdict would repeat itself, so the
            // others are not.
            let temperature = if attempt == 0 { 0.0 } else { 0.7 };
            let reply =
                self.ask(&prompt, temperature, seed).map_err(|it| failed(it.to_string()))?;
            match parse_verdict(&reply) {
                Ok(label) => {
                    let mut known = self.known.lock();
                    let verdict = Verdict { key: key.clone(), label };
                    known.file.push(&verdict).map_err(|it| failed(it.to_string()))?;
                    known.verdicts.insert(key, label);
                    return Ok(label);
                }
                Err(error) => problem = error.to_string(),
            }
        }
        Err(failed(problem))
    }

    fn ask(&self, prompt: &str, temperature: f64, seed: u64) -> Result<String, HttpError> {
        let body = json!({
            "model": self.config.model,
            "messages": [{ "role": "user", "content": prompt }],
            "temperature": temperature,
            "max_tokens": self.config.max_tokens,
        });
        let (path, body) = ("/chat/completions", Some(body.to_string()));
        let request = HttpRequest { path, body, seed, ..HttpRequest::default() };
        self.client.send(&request, |text| read_reply(text, true).map(|it| it.text))
    }
}

impl Judge for LlmJudge {
    fn name(&self) -> &str {
        "llm"
    }

    fn judge(&self, cases: &[JudgeCase<'_>]) -> Vec<Result<DocumentQuality, JudgeError>> {
        self.workers.install(|| cases.par_iter().map(|it| self.label(it)).collect())
    }
}

impl Known {
    fn open(path: &Path) -> Result<Self, CollectError> {
        let rows: Vec<Verdict> = read_whole_rows(path)?;
        let file = JsonLinesWriter::resume(path, rows.len())?;
        let verdicts = rows.into_iter().map(|it| (it.key, it.label)).collect();
        Ok(Self { verdicts, file })
    }
}

#[cfg(test)]
mod tests {
    use zs_core::Document;
    use zs_search::http::testing::{CannedResponse, TestServer};

    use super::*;

    /// Checks the outcome of one document for these replies, and the number of requests.
    #[track_caller]
    fn check(replies: &'static [&str], expected: Result<DocumentQuality, &str>, calls: usize) {
        let server = TestServer::start(move |number, request| {
            let is_greedy = request.body.contains("\"temperature\":0.0");
            match replies[number] {
                "busy" => CannedResponse::status(503, "busy"),
                // A model that is asked greedily repeats itself.
                "unclear" => CannedResponse::ok(&said("useful or noisy")),
                _ if is_greedy != (number == 0 || replies[number - 1] == "busy") => {
                    CannedResponse::status(400, "wrong temperature")
                }
                reply => CannedResponse::ok(&said(reply)),
            }
        });
        let config = LlmJudgeConfig {
            url: format!("{}/v1/", server.url()),
            model: "judge".to_owned(),
            key_env: None,
            template: super::super::JUDGE_TEMPLATE.to_owned(),
            concurrency: 2,
            attempts: 2,
            max_tokens: 100,
        };
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("verdicts.jsonl");
        let judge = LlmJudge::open(config.clone(), &path).unwrap();
        let document = Document::new("", "Anna did.");
        let golden_answers = ["Anna".to_owned()];
        let case = JudgeCase {
            question: "Who?",
            golden_answers: &golden_answers,
            query: "who",
            document: &document,
        };
        let [label] = &judge.judge(&[case])[..] else { panic!("one case, one label") };
        match expected {
            Ok(expected) => {
                assert_eq!(*label, Ok(expected));
                // What was said is remembered.
                drop(judge);
                assert_eq!(LlmJudge::open(config, &path).unwrap().judge(&[case]), [Ok(expected)]);
            }
            Err(expected) => {
                let message = label.clone().unwrap_err().to_string();
                assert!(message.contains(expected), "{message}");
            }
        }
        assert_eq!(server.num_requests(), calls);
    }

    fn said(text: &str) -> String {
        json!({ "choices": [{ "message": { "content": text } }] }).to_string()
    }

    #[test]
    fn servers_and_unclear_verdicts_are_asked_again() {
        check(&["noisy"], Ok(DocumentQuality::Noisy), 1);
        check(&["busy", "useful"], Ok(DocumentQuality::Useful), 2);
        check(&["unclear", "useful"], Ok(DocumentQuality::Useful), 2);
        check(&["unclear", "unclear"], Err("no single verdict"), 2);
        check(&["busy", "busy"], Err("gave up after 2 attempts"), 2);
    }
}
