//! State that all requests share.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use zs_core::{Domain, StreamKey};
use zs_model::DeviceHealth;

use crate::api_error::ApiError;
use crate::auth::TokenGuard;
use crate::body::BodyBudget;
use crate::metrics::ServerMetrics;
use crate::origin::OriginGuard;
use crate::sample_worker::Sampler;
use crate::search_worker::Retriever;
use crate::text_threads::TextThreads;
use crate::{Admin, ServeConfig, ServeError, Services};

/// State that all requests share. Cloning it is cheap.
#[derive(Clone, Debug)]
pub(crate) struct App(Arc<Shared>);

#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) config: ServeConfig,
    pub(crate) retriever: Option<Retriever>,
    pub(crate) sampler: Option<Sampler>,
    health: DeviceHealth,
    pub(crate) metrics: Arc<ServerMetrics>,
    permits: Arc<Semaphore>,
    sequences: Arc<Semaphore>,
    queries: Arc<Semaphore>,
    pub(crate) bodies: BodyBudget,
    pub(crate) texts: TextThreads,
    pub(crate) guard: Option<TokenGuard>,
    pub(crate) admin: Option<AdminState>,
    /// Turn of the request that scores its prompts.
    pub(crate) scoring: Arc<Semaphore>,
    pub(crate) origins: OriginGuard,
    num_requests: AtomicU64,
    pub(crate) started: u64,
}

/// Settings of the admin's endpoints, and the guard of their token.
#[derive(Debug)]
pub(crate) struct AdminState {
    pub(crate) settings: Arc<Admin>,
    pub(crate) guard: TokenGuard,
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
            .map(|it| Sampler::start(it, &config, services.health.clone(), Arc::clone(&metrics)))
            .transpose()?;
        let epoch = std::time::SystemTime::UNIX_EPOCH;
        let semaphore = |it: usize| Arc::new(Semaphore::new(it.min(Semaphore::MAX_PERMITS)));
        Ok(Self(Arc::new(Shared {
            permits: semaphore(config.max_concurrent),
            sequences: semaphore(config.max_concurrent_sequences),
            queries: semaphore(config.max_concurrent_queries),
            bodies: BodyBudget::new(config.max_total_body_bytes),
            texts: TextThreads::default(),
            guard: config.token.as_deref().map(TokenGuard::new),
            admin: services
                .admin
                .map(|it| AdminState { guard: TokenGuard::new(&it.token), settings: Arc::new(it) }),
            scoring: semaphore(1),
            origins: OriginGuard::new(&config.allowed_hosts),
            num_requests: AtomicU64::new(0),
            started: epoch.elapsed().map_or(0, |it| it.as_secs()),
            config,
            retriever,
            sampler,
            health: services.health,
            metrics,
        })))
    }

    /// Fails once a thread of the model or its device has failed.
    pub(crate) fn check_health(&self) -> Result<(), ApiError> {
        Ok(self.health.check()?)
    }

    /// Reports that a thread of the model failed: nothing that is computed then can be trusted.
    pub(crate) fn report_failure(&self, cause: &str) {
        self.health.report(cause);
    }

    /// Counts a request as in progress, or fails when the maximum number of them is.
    pub(crate) fn admit(&self) -> Result<InFlight, ApiError> {
        let permit = take(&self.permits, 1, self.config.max_concurrent, "requests")?;
        Ok(InFlight(Arc::new(InFlightGuard::new(&self.metrics, permit))))
    }

    /// Counts the sequences of a request as in progress until the permit is dropped.
    pub(crate) fn admit_sequences(&self, count: usize) -> Result<OwnedSemaphorePermit, ApiError> {
        take(&self.sequences, count, self.config.max_concurrent_sequences, "sequences")
    }

    /// Counts the queries of a request as in progress until the permit is dropped.
    pub(crate) fn admit_queries(&self, count: usize) -> Result<OwnedSemaphorePermit, ApiError> {
        take(&self.queries, count, self.config.max_concurrent_queries, "queries")
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

fn take(
    semaphore: &Arc<Semaphore>,
    count: usize,
    limit: usize,
    what: &str,
) -> Result<OwnedSemaphorePermit, ApiError> {
    let count = u32::try_from(count).ok();
    count.and_then(|it| Arc::clone(semaphore).try_acquire_many_owned(it).ok()).ok_or_else(|| {
        ApiError::Overloaded(format!("{limit} {what} are already in progress; retry later"))
    })
}
