//! A language model as the judge, behind any OpenAI-compatible server.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Mutex;
use std::time::Duration;

use anyhow::{Context, Result};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use zs_core::DocumentQuality;
use zs_simulator::collect::{Judge, JudgeCase, JudgeError, JudgePrompt, parse_verdict};

use zs_trainer::digest;
use zs_trainer::files::JsonLines;

/// How a judge is reached and asked.
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
    /// Times that a document is put to the judge before it counts as failed.
    pub attempts: u32,
    /// Tokens of a verdict; enough for a judge that thinks first.
    pub max_tokens: usize,
}

/// Asks a model about each document, and remembers what it said.
///
/// Every verdict is written down as it comes, so an interrupted collection does not ask again.
#[derive(Debug)]
pub struct LlmJudge {
    config: LlmJudgeConfig,
    prompt: JudgePrompt,
    agent: ureq::Agent,
    key: Option<String>,
    workers: rayon::ThreadPool,
    known: Mutex<Known>,
}

#[derive(Debug)]
struct Known {
    verdicts: BTreeMap<String, DocumentQuality>,
    file: JsonLines,
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
    /// Fails on a template that does not parse, a key that is not in the environment, or a file that
    /// cannot be read.
    pub fn open(config: LlmJudgeConfig, verdicts: &Path) -> Result<Self> {
        let prompt = JudgePrompt::new(&config.template)?;
        let read = |variable: &String| {
            std::env::var(variable)
                .with_context(|| format!("the judge's key: `{variable}` is not in the environment"))
        };
        let key = config.key_env.as_ref().map(read).transpose()?;
        let agent = ureq::Agent::config_builder()
            .timeout_connect(Some(Duration::from_secs(10)))
            .timeout_global(Some(Duration::from_secs(120)))
            .build()
            .into();
        let workers = rayon::ThreadPoolBuilder::new()
            .num_threads(config.concurrency)
            .build()
            .context("cannot start the threads that ask the judge")?;
        let known = Mutex::new(Known::open(verdicts)?);
        Ok(Self { config, prompt, agent, key, workers, known })
    }

    fn label(&self, case: &JudgeCase<'_>) -> Result<DocumentQuality, JudgeError> {
        let failed = |message: String| JudgeError::Failed { message };
        let prompt = self.prompt.render(case).map_err(|it| failed(it.to_string()))?;
        let LlmJudgeConfig { url, model, .. } = &self.config;
        let key = digest::of_bytes(format!("{url}\n{model}\n{prompt}").as_bytes());
        if let Some(label) = self.lock().verdicts.get(&key) {
            return Ok(*label);
        }
        let mut problem = String::new();
        for attempt in 0..self.config.attempts {
            if attempt > 0 {
                std::thread::sleep(Duration::from_millis(250 << attempt.min(5)));
            }
            // The first try is greedy; a model that gave no verdict would repeat itself, so the
            // others are not.
            let temperature = if attempt == 0 { 0.0 } else { 0.7 };
            match self.ask(&prompt, temperature).and_then(|reply| Ok(parse_verdict(&reply)?)) {
                Ok(label) => {
                    let mut known = self.lock();
                    let verdict = Verdict { key: key.clone(), label };
                    known.file.push(&verdict).map_err(|it| failed(format!("{it:#}")))?;
                    known.verdicts.insert(key, label);
                    return Ok(label);
                }
                Err(error) => problem = format!("{error:#}"),
            }
        }
        Err(failed(problem))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Known> {
        // Nothing panics while it is held, and a verdict is inserted in one step.
        self.known.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn ask(&self, prompt: &str, temperature: f64) -> Result<String> {
        let body = json!({
            "model": self.config.model,
            "messages": [{ "role": "user", "content": prompt }],
            "temperature": temperature,
            "max_tokens": self.config.max_tokens,
        });
        let url = format!("{}/chat/completions", self.config.url.trim_end_matches('/'));
        let mut request = self.agent.post(&url).header("Content-Type", "application/json");
        if let Some(key) = &self.key {
            request = request.header("Authorization", &format!("Bearer {key}"));
        }
        let mut response = request.send(body.to_string())?;
        let reply = response.body_mut().read_to_string()?;
        let reply: Value = serde_json::from_str(&reply).context("the judge's reply is not JSON")?;
        let content = reply["choices"][0]["message"]["content"].as_str();
        content.map(str::to_owned).context("the judge's reply has no message")
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
    fn open(path: &Path) -> Result<Self> {
        if !path.exists() {
            return Ok(Self { verdicts: BTreeMap::new(), file: JsonLines::create(path)? });
        }
        let text = std::fs::read_to_string(path)
            .with_context(|| format!("{}: cannot be read", path.display()))?;
        // The last line may be torn where a run was killed.
        let rows: Vec<Verdict> =
            text.lines().map_while(|it| serde_json::from_str(it).ok()).collect();
        let file = JsonLines::resume(path, rows.len())?;
        let verdicts = rows.into_iter().map(|it| (it.key, it.label)).collect();
        Ok(Self { verdicts, file })
    }
}
