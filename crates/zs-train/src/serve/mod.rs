//! `zs serve`: a search engine and a language model behind HTTP, so that trainers in any language
//! can search what we search and sample what we sample.
//!
//! ```text
//! connection -> listener (limits, deadlines) -> app (token, admission, routes)
//!            -> retrieve | chat | completions -> batcher: one thread that owns engine or model
//! ```
//!
//! Requests of all connections meet in a batcher, which hands them to the engine or model together.

mod app;
mod auth;
mod batcher;
mod chat;
mod completions;
mod error;
mod generation;
mod listener;
mod metrics;
mod prompt;
mod retrieve;
mod retrieve_worker;
mod stream;
mod worker;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use zs_core::SearchEngine;
use zs_model::Generator;

pub use self::batcher::BatchConfig;

use self::app::App;

/// What a server answers with; one of the two at least.
#[derive(Debug, Default)]
pub struct Services {
    /// What `/retrieve` searches.
    pub engine: Option<Arc<dyn SearchEngine>>,
    /// What `/v1/chat/completions` and `/v1/completions` sample.
    pub model: Option<ServedModel>,
}

/// A model and what it is called. Messages become prompts by its tokenizer's chat template.
#[derive(Debug)]
pub struct ServedModel {
    /// Its name in `/v1/models`.
    pub name: String,
    /// The model.
    pub generator: Arc<dyn Generator>,
}

/// How a server behaves.
#[derive(Clone, Debug, PartialEq)]
pub struct ServeConfig {
    /// The address to listen on; port 0 picks a free one.
    pub address: SocketAddr,
    /// What a request must carry as `Authorization: Bearer …`; `/health` is open to all.
    pub token: Option<String>,
    /// Requests in work at once; more get status 429.
    pub max_concurrent: usize,
    /// Connections at once; more wait to be accepted.
    pub max_connections: usize,
    /// Bytes of a request body.
    pub max_body_bytes: usize,
    /// Queries of one retrieval request.
    pub max_queries: usize,
    /// Bytes of one query.
    pub max_query_bytes: usize,
    /// Documents a query.
    pub max_k: usize,
    /// Documents a query where the request does not say.
    pub default_k: usize,
    /// Completions of one prompt.
    pub max_choices: usize,
    /// How long a client may take to send a request's head, and then its body.
    pub receive_timeout: Duration,
    /// How long accepted requests may take to finish once the server is told to stop.
    pub drain_timeout: Duration,
    /// How queries are batched.
    pub retrieve_batch: BatchConfig,
    /// How completions are batched.
    pub generate_batch: BatchConfig,
    /// The chance that a query which does not say its quality is answered with noisy documents.
    pub noise_probability: f64,
    /// Seed of what requests leave open.
    pub seed: u64,
}

impl Default for ServeConfig {
    fn default() -> Self {
        Self {
            address: SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8000),
            token: None,
            max_concurrent: 1024,
            max_connections: 4096,
            max_body_bytes: 8 << 20,
            max_queries: 1024,
            max_query_bytes: 16 << 10,
            max_k: 100,
            default_k: 3,
            max_choices: 16,
            receive_timeout: Duration::from_secs(30),
            drain_timeout: Duration::from_secs(60),
            retrieve_batch: BatchConfig { max_size: 512, max_wait: Duration::ZERO },
            generate_batch: BatchConfig { max_size: 64, max_wait: Duration::from_millis(5) },
            noise_probability: 0.0,
            seed: 0,
        }
    }
}

