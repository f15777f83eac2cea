//! Routes, and the steps that every request passes first: counting, origin, token, admission.

use std::time::Instant;

use axum::extract::{MatchedPath, Request, State};
use axum::http::header;
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde_json::{Value, json};

use crate::admin;
use crate::api_error::ApiError;
use crate::app::App;
use crate::completion::{ChatRequest, TextRequest, complete, generate};
use crate::origin::check_content_type;
use crate::retrieve;

/// Builds the routes of a server.
pub(crate) fn router(app: &App) -> Router {
    let work = Router::new()
        .route("/retrieve", post(retrieve::retrieve))
        .route("/v1/chat/completions", post(complete::<ChatRequest>))
        .route("/v1/completions", post(complete::<TextRequest>))
        .route("/inference/v1/generate", post(generate))
        .route_layer(middleware::from_fn_with_state(app.clone(), admit));
    let guarded = work
        .route("/v1/models", get(models))
        .route("/metrics", get(metrics))
        .route_layer(middleware::from_fn_with_state(app.clone(), authorize));
    guarded
        .merge(admin::routes(app))
        .route("/health", get(health))
        .method_not_allowed_fallback(async || ApiError::MethodNotAllowed)
        .fallback(async |request: Request| {
            ApiError::NotFound(format!("no route `{}`", request.uri().path()))
        })
        .layer(middleware::from_fn_with_state(app.clone(), count))
        .with_state(app.clone())
}

/// Admits a request unless the maximum number of them is in progress or the model has failed, and ends
/// it at its deadline.
async fn admit(State(app): State<App>, mut request: Request, next: Next) -> Response {
    let admitted = app.check_health().and_then(|()| check_content_type(request.headers()));
    let in_flight = match admitted.and_then(|()| app.admit()) {
        Ok(in_flight) => in_flight,
        Err(error) => return error.into_response(),
    };
    // A streamed response is in progress until its last byte, not its first.
    request.extensions_mut().insert(in_flight.clone());
    let timeout = app.config.request_timeout;
    let response = match tokio::time::timeout(timeout, next.run(request)).await {
        Ok(response) => response,
        Err(_) => ApiError::Deadline { seconds: timeout.as_secs() }.into_response(),
    };
    drop(in_flight);
    // What was computed meanwhile cannot be trusted. A stream is told by its sampler.
    match app.check_health() {
        Ok(()) => response,
        Err(error) => error.into_response(),
    }
}

async fn authorize(State(app): State<App>, request: Request, next: Next) -> Response {
    if let Err(error) = app.origins.check(request.headers(), request.uri()) {
        return error.into_response();
    }
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

async fn health(State(app): State<App>) -> Response {
    match app.check_health() {
        Ok(()) => Json(json!({ "status": "ok" })).into_response(),
        Err(error) => {
            let body = json!({ "status": "failed", "cause": error.to_string() });
            (error.status(), Json(body)).into_response()
        }
    }
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
