//! Routes, and what happens to every request before it gets to one: token, admission, counting.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use anyhow::Result;
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

use super::auth::TokenGuard;
use super::error::ApiError;
use super::metrics::ServerMetrics;
use super::retrieve_worker::Retriever;
use super::worker::Sampler;
use super::{ServeConfig, Services, chat, completions, retrieve};

/// What all requests share. Cloning shares it.
#[derive(Clone, Debug)]
pub(super) struct App(Arc<Shared>);

#[derive(Debug)]
pub(super) struct Shared {
    pub(super) config: ServeConfig,
    pub(super) retriever: Option<Retriever>,
    pub(super) sampler: Option<Sampler>,
    pub(super) metrics: Arc<ServerMetrics>,
    places: Arc<Semaphore>,
    guard: Option<TokenGuard>,
    num_requests: AtomicU64,
    started: u64,
}

/// A place among the requests in work, given back when the last clone is dropped.
#[derive(Clone, Debug)]
pub(super) struct Place(#[expect(dead_code, reason = "held, not read")] Arc<Taken>);

#[derive(Debug)]
struct Taken {
    metrics: Arc<ServerMetrics>,
    #[expect(dead_code, reason = "held, not read")]
    permit: OwnedSemaphorePermit,
}

impl Taken {
    fn new(metrics: &Arc<ServerMetrics>, permit: OwnedSemaphorePermit) -> Self {
        metrics.in_flight.inc();
        Self { metrics: Arc::clone(metrics), permit }
    }
}

impl Drop for Taken {
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
    pub(super) fn new(config: ServeConfig, services: Services) -> Result<Self> {
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
            places: Arc::new(Semaphore::new(config.max_concurrent)),
            guard: config.token.as_deref().map(TokenGuard::new),
            num_requests: AtomicU64::new(0),
            started: epoch.elapsed().map_or(0, |it| it.as_secs()),
            config,
            retriever,
            sampler,
            metrics,
        })))
    }

    pub(super) fn router(&self) -> Router {
        let work = Router::new()
            .route("/retrieve", post(retrieve::retrieve))
            .route("/v1/chat/completions", post(chat::chat_completions))
            .route("/v1/completions", post(completions::completions))
            .route_layer(middleware::from_fn_with_state(self.clone(), admit));
        let guarded = work
            .route("/v1/models", get(models))
            .route("/metrics", get(metrics))
            .route_layer(middleware::from_fn_with_state(self.clone(), authorize));
        guarded
            .route("/health", get(health))
            .method_not_allowed_fallback(async || ApiError::MethodNotAllowed)
            .fallback(async |request: Request| {
                ApiError::NotFound(format!("there is nothing at {}", request.uri().path()))
            })
            .layer(middleware::from_fn_with_state(self.clone(), count))
            .with_state(self.clone())
    }

    /// A seed that no other request of this server gets.
    pub(super) fn next_seed(&self) -> u64 {
        StreamKey { step: self.next_number(), ..StreamKey::new(self.config.seed) }
            .derive_seed(Domain::Sampling)
    }

    /// An identifier that no other request of this server gets.
    pub(super) fn next_id(&self, prefix: &str) -> String {
        format!("{prefix}-{:x}-{:x}", self.started, self.next_number())
    }

    fn next_number(&self) -> u64 {
        self.num_requests.fetch_add(1, Ordering::Relaxed)
    }
}

/// Reads a request's body as JSON, within the limits of size and time.
pub(super) async fn read_json<T: DeserializeOwned>(
    config: &ServeConfig,
    body: Body,
) -> Result<T, ApiError> {
    let limit = config.max_body_bytes;
    let reading = Limited::new(body, limit).collect();
    let Ok(read) = tokio::time::timeout(config.receive_timeout, reading).await else {
        return Err(ApiError::TooSlow { seconds: config.receive_timeout.as_secs() });
    };
    let bytes = read
        .map_err(|error| match error.downcast_ref::<LengthLimitError>() {
            Some(_) => ApiError::TooLarge { limit },
            None => ApiError::Invalid {
                field: None,
                message: format!("the request's body did not arrive whole: {error}"),
            },
        })?
        .to_bytes();
    serde_json::from_slice(&bytes).map_err(|error| ApiError::Invalid {
        field: None,
        message: format!("the request's body is not the JSON that this path reads: {error}"),
    })
}

/// Lets a request in while there is a place for it.
async fn admit(State(app): State<App>, mut request: Request, next: Next) -> Response {
    let Ok(permit) = Arc::clone(&app.places).try_acquire_owned() else {
        return ApiError::Full { limit: app.config.max_concurrent }.into_response();
    };
    let place = Place(Arc::new(Taken::new(&app.metrics, permit)));
    // Streams keep a place for longer than until their first byte.
    request.extensions_mut().insert(place.clone());
    let response = next.run(request).await;
    drop(place);
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
    // Unknown paths share one label, so that a scan cannot fill the memory with labels.
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
