//! `zs serve`: an engine and a model behind HTTP.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::Args;
use zs_core::registry::{BoxedError, Spec};
use zs_model::Generator;
use zs_serve::{Admin, BatchConfig, ServeConfig, ServedModel, Server, Services};

use crate::command::{EngineArgs, SamplingArgs};
use crate::pages::return_pages;
use crate::session::Session;
use zs_trainer::{RunContext, engines};

/// Arguments of `zs serve`.
#[derive(Debug, Args)]
pub struct ServeArgs {
    /// Corpus that `/retrieve` searches with BM25.
    #[arg(long, value_name = "FILE", group = "served_engine")]
    pub corpus: Option<PathBuf>,
    /// Index that `/retrieve` searches with BM25.
    #[arg(long, value_name = "DIR", group = "served_engine")]
    pub index: Option<PathBuf>,
    /// Simulation LLM behind `/retrieve`.
    #[arg(long, value_name = "DIR", group = "served_engine")]
    pub simulator: Option<PathBuf>,
    /// File with the engine behind `/retrieve`, as `engine = { … }` of a run file.
    #[arg(long, value_name = "FILE", group = "served_engine")]
    pub engine: Option<PathBuf>,
    /// Model behind `/v1/chat/completions` and `/v1/completions` (Hugging Face layout).
    #[arg(long, value_name = "DIR", required_unless_present = "served_engine")]
    pub model: Option<PathBuf>,
    /// Sampling of the model.
    #[command(flatten)]
    pub sampling: SamplingArgs,
    /// Name of the model in `/v1/models`; by default that of its directory.
    #[arg(long, requires = "model")]
    pub model_name: Option<String>,
    /// Address to listen on. Any address but a loopback one is open to the network.
    #[arg(long, default_value_t = IpAddr::V4(Ipv4Addr::LOCALHOST))]
    pub host: IpAddr,
    /// Port to listen on; 0 picks a free one.
    #[arg(long, default_value_t = 8000)]
    pub port: u16,
    /// Environment variable with the bearer token that requests must carry.
    #[arg(long, value_name = "VARIABLE")]
    pub token_env: Option<String>,
    /// Environment variable with the bearer token of the endpoints that replace the model's weights,
    /// which exist only with it.
    #[arg(long, value_name = "VARIABLE", requires = "model", requires = "weights_dir")]
    pub admin_token_env: Option<String>,
    /// Directory below which the model's weights may be loaded from.
    #[arg(long, value_name = "DIR", requires = "admin_token_env")]
    pub weights_dir: Option<PathBuf>,
    /// Further host names that clients may use for the server, and whose web pages may send requests.
    /// Loopback names, addresses and names without a dot are always allowed.
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    pub allowed_hosts: Vec<String>,
    /// Maximum number of concurrent requests; more get status 429.
    #[arg(long, default_value_t = ServeConfig::default().max_concurrent)]
    pub max_concurrent: usize,
    /// Maximum size of a request body, in bytes.
    #[arg(long, default_value_t = ServeConfig::default().max_body_bytes)]
    pub max_body_bytes: usize,
    /// Maximum number of queries per request.
    #[arg(long, default_value_t = ServeConfig::default().max_queries)]
    pub max_queries: usize,
    /// Maximum number of documents per query.
    #[arg(long, default_value_t = ServeConfig::default().max_k)]
    pub max_k: usize,
    /// Documents per query when the request does not set the number.
    #[arg(long, default_value_t = ServeConfig::default().default_k)]
    pub k: usize,
    /// Maximum number of sequences per batch.
    #[arg(long, default_value_t = ServeConfig::default().generate_batch.max_size)]
    pub batch_size: usize,
    /// Maximum number of tokens per batch, sampled ones included, which bounds the KV cache.
    #[arg(long, default_value_t = ServeConfig::default().max_batch_tokens)]
    pub max_batch_tokens: usize,
    /// Maximum number of sequences per request: prompts times completions per prompt.
    #[arg(long, default_value_t = ServeConfig::default().max_sequences)]
    pub max_sequences: usize,
    /// Maximum number of tokens per request over all its sequences, sampled ones included.
    #[arg(long, default_value_t = ServeConfig::default().max_request_tokens)]
    pub max_request_tokens: usize,
    /// Maximum value of `max_tokens` in a request.
    #[arg(long, default_value_t = ServeConfig::default().max_tokens)]
    pub max_tokens: usize,
    /// Seconds that a request may take, up to the last part of its response.
    #[arg(long, default_value_t = ServeConfig::default().request_timeout.as_secs())]
    pub request_timeout_s: u64,
    /// Milliseconds that the first sequence of a batch waits for others.
    #[arg(long, default_value_t = 5)]
    pub batch_wait_ms: u64,
    /// Probability of noisy documents for queries that do not set a quality.
    #[arg(long, default_value_t = 0.0)]
    pub noise_probability: f64,
    /// Seed of queries and completions that do not set one.
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
}

