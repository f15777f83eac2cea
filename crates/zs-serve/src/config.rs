//! Settings of a server, and the services that it offers.

use std::fmt::{self, Debug, Display, Formatter};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use zs_core::SearchEngine;
use zs_core::registry::BoxedError;
use zs_model::{DeviceHealth, Generator};

use crate::{BatchConfig, ServeError};

/// Services of a server. At least one must be given.
#[derive(Debug, Default)]
pub struct Services {
    /// The search engine of `/retrieve`.
    pub engine: Option<Arc<dyn SearchEngine>>,
    /// The model of `/v1/chat/completions`, `/v1/completions` and `/inference/v1/generate`.
    pub model: Option<ServedModel>,
    /// Endpoints that replace the weights of the model; there are none without it.
    pub admin: Option<Admin>,
    /// Failures of the devices that engine and model compute on. Once there is one, `/health` and every
    /// request are answered with 503 and its cause.
    pub health: DeviceHealth,
}

/// A model and its name. The chat template of its tokenizer turns messages into prompts.
#[derive(Debug)]
pub struct ServedModel {
    /// The name in `/v1/models`.
    pub name: String,
    /// The model.
    pub generator: Arc<dyn Generator>,
}

/// Loader of a model directory.
pub type LoadModel = dyn Fn(&Path) -> Result<Arc<dyn Generator>, BoxedError> + Send + Sync;

/// Endpoints by which a trainer replaces the weights of the model: `/pause`, `/collective_rpc` with
/// `reload_weights`, `/update_weight_version`, `/resume` and `/is_paused`, as in vLLM.
pub struct Admin {
    /// Bearer token that these endpoints want in place of the server's.
    pub token: String,
    /// Directory below which weights may be loaded.
    pub weights_dir: PathBuf,
    /// Loader of weights.
    pub load: Box<LoadModel>,
}

/// Leaves the token out.
impl Debug for Admin {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.debug_struct("Admin").field("weights_dir", &self.weights_dir).finish_non_exhaustive()
    }
}

/// Settings of a server.
#[derive(Clone, PartialEq)]
pub struct ServeConfig {
    /// The address to listen on; port 0 picks a free one.
    pub address: SocketAddr,
    /// The bearer token that requests must carry in `Authorization`; `/health` needs none.
    pub token: Option<String>,
    /// Names that requests may be sent to in `Host`, and whose pages may send them, besides loopback
    /// names, addresses, and names without a dot.
    pub allowed_hosts: Vec<String>,
    /// Maximum number of concurrent requests; more get status 429.
    pub max_concurrent: usize,
    /// Maximum number of sequences of all requests in progress; more get status 429.
    pub max_concurrent_sequences: usize,
    /// Maximum number of queries of all requests in progress; more get status 429.
    pub max_concurrent_queries: usize,
    /// Maximum number of connections. For one more, the oldest without a request in progress is closed.
    pub max_connections: usize,
    /// Maximum size of a request body, in bytes.
    pub max_body_bytes: usize,
    /// Maximum size of the bodies of all requests in progress, in bytes, not counting the first 64 KiB of
    /// each; more get status 429.
    pub max_total_body_bytes: usize,
    /// Maximum number of queries in a retrieval request.
    pub max_queries: usize,
    /// Maximum size of a query, in bytes.
    pub max_query_bytes: usize,
    /// Maximum number of documents per query.
    pub max_k: usize,
    /// Documents per query when the request does not set the number.
    pub default_k: usize,
    /// Maximum number of completions per prompt.
    pub max_choices: usize,
    /// Maximum number of sequences in a completion request: prompts times completions per prompt.
    pub max_sequences: usize,
    /// Maximum number of sampled tokens per sequence that a request may ask for.
    pub max_tokens: usize,
    /// Maximum number of tokens in a completion request, over all sequences, sampled ones included. A
    /// single sequence may always fill the context.
    pub max_request_tokens: usize,
    /// Maximum number of tokens in a batch of sequences, sampled ones included, which bounds the KV
    /// cache. A larger sequence is a batch of its own.
    pub max_batch_tokens: usize,
    /// Timeout for receiving a request's head, and then for its body.
    pub receive_timeout: Duration,
    /// Timeout for a client to read the next 64 KiB of a response, or what there is of it.
    pub send_timeout: Duration,
    /// Timeout for a whole request, up to the last part of its response; 504 beyond it.
    pub request_timeout: Duration,
    /// Timeout for accepted requests to finish after the server is told to stop.
    pub drain_timeout: Duration,
    /// Batching of queries.
    pub retrieve_batch: BatchConfig,
    /// Batching of completions.
    pub generate_batch: BatchConfig,
    /// Probability of noisy documents for queries that do not set a quality.
    pub noise_probability: f64,
    /// Seed of queries and completions that do not set one.
    pub seed: u64,
}

