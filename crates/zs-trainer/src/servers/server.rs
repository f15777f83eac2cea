//! One server that the policy is sampled on.

use std::fmt::{self, Display, Formatter};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use zs_model::{Completion, CompletionRules, SamplingParams, TokenId, Tokenizer};
use zs_search::http::{ApiKey, HttpClient, HttpError, HttpRequest};
use zs_search::{Ledger, Usage};

use super::api::CompletionRequest;
use super::probe::{Expected, Mismatch, Verdict};
use crate::config::{RolloutServers, ServerKind};
use crate::teacher::{ServerTeacher, TeacherApi, TeacherError, TeacherServer};

/// Name that calls are booked under.
const NAME: &str = "rollout";

/// A server, its clients, and whether it may be sampled.
#[derive(Debug)]
pub(super) struct PolicyServer {
    /// Host and port.
    pub(super) name: String,
    kind: ServerKind,
    client: HttpClient,
    admin: HttpClient,
    scorer: TeacherServer,
    ledger: Arc<Ledger>,
    state: Mutex<State>,
    /// Lowest `k3` with which it was admitted.
    floor: Mutex<Option<f64>>,
    work: Mutex<Work>,
}

/// Admission of a server.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum State {
    /// Nothing is known of it.
    New,
    /// It has the weights, with this mismatch.
    Admitted(Mismatch),
    /// It is not sampled, for this reason.
    Out(String),
}

/// Work of a step.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Work {
    /// Sampled tokens.
    pub(super) tokens: u64,
    /// Time in which at least one of its requests was in flight.
    pub(super) busy: Duration,
    /// Rows that went to other servers.
    pub(super) moved_rows: u64,
    /// Usage at the end of the step before.
    before: Usage,
}

/// Reason that a server is not admitted.
#[derive(Debug)]
pub(super) enum Problem {
    /// It cannot be reached, or refuses a request.
    Http(HttpError),
    /// It gives no usable log-probabilities.
    Scores(TeacherError),
    /// It has the weights of an earlier version, whatever it says.
    Old(Mismatch),
    /// It has weights that are not the trainer's.
    Other(Mismatch, f64),
}

impl Display for Problem {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Http(error) => write!(f, "{error}"),
            Self::Scores(error) => write!(f, "{error}"),
            Self::Old(Mismatch { k3, .. }) => write!(
                f,
                "it still has the weights from before the update, whatever it says: its \
                 log-probabilities of fixed sequences are theirs (k3 = {k3:.1e} from the new ones); \
                 look for errors of loading in its log"
            ),
            Self::Other(Mismatch { k3, max_ratio, .. }, bound) => write!(
                f,
                "its log-probabilities of fixed sequences are not the trainer's: k3 = {k3:.1e} is above \
                 {bound:.1e}, largest ratio {max_ratio:.3}; serve the model of `policy` in the \
                 trainer's precision, or raise `rollout.servers.max_probe_k3`"
            ),
        }
    }
}

impl PolicyServer {
    /// Clients of a server; nothing is sent yet.
    pub(super) fn new(settings: &RolloutServers, index: usize) -> Result<Self, HttpError> {
        let RolloutServers { kind, model, key_variable, .. } = settings;
        let url = settings.urls[index].trim_end_matches('/').to_owned();
        let admin_url = settings.admin_urls.get(index).unwrap_or(&url).clone();
        let admin_variable = settings.admin_key_variable.as_ref().or(key_variable.as_ref());
        let ledger = Arc::new(Ledger::default());
        let client = |url: &String, variable: Option<&String>| {
            let key = ApiKey::bearer(variable.map(String::as_str))?;
            let urls = std::slice::from_ref(url);
            HttpClient::new(NAME, urls, key, settings.http(), Arc::clone(&ledger))
        };
        let (endpoint, api) = match kind {
            ServerKind::Zs | ServerKind::Vllm => (format!("{url}/v1"), TeacherApi::PromptLogprobs),
            ServerKind::Sglang => (url.clone(), TeacherApi::Generate),
        };
        let teacher = ServerTeacher {
            endpoints: vec![endpoint],
            api,
            model: model.clone(),
            key_variable: key_variable.clone(),
            http: settings.http(),
        };
        let name = url.split_once("://").map_or(url.as_str(), |(_, it)| it).to_owned();
        Ok(Self {
            name,
            kind: *kind,
            client: client(&url, key_variable.as_ref())?,
            admin: client(&admin_url, admin_variable)?,
            scorer: TeacherServer::new(teacher, Arc::clone(&ledger))?,
            ledger,
            state: Mutex::new(State::New),
            floor: Mutex::default(),
            work: Mutex::default(),
        })
    }

    /// State of its admission.
    pub(super) fn state(&self) -> State {
        lock(&self.state).clone()
    }