/// Serves until the process receives a signal to stop.
pub(crate) fn serve(args: &ServeArgs, session: &Session) -> Result<()> {
    let context = session.context()?;
    let engine = args.engine_spec(&session.components)?;
    let engine = engine.map(|it| engines::open_alone(&it, &context)).transpose()?;
    let model = match &args.model {
        None => None,
        Some(dir) => Some(ServedModel {
            name: args.model_name.clone().unwrap_or_else(|| dir_name(dir)),
            generator: Arc::new(args.sampling.load(dir, &context)?),
        }),
    };
    let config = args.config()?;
    if !config.address.ip().is_loopback() && config.token.is_none() {
        session.console.note(&format!(
            "warning: {} is open to the network and there is no token; see --token-env",
            config.address
        ));
    }
    return_pages();
    let admin = args.admin(&context)?;
    let services = Services { engine, model, admin, health: session.health.clone() };
    let server = Server::start(config, services)?;
    session.print(&format!("listening on http://{}\n", server.address()));
    server.run_until_signal()?;
    session.console.note("stopped; every accepted request was answered");
    Ok(())
}

impl ServeArgs {
    fn engine_spec(&self, components: &zs_trainer::Components) -> Result<Option<Spec>> {
        let Self { corpus, index, simulator, engine, .. } = self;
        let [corpus, index, simulator, engine] =
            [corpus, index, simulator, engine].map(Clone::clone);
        EngineArgs { corpus, index, simulator, engine }.spec(components)
    }

    fn admin(&self, context: &RunContext) -> Result<Option<Admin>> {
        let (Some(variable), Some(weights_dir)) = (&self.admin_token_env, &self.weights_dir) else {
            return Ok(None);
        };
        let token = token_in(variable, "--admin-token-env")?;
        let (sampling, context) = (self.sampling, context.clone());
        let load = move |dir: &Path| match sampling.load(dir, &context) {
            Ok(model) => Ok(Arc::new(model) as Arc<dyn Generator>),
            Err(error) => Err(BoxedError::from(format!("{error:#}"))),
        };
        Ok(Some(Admin { token, weights_dir: weights_dir.clone(), load: Box::new(load) }))
    }

    fn config(&self) -> Result<ServeConfig> {
        let token = self.token_env.as_ref().map(|it| token_in(it, "--token-env"));
        let defaults = ServeConfig::default();
        Ok(ServeConfig {
            address: SocketAddr::new(self.host, self.port),
            token: token.transpose()?,
            allowed_hosts: self.allowed_hosts.clone(),
            max_concurrent: self.max_concurrent,
            max_body_bytes: self.max_body_bytes,
            max_queries: self.max_queries,
            max_k: self.max_k,
            default_k: self.k,
            max_batch_tokens: self.max_batch_tokens,
            max_sequences: self.max_sequences,
            max_request_tokens: self.max_request_tokens,
            max_tokens: self.max_tokens,
            request_timeout: Duration::from_secs(self.request_timeout_s),
            generate_batch: BatchConfig {
                max_size: self.batch_size,
                max_wait: Duration::from_millis(self.batch_wait_ms),
            },
            noise_probability: self.noise_probability,
            seed: self.seed,
            ..defaults
        })
    }
}

/// The token in an environment variable.
fn token_in(variable: &str, argument: &str) -> Result<String> {
    let token = std::env::var(variable);
    token.with_context(|| format!("{argument}: the variable `{variable}` cannot be read"))
}

/// The last part of a path, as it is on the disk.
fn dir_name(dir: &Path) -> String {
    let absolute = dir.canonicalize().unwrap_or_else(|_| dir.to_owned());
    absolute.file_name().map_or_else(|| "model".to_owned(), |it| it.to_string_lossy().into_owned())
}
