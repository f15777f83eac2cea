//! Servers that the policy is sampled on: weights after each update, and completions over HTTP.
//!
//! ```text
//! publish   directory of weights -> pause -> reload -> version -> resume -> probe -> admitted
//! sample    rows of a group -> its server; rows of a server that fails -> others, with the same keys
//! ```

mod api;
mod probe;
mod server;

use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use zs_model::{
    Completion, CompletionRules, GenerateError, Generator, LanguageModel, ModelConfig,
    SamplingParams, SaveError, SequenceRequest, Session, StopReason, TokenId, Tokenizer,
};
use zs_search::http::HttpError;

pub use self::probe::Mismatch;

use self::api::CompletionRequest;
use self::probe::{Expected, sequences};
use self::server::{PolicyServer, State, lock};
use crate::config::RolloutServers;
use crate::console::Console;

/// Failure to use the servers that the policy is sampled on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServersError {
    /// An address or key that cannot be used.
    #[error("`rollout.servers`")]
    Setting(#[from] HttpError),
    /// Weights that cannot be written.
    #[error("weights for `rollout.servers`")]
    Save(#[from] SaveError),
    /// The policy cannot score the sequences of the probe.
    #[error("the probe of `rollout.servers`")]
    Probe(#[from] GenerateError),
    /// No server is admitted.
    #[error("no server of `rollout.servers` can be sampled: {reasons}")]
    NoneLeft {
        /// Reason of each server.
        reasons: String,
    },
}

/// Servers of a run, as a generator of the policy whose weights were [published](Self::publish) last.
///
/// The client is the authority on tokens: what ends a completion is decided here, and each reply must
/// name the version of the weights. A server is sampled only after its log-probabilities of fixed
/// sequences have proved that it has the weights.
#[derive(Debug)]
pub struct PolicyServers {
    settings: RolloutServers,
    servers: Vec<PolicyServer>,
    config: ModelConfig,
    tokenizer: Tokenizer,
    sequences: Vec<Vec<TokenId>>,
    target: Mutex<Option<Arc<Target>>>,
    console: Arc<dyn Console>,
}

/// Weights that the servers are to have.
#[derive(Debug)]
struct Target {
    step: usize,
    version: String,
    expected: Expected,
    bound: f64,
}

impl PolicyServers {
    /// Creates the clients; nothing is sent yet.
    ///
    /// # Errors
    ///
    /// Fails when an address cannot be used, or a named environment variable holds no key.
    pub fn new(
        settings: RolloutServers,
        policy: &LanguageModel,
        console: Arc<dyn Console>,
    ) -> Result<Self, ServersError> {
        let servers = (0..settings.urls.len()).map(|it| PolicyServer::new(&settings, it));
        Ok(Self {
            servers: servers.collect::<Result<_, _>>()?,
            settings,
            config: policy.config().clone(),
            tokenizer: policy.tokenizer().clone(),
            sequences: sequences(policy),
            target: Mutex::default(),
            console,
        })
    }

    /// Gives every server the weights of a step, unless these were published last.
    ///
    /// A server that cannot be reached or does not pass the probe is left out, and asked again with the
    /// weights of the next step.
    ///
    /// # Errors
    ///
    /// Fails when the weights cannot be written, and when no server is admitted.
    pub fn publish(&self, policy: &LanguageModel, step: usize) -> Result<(), ServersError> {
        let old = lock(&self.target).clone();
        if old.as_ref().is_some_and(|it| it.step == step) {
            return Ok(());
        }
        let version = format!("step-{step}");
        policy.save(&self.dir(&version))?;
        let before = old.as_ref().map(|it| it.expected.now.clone());
        let expected = Expected { now: policy.log_probs(&self.sequences)?, before };
        let bound = self.settings.probe_bound(policy.network().memory().compute_dtype);
        let target = Arc::new(Target { step, version, expected, bound });
        *lock(&self.target) = Some(Arc::clone(&target));
        self.admit(&target)?;
        if let Some(old) = old {
            // Every server that is sampled has read the new ones.
            let _ = std::fs::remove_dir_all(self.dir(&old.version));
        }
        Ok(())
    }

    fn dir(&self, version: &str) -> PathBuf {
        self.settings.weights_dir.join(version)
    }

    /// Gives the weights to every server, all at once.
    fn admit(&self, target: &Target) -> Result<(), ServersError> {
        std::thread::scope(|scope| {
            for server in &self.servers {
                scope.spawn(move || self.admit_one(server, target));
            }
        });
        match self.servers.iter().any(PolicyServer::is_admitted) {
            true => Ok(()),
            false => Err(ServersError::NoneLeft { reasons: self.reasons() }),
        }
    }

    fn admit_one(&self, server: &PolicyServer, target: &Target) {
        let Target { version, expected, bound, .. } = target;
        let dir = self.settings.dir_there(version);
        let probe = (expected, *bound);
        let outcome =
            server.replace_weights(version, &dir, &self.sequences, &self.tokenizer, probe);
        let state = match outcome {
            Ok(mismatch) => State::Admitted(mismatch),
            Err(problem) => State::Out(problem.to_string()),
        };
        let name = &server.name;
        match (server.set_state(state.clone()), state) {
            (State::Out(_), State::Admitted(_)) => {
                self.console.note(&format!("rollout server {name}: admitted again"));
            }
            (State::Out(old), State::Out(new)) if old == new => {}
            (_, State::Out(reason)) => self.warn(name, &reason),
            _ => {}
        }
    }

    fn warn(&self, name: &str, reason: &str) {
        self.console.note(&format!("warning: rollout server {name} is not sampled: {reason}"));
    }

    /// Reason of each server that is not sampled.
    fn reasons(&self) -> String {
        let reasons = self.servers.iter().filter_map(|it| match it.state() {
            State::Out(reason) => Some(format!("{}: {reason}", it.name)),
            State::New | State::Admitted(_) => None,
        });
        reasons.collect::<Vec<_>>().join("; ")
    }

    /// Numbers of a step so far, which depend on the time and on faults: they belong to the timings.
    #[must_use]
    pub fn take_numbers(&self) -> Vec<(String, f64)> {
        let admitted = self.servers.iter().filter(|it| it.is_admitted()).count();
        let mut numbers = vec![("servers/num_admitted".to_owned(), admitted as f64)];
        for server in &self.servers {
            let (work, usage) = server.take_work();
            let mut push = |key: &str, value: f64| {
                numbers.push((format!("servers/{}/{key}", server.name), value));
            };
            push("tokens", work.tokens as f64);
            push("tokens_per_second", work.tokens as f64 / work.busy.as_secs_f64().max(1e-9));
            push("retries", usage.retries as f64);
            push("failed_calls", usage.failed_calls as f64);
            push("moved_rows", work.moved_rows as f64);
            if let State::Admitted(it) = server.state() {
                push("probe_k1", it.k1);
                push("probe_k3", it.k3);
                push("probe_max_ratio", it.max_ratio);
                push("probe_effective_sample_frac", it.effective_sample_frac);
            }
        }
        numbers
    }

    /// Server of a row: all rows of a group have the same, and the next one that is admitted takes the
    /// place of one that is not.
    fn home(&self, request: &SequenceRequest<'_>) -> Option<usize> {
        let count = self.servers.len();
        let first = request.key.group as usize;
        (0..count).map(|it| (first + it) % count).find(|it| self.servers[*it].is_admitted())
    }

    /// Completions of rows, each by one server, whatever became of others in between.
    fn complete(
        &self,
        rows: &[(SequenceRequest<'_>, &[TokenId])],
        params: &SamplingParams,
    ) -> Result<Vec<Completion>, GenerateError> {
        let failed = |message: String| GenerateError::Other { message };
        let target = lock(&self.target).clone();
        let target = target.ok_or_else(|| failed("no weights were published".to_owned()))?;
        let rules = CompletionRules::new(&self.config, &self.tokenizer);
        let mut done: Vec<Option<Completion>> = rows.iter().map(|_| None).collect();
        let mut is_retried = false;
        loop {
            let pending: Vec<usize> = (0..rows.len()).filter(|it| done[*it].is_none()).collect();
            if pending.is_empty() {
                return Ok(done.into_iter().flatten().collect());
            }
            let mut shares = vec![Vec::new(); self.servers.len()];
            for row in pending {
                if let Some(server) = self.home(&rows[row].0) {
                    shares[server].push(row);
                }
            }
            if shares.iter().all(Vec::is_empty) {
                // A server that was started again may be back.
                let reasons = self.reasons();
                if is_retried || self.admit(&target).is_err() {
                    let message = format!("no server of `rollout.servers` is left: {reasons}");
                    return Err(failed(message));
                }
                is_retried = true;
                continue;
            }
            let completions = self.complete_shares(rows, &shares, params, (&target, &rules));
            for (row, completion) in completions {
                done[row] = Some(completion);
            }
        }
    }

    /// Completions of the rows whose servers did not fail.
    fn complete_shares(
        &self,
        rows: &[(SequenceRequest<'_>, &[TokenId])],
        shares: &[Vec<usize>],
        params: &SamplingParams,
        (target, rules): (&Target, &CompletionRules<'_>),
    ) -> Vec<(usize, Completion)> {
        let request = |row: usize| {
            let (SequenceRequest { key, .. }, tokens) = rows[row];
            let room = self.config.max_position_embeddings.saturating_sub(tokens.len());
            CompletionRequest {
                model: &self.settings.model,
                tokens,
                key,
                max_tokens: params.max_new_tokens.min(room),
                params,
                version: &target.version,
            }
        };
        let of_server = |server: &PolicyServer, share: &[usize]| {
            let requests: Vec<CompletionRequest<'_>> =
                share.iter().map(|it| request(*it)).collect();
            let completions = server.complete(&requests, rules);
            if let State::Out(reason) = server.state() {
                self.warn(&server.name, &reason);
            }
            let done = share.iter().copied().zip(completions);
            done.filter_map(|(row, it)| Some((row, it.ok()?))).collect::<Vec<_>>()
        };
        let of_server = &of_server;
        std::thread::scope(|scope| {
            let busy = self.servers.iter().zip(shares).filter(|(_, share)| !share.is_empty());
            let running: Vec<_> =
                busy.map(|(server, share)| scope.spawn(move || of_server(server, share))).collect();
            let join = |it: std::thread::ScopedJoinHandle<'_, Vec<(usize, Completion)>>| {
                it.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
            };
            running.into_iter().flat_map(join).collect()
        })
    }
}

impl Generator for PolicyServers {
    fn tokenizer(&self) -> &Tokenizer {
        &self.tokenizer
    }

    fn context_length(&self) -> usize {
        self.config.max_position_embeddings
    }

    fn session(&self, num_sequences: usize) -> Box<dyn Session + '_> {
        Box::new(RemoteSession { servers: self, sequences: vec![Vec::new(); num_sequences] })
    }
}

/// Sequences that are sampled on servers. Each request carries the whole sequence; the cache of its
/// prefix is the server's.
struct RemoteSession<'a> {
    servers: &'a PolicyServers,
    sequences: Vec<Vec<TokenId>>,
}

impl Session for RemoteSession<'_> {
    fn extend(
        &mut self,
        requests: &[SequenceRequest<'_>],
        params: &SamplingParams,
        on_token: &mut dyn FnMut(usize, TokenId),
    ) -> Result<Vec<Completion>, GenerateError> {
        params.check()?;
        for request in requests {
            request.check(self.sequence_len(request.sequence), &self.servers.config)?;
        }
        for request in requests {
            self.sequences[request.sequence].extend_from_slice(request.append);
        }
        let rows: Vec<(SequenceRequest<'_>, &[TokenId])> =
            requests.iter().map(|it| (*it, &self.sequences[it.sequence][..])).collect();
        let completions = match params.max_new_tokens {
            0 => {
                let nothing = Completion {
                    tokens: Vec::new(),
                    log_probs: Vec::new(),
                    sampling_log_probs: (!params.is_full_softmax()).then(Vec::new),
                    stop_reason: StopReason::Length,
                };
                vec![nothing; rows.len()]
            }
            _ => self.servers.complete(&rows, params)?,
        };
        for (index, (request, completion)) in requests.iter().zip(&completions).enumerate() {
            self.sequences[request.sequence].extend_from_slice(&completion.tokens);
            completion.tokens.iter().for_each(|token| on_token(index, *token));
        }
        Ok(completions)
    }

    fn sequence_len(&self, sequence: usize) -> usize {
        self.sequences[sequence].len()
    }
}