    /// Sets the state of its admission; returns the one before.
    pub(super) fn set_state(&self, state: State) -> State {
        std::mem::replace(&mut *lock(&self.state), state)
    }

    pub(super) fn is_admitted(&self) -> bool {
        matches!(*lock(&self.state), State::Admitted(_))
    }

    /// Gives the server the weights of a directory, and measures whether it has them.
    pub(super) fn replace_weights(
        &self,
        version: &str,
        dir: &Path,
        sequences: &[Vec<TokenId>],
        tokenizer: &Tokenizer,
        (expected, bound): (&Expected, f64),
    ) -> Result<Mismatch, Problem> {
        self.load(version, dir).map_err(Problem::Http)?;
        let found = self.scorer.score(sequences, tokenizer).map_err(Problem::Scores)?;
        let mut floor = lock(&self.floor);
        match expected.judge(&found, bound, *floor) {
            (mismatch, Verdict::Same) => {
                *floor = Some(floor.map_or(mismatch.k3, |it| it.min(mismatch.k3)));
                Ok(mismatch)
            }
            (mismatch, Verdict::Old) => Err(Problem::Old(mismatch)),
            (mismatch, Verdict::Other) => Err(Problem::Other(mismatch, bound)),
        }
    }

    fn load(&self, version: &str, dir: &Path) -> Result<(), HttpError> {
        match self.kind {
            ServerKind::Zs | ServerKind::Vllm => {
                self.post("/pause", vec![("mode", "wait".to_owned())], json!({}))?;
                let arguments = json!({ "weights_path": dir });
                let reload = json!({ "method": "reload_weights", "kwargs": arguments });
                self.post("/collective_rpc", Vec::new(), reload)?;
                let label = json!({ "new_version": version });
                self.post("/update_weight_version", Vec::new(), label)?;
                self.post("/resume", Vec::new(), json!({}))
            }
            ServerKind::Sglang => {
                self.post("/pause_generation", Vec::new(), json!({ "mode": "abort" }))?;
                let update =
                    json!({ "model_path": dir, "weight_version": version, "flush_cache": true });
                self.post("/update_weights_from_disk", Vec::new(), update)?;
                self.post("/continue_generation", Vec::new(), json!({}))
            }
        }
    }

    fn post(
        &self,
        path: &'static str,
        parameters: Vec<(&'static str, String)>,
        body: Value,
    ) -> Result<(), HttpError> {
        let request = HttpRequest { path, parameters, body: Some(body.to_string()), seed: 0 };
        self.admin.send(&request, |text| {
            // Some replies are empty.
            let reply: Value = serde_json::from_str(text).unwrap_or_default();
            match reply["success"].as_bool() {
                Some(false) => Err(format!("{path} failed: {}", reply["message"])),
                _ => Ok(()),
            }
        })
    }

    /// Asks for completions, as many at once as the server may have in flight. Once it is not admitted
    /// any more, those that have not been asked for fail without a request.
    pub(super) fn complete(
        &self,
        requests: &[CompletionRequest<'_>],
        rules: &CompletionRules<'_>,
    ) -> Vec<Result<Completion, String>> {
        let start = Instant::now();
        let done = self.client.for_each(requests, |request| match self.state() {
            State::Out(reason) => Err(reason),
            State::New | State::Admitted(_) => self.ask(request, rules).map_err(|error| {
                let reason = error.to_string();
                self.set_state(State::Out(reason.clone()));
                reason
            }),
        });
        let mut work = lock(&self.work);
        work.busy += start.elapsed();
        work.tokens += done.iter().flatten().map(|it| it.tokens.len() as u64).sum::<u64>();
        work.moved_rows += done.iter().filter(|it| it.is_err()).count() as u64;
        done
    }

    fn ask(
        &self,
        request: &CompletionRequest<'_>,
        rules: &CompletionRules<'_>,
    ) -> Result<Completion, HttpError> {
        let CompletionRequest { tokens, params, version, max_tokens, key, .. } = *request;
        let body = self.kind.body(request).to_string();
        let http = HttpRequest {
            path: self.kind.path(),
            body: Some(body),
            seed: key.seed,
            ..HttpRequest::default()
        };
        let params = SamplingParams { max_new_tokens: max_tokens, ..params.clone() };
        self.client.send(&http, |text| {
            let sampled = self.kind.read(text, &params, version)?;
            rules.complete(tokens.len(), sampled, &params).map_err(|error| error.to_string())
        })
    }

    /// Work and usage since the last call.
    pub(super) fn take_work(&self) -> (Work, Usage) {
        let usage = self.ledger.usage().remove(NAME).unwrap_or_default();
        let mut work = lock(&self.work);
        let since = usage.since(work.before);
        (std::mem::replace(&mut *work, Work { before: usage, ..Work::default() }), since)
    }
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
