//! State that all requests share.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::body::Body;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use serde::de::DeserializeOwned;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use zs_core::{Domain, StreamKey};

use crate::api_error::ApiError;
use crate::auth::TokenGuard;
use crate::metrics::ServerMetrics;
use crate::sample_worker::Sampler;
use crate::search_worker::Retriever;
use crate::{ServeConfig, ServeError, Services};

/// State that all requests share. Cloning it is cheap.
#[derive(Clone, Debug)]
pub(crate) struct App(Arc<Shared>);

#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) config: ServeConfig,
    pub(crate) retriever: Option<Retriever>,
    pub(crate) sampler: Option<Sampler>,
    pub(crate) metrics: Arc<ServerMetrics>,
    permits: Arc<Semaphore>,
    pub(crate) guard: Option<TokenGuard>,
    num_requests: AtomicU64,
    pub(crate) started: u64,
}

/// Guard of a request in progress. It is counted until the last clone is dropped.
#[derive(Clone, Debug)]
pub(crate) struct InFlight(#[expect(dead_code, reason = "held, not read")] Arc<InFlightGuard>);

#[derive(Debug)]
struct InFlightGuard {
    metrics: Arc<ServerMetrics>,
    #[expect(dead_code, reason = "held, not read")]
    permit: OwnedSemaphorePermit,
}

impl InFlightGuard {
    fn new(metrics: &Arc<ServerMetrics>, permit: OwnedSemaphorePermit) -> Self {
        metrics.in_flight.inc();
        Self { metrics: Arc::clone(metrics), permit }
    }
}

impl Drop for InFlightGuard {
    fn drop(&mut self) {
        self.metrics.in_flight.dec();
    }
}

impl std::ops::Deref for App {
    type Target = Shared;

    fn deref(&self) -> &Shared {
        &self.0
    }
}

impl App {
    pub(crate) fn new(config: ServeConfig, services: Services) -> Result<Self, ServeError> {
        let metrics = Arc::new(ServerMetrics::new());
        let retriever = services
            .engine
            .map(|it| Retriever::start(it, config.retrieve_batch, Arc::clone(&metrics)))
            .transpose()?;
        let sampler = services
            .model
            .map(|it| Sampler::start(it, config.generate_batch, Arc::clone(&metrics)))
            .transpose()?;
        let epoch = std::time::SystemTime::UNIX_EPOCH;
        Ok(Self(Arc::new(Shared {
            permits: Arc::new(Semaphore::new(config.max_concurrent)),
            guard: config.token.as_deref().map(TokenGuard::new),
            num_requests: AtomicU64::new(0),
            started: epoch.elapsed().map_or(0, |it| it.as_secs()),
            config,
            retriever,
            sampler,
            metrics,
        })))
    }

    /// Counts a request as in progress, or returns `None` when the maximum number of them is.
    pub(crate) fn admit(&self) -> Option<InFlight> {
        let permit = Arc::clone(&self.permits).try_acquire_owned().ok()?;
        Some(InFlight(Arc::new(InFlightGuard::new(&self.metrics, permit))))
    }

    /// Returns a seed that no other request of this server gets.
    pub(crate) fn next_seed(&self) -> u64 {
        StreamKey { step: self.next_number(), ..StreamKey::new(self.config.seed) }
            .derive_seed(Domain::Sampling)
    }

    /// Returns an identifier that no other request of this server gets.
    pub(crate) fn next_id(&self, prefix: &str) -> String {
        format!("{prefix}-{:x}-{:x}", self.started, self.next_number())
    }

    fn next_number(&self) -> u64 {
        self.num_requests.fetch_add(1, Ordering::Relaxed)
    }
}

/// Reads the body of a request as JSON, within the limits of size and time.
pub(crate) async fn read_json<T: DeserializeOwned>(
    config: &ServeConfig,
    body: Body,
) -> Result<T, ApiError> {
    let limit = config.max_body_bytes;
    let reading = Limited::new(body, limit).collect();
    let Ok(read) = tokio::time::timeout(config.receive_timeout, reading).await else {
        return Err(ApiError::Timeout { seconds: config.receive_timeout.as_secs() });
    };
    let invalid = |message| ApiError::Invalid { field: None, message };
    let bytes = read
        .map_err(|error| match error.downcast_ref::<LengthLimitError>() {
            Some(_) => ApiError::TooLarge { limit },
            None => invalid(format!("the request body is incomplete: {error}")),
        })?
        .to_bytes();
    serde_json::from_slice(&bytes).map_err(|error| {
        invalid(format!("the request body is not the JSON that this route reads: {error}"))
    })
}