impl ServeConfig {
    fn check(&self, services: &Services) -> Result<()> {
        if services.engine.is_none() && services.model.is_none() {
            bail!("there is nothing to serve: give an engine, a model, or both");
        }
        for (name, value) in [
            ("max_concurrent", self.max_concurrent),
            ("max_connections", self.max_connections),
            ("max_body_bytes", self.max_body_bytes),
            ("max_queries", self.max_queries),
            ("max_query_bytes", self.max_query_bytes),
            ("max_k", self.max_k),
            ("max_choices", self.max_choices),
            ("retrieve_batch.max_size", self.retrieve_batch.max_size),
            ("generate_batch.max_size", self.generate_batch.max_size),
        ] {
            if value == 0 {
                bail!("`{name}` must be at least 1");
            }
        }
        if !(1..=self.max_k).contains(&self.default_k) {
            bail!("`default_k` must be between 1 and {}, is {}", self.max_k, self.default_k);
        }
        if !(0.0..=1.0).contains(&self.noise_probability) {
            bail!("`noise_probability` must be in [0, 1], is {}", self.noise_probability);
        }
        if self.token.as_ref().is_some_and(String::is_empty) {
            bail!("the bearer token is empty");
        }
        Ok(())
    }
}

/// A server on threads of its own. Dropping it stops it, as [`stop`](Self::stop) does.
///
/// ```
/// use std::io::{Read, Write};
/// use std::net::{Ipv4Addr, SocketAddr, TcpStream};
/// use std::sync::Arc;
/// use zs_core::Document;
/// use zs_search::FixedEngine;
/// use zs_train::serve::{ServeConfig, Server, Services};
///
/// let engine = Arc::new(FixedEngine::new(vec![Document::new("Bamboo", "A grass.")]));
/// let services = Services { engine: Some(engine), model: None };
/// let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
/// let server = Server::start(ServeConfig { address, ..ServeConfig::default() }, services)?;
///
/// let body = r#"{"queries": ["grass"], "topk": 1, "return_scores": false}"#;
/// let mut socket = TcpStream::connect(server.address())?;
/// write!(
///     socket,
///     "POST /retrieve HTTP/1.1\r\nHost: zs\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
///     body.len(),
/// )?;
/// let mut reply = String::new();
/// socket.read_to_string(&mut reply)?;
/// assert!(reply.ends_with(r#"{"result":[[{"id":"","contents":"\"Bamboo\"\nA grass."}]]}"#));
/// server.stop()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<Result<()>>>,
}

impl Server {
    /// Binds the address and serves until stopped.
    ///
    /// # Errors
    ///
    /// Fails on a setting out of range, on nothing to serve, and on an address that cannot be bound.
    pub fn start(config: ServeConfig, services: Services) -> Result<Self> {
        config.check(&services)?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .thread_name("zs-serve")
            .enable_all()
            .build()
            .context("cannot start the server's threads")?;
        let address = config.address;
        let listener = runtime
            .block_on(TcpListener::bind(address))
            .with_context(|| format!("cannot listen on {address}"))?;
        let address = listener.local_addr()?;
        let app = App::new(config.clone(), services)?;
        let (stop, stopped) = oneshot::channel();
        let thread = std::thread::Builder::new().name("zs-serve".to_owned()).spawn(move || {
            // An error means that the sender is gone, which stops the server just as well.
            let stopped = async { stopped.await.unwrap_or(()) };
            runtime.block_on(listener::serve(listener, app, &config, stopped))
        })?;
        Ok(Self { address, stop: Some(stop), thread: Some(thread) })
    }

    /// The address that is listened on.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Accepts nothing more, finishes what was accepted, and returns.
    ///
    /// # Errors
    ///
    /// Fails when accepted requests did not finish in time.
    pub fn stop(mut self) -> Result<()> {
        self.finish()
    }

    /// Serves until the process is told to stop (SIGINT or SIGTERM), then finishes what was accepted.
    ///
    /// # Errors
    ///
    /// As [`stop`](Self::stop), and when signals cannot be listened to.
    pub fn run_until_signal(self) -> Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(listener::stop_signal())?;
        self.stop()
    }

    fn finish(&mut self) -> Result<()> {
        // The receiver is gone only where the server has ended by itself, which `join` tells.
        let _ = self.stop.take().map(|it| it.send(()));
        match self.thread.take().map(std::thread::JoinHandle::join) {
            Some(Ok(result)) => result,
            Some(Err(panic)) => std::panic::resume_unwind(panic),
            None => Ok(()),
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Who wants to know calls `stop`.
        let _ = self.finish();
    }
}