impl Default for ServeConfig {
    fn default() -> Self {
        Self {
            address: SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8000),
            token: None,
            allowed_hosts: Vec::new(),
            max_concurrent: 1024,
            max_concurrent_sequences: 4096,
            max_concurrent_queries: 16 << 10,
            max_connections: 4096,
            max_body_bytes: 8 << 20,
            max_total_body_bytes: 128 << 20,
            max_queries: 1024,
            max_query_bytes: 16 << 10,
            max_k: 100,
            default_k: 3,
            max_choices: 16,
            max_sequences: 256,
            max_tokens: 8192,
            max_request_tokens: 256 << 10,
            max_batch_tokens: 64 << 10,
            receive_timeout: Duration::from_secs(30),
            send_timeout: Duration::from_secs(30),
            request_timeout: Duration::from_secs(600),
            drain_timeout: Duration::from_secs(60),
            retrieve_batch: BatchConfig { max_size: 64, max_wait: Duration::ZERO },
            generate_batch: BatchConfig { max_size: 64, max_wait: Duration::from_millis(5) },
            noise_probability: 0.0,
            seed: 0,
        }
    }
}

impl ServeConfig {
    pub(crate) fn check(&self) -> Result<(), ServeError> {
        for (field, value) in [
            ("max_concurrent", self.max_concurrent),
            ("max_concurrent_sequences", self.max_concurrent_sequences),
            ("max_concurrent_queries", self.max_concurrent_queries),
            ("max_connections", self.max_connections),
            ("max_body_bytes", self.max_body_bytes),
            ("max_total_body_bytes", self.max_total_body_bytes),
            ("max_queries", self.max_queries),
            ("max_query_bytes", self.max_query_bytes),
            ("max_k", self.max_k),
            ("max_choices", self.max_choices),
            ("max_sequences", self.max_sequences),
            ("max_tokens", self.max_tokens),
            ("max_request_tokens", self.max_request_tokens),
            ("max_batch_tokens", self.max_batch_tokens),
            ("retrieve_batch.max_size", self.retrieve_batch.max_size),
            ("generate_batch.max_size", self.generate_batch.max_size),
        ] {
            require(value >= 1, field, "at least 1", value)?;
        }
        let (k, max_k) = (self.default_k, self.max_k);
        require((1..=max_k).contains(&k), "default_k", format!("between 1 and {max_k}"), k)?;
        let noise = self.noise_probability;
        require((0.0..=1.0).contains(&noise), "noise_probability", "in [0, 1]", noise)?;
        let is_empty = self.token.as_ref().is_some_and(String::is_empty);
        require(!is_empty, "token", "a text of at least one character", "empty")
    }
}

/// Leaves the token out.
impl Debug for ServeConfig {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let has_token = self.token.is_some();
        f.debug_struct("ServeConfig")
            .field("address", &self.address)
            .field("has_token", &has_token)
            .field("allowed_hosts", &self.allowed_hosts)
            .field("max_concurrent", &self.max_concurrent)
            .field("seed", &self.seed)
            .finish_non_exhaustive()
    }
}

fn require(
    is_allowed: bool,
    field: &'static str,
    allowed: impl Into<String>,
    value: impl Display,
) -> Result<(), ServeError> {
    match is_allowed {
        true => Ok(()),
        false => {
            Err(ServeError::Setting { field, allowed: allowed.into(), value: value.to_string() })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(config: ServeConfig, message: &str) {
        assert_eq!(config.check().unwrap_err().to_string(), message);
    }

    #[test]
    fn the_token_is_not_shown() {
        let config = ServeConfig { token: Some("s3cret".to_owned()), ..ServeConfig::default() };
        let shown = format!("{config:?} {config:#?}");
        assert!(shown.contains("has_token: true") && !shown.contains("s3cret"), "{shown}");
    }

    #[test]
    fn settings_out_of_range_are_refused_by_name() {
        let default = ServeConfig::default;
        default().check().unwrap();
        check(
            ServeConfig { max_connections: 0, ..default() },
            "`max_connections` must be at least 1, is 0",
        );
        check(
            ServeConfig { default_k: 101, ..default() },
            "`default_k` must be between 1 and 100, is 101",
        );
        check(
            ServeConfig { noise_probability: f64::NAN, ..default() },
            "`noise_probability` must be in [0, 1], is NaN",
        );
        check(
            ServeConfig { token: Some(String::new()), ..default() },
            "`token` must be a text of at least one character, is empty",
        );
    }
}
