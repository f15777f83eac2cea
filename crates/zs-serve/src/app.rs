//! Routes, and the steps that every request passes first: token, admission, counting.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use axum::body::Body;
use axum::extract::{MatchedPath, Request, State};
use axum::http::header;
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use zs_core::{Domain, StreamKey};

use crate::api_error::ApiError;
use crate::auth::TokenGuard;
use crate::completion::{ChatRequest, TextRequest, complete};
use crate::metrics::ServerMetrics;
use crate::sample_worker::Sampler;
use crate::search_worker::Retriever;
use crate::{ServeConfig, ServeError, Services, retrieve};

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
    guard: Option<TokenGuard>,
    num_requests: AtomicU64,
    started: u64,
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

    pub(crate) fn router(&self) -> Router {
        let work = Router::new()
            .route("/retrieve", post(retrieve::retrieve))
            .route("/v1/chat/completions", post(complete::<ChatRequest>))
            .route("/v1/completions", post(complete::<TextRequest>))
            .route_layer(middleware::from_fn_with_state(self.clone(), admit));
        let guarded = work
            .route("/v1/models", get(models))
            .route("/metrics", get(metrics))
            .route_layer(middleware::from_fn_with_state(self.clone(), authorize));
        guarded
            .route("/health", get(health))
            .method_not_allowed_fallback(async || ApiError::MethodNotAllowed)
            .fallback(async |request: Request| {
                ApiError::NotFound(format!("no route `{}`", request.uri().path()))
            })
            .layer(middleware::from_fn_with_state(self.clone(), count))
            .with_state(self.clone())
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

/// Admits a request unless the maximum number of them is in progress.
async fn admit(State(app): State<App>, mut request: Request, next: Next) -> Response {
    let Ok(permit) = Arc::clone(&app.permits).try_acquire_owned() else {
        return ApiError::Overloaded { limit: app.config.max_concurrent }.into_response();
    };
    let in_flight = InFlight(Arc::new(InFlightGuard::new(&app.metrics, permit)));
    // A streamed response is in progress until its last byte, not its first.
    request.extensions_mut().insert(in_flight.clone());
    let response = next.run(request).await;
    drop(in_flight);
    response
}

async fn authorize(State(app): State<App>, request: Request, next: Next) -> Response {
    match &app.guard {
        Some(guard) if !guard.admits(request.headers()) => ApiError::Unauthorized.into_response(),
        _ => next.run(request).await,
    }
}

async fn count(State(app): State<App>, request: Request, next: Next) -> Response {
    let start = Instant::now();
    // Unknown paths share one label: a scan of paths must not fill the memory with labels.
    let route = request.extensions().get::<MatchedPath>().cloned();
    let response = next.run(request).await;
    let route = route.as_ref().map_or("other", |it| it.as_str());
    app.metrics.answered(route, response.status().as_u16(), start.elapsed());
    response
}

async fn health() -> Json<Value> {
    Json(json!({ "status": "ok" }))
}

async fn metrics(State(app): State<App>) -> impl IntoResponse {
    const FORMAT: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(header::CONTENT_TYPE, FORMAT)], app.metrics.render())
}

async fn models(State(app): State<App>) -> Json<Value> {
    let models: Vec<Value> = app
        .sampler
        .iter()
        .map(|it| {
            json!({
                "id": it.name(),
                "object": "model",
                "created": app.started,
                "owned_by": "zs",
                "max_model_len": it.context_length(),
            })
        })
        .collect();
    Json(json!({ "object": "list", "data": models }))
}
