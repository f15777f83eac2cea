//! Endpoints that replace the weights of the model, in the form of vLLM's: `/pause`,
//! `/collective_rpc` with `reload_weights`, `/update_weight_version`, `/resume`, `/is_paused`.
//!
//! They exist only where the operator gives an [admin token](crate::Admin), and take no other.

use std::path::PathBuf;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::Uri;
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::api_error::ApiError;
use crate::app::{AdminState, App};
use crate::json::{Keys, read_object};
use crate::origin::check_content_type;
use crate::weights::Weights;

/// Longest version, in bytes.
const MAX_VERSION_BYTES: usize = 256;

/// Routes of the admin; none without an admin token.
pub(crate) fn routes(app: &App) -> Router<App> {
    if app.admin.is_none() {
        return Router::new();
    }
    Router::new()
        .route("/pause", post(pause))
        .route("/resume", post(resume))
        .route("/is_paused", get(is_paused))
        .route("/collective_rpc", post(collective_rpc))
        .route("/update_weight_version", post(update_weight_version))
        .route_layer(middleware::from_fn_with_state(app.clone(), authorize))
}

/// Admits requests with the admin's token, also while every place for other requests is taken.
async fn authorize(State(app): State<App>, request: Request, next: Next) -> Response {
    let checked = app
        .origins
        .check(request.headers(), request.uri())
        .and_then(|()| check_content_type(request.headers()))
        .and_then(|()| match &app.admin {
            Some(AdminState { guard, .. }) if guard.admits(request.headers()) => Ok(()),
            _ => Err(ApiError::Unauthorized),
        })
        .and_then(|()| app.check_health());
    if let Err(error) = checked {
        return error.into_response();
    }
    let timeout = app.config.request_timeout;
    match tokio::time::timeout(timeout, next.run(request)).await {
        Ok(response) => response,
        Err(_) => ApiError::Deadline { seconds: timeout.as_secs() }.into_response(),
    }
}

async fn pause(State(app): State<App>, uri: Uri) -> Result<Json<Value>, ApiError> {
    let mut parameters = uri.query().unwrap_or_default().split('&');
    let mode = parameters.find_map(|it| it.strip_prefix("mode="));
    if let Some(mode) = mode.filter(|it| *it != "wait") {
        let mode: String = mode.chars().take(20).collect();
        let message = format!("`mode={mode}` is not supported; use `mode=wait`");
        return Err(ApiError::field("mode", message));
    }
    weights(&app)?.pause().await;
    Ok(Json(json!({ "status": "paused" })))
}

async fn resume(State(app): State<App>) -> Result<Json<Value>, ApiError> {
    weights(&app)?.resume();
    Ok(Json(json!({ "status": "resumed" })))
}

async fn is_paused(State(app): State<App>) -> Result<Json<Value>, ApiError> {
    Ok(Json(json!({ "is_paused": weights(&app)?.is_paused() })))
}

#[derive(Debug, Deserialize)]
struct RpcRequest {
    method: String,
    kwargs: Option<RpcArguments>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RpcArguments {
    weights_path: PathBuf,
}

async fn collective_rpc(State(app): State<App>, body: Body) -> Result<Json<Value>, ApiError> {
    let keys = Keys { read: &["method", "kwargs"], ignored: &["timeout"], ..Keys::default() };
    let request: RpcRequest = read(&app, body, keys).await?;
    if request.method != "reload_weights" {
        return Err(ApiError::field("method", "only `reload_weights` is supported"));
    }
    let missing = || ApiError::field("kwargs", "`kwargs.weights_path` is missing");
    let dir = request.kwargs.ok_or_else(missing)?.weights_path;
    let admin = app.admin.as_ref().ok_or(ApiError::Unauthorized)?;
    weights(&app)?.reload(Arc::clone(&admin.settings), dir).await?;
    Ok(Json(json!({ "results": [null] })))
}

#[derive(Debug, Deserialize)]
struct VersionRequest {
    new_version: String,
}

async fn update_weight_version(
    State(app): State<App>,
    body: Body,
) -> Result<Json<Value>, ApiError> {
    let keys = Keys { read: &["new_version"], ..Keys::default() };
    let request: VersionRequest = read(&app, body, keys).await?;
    if request.new_version.len() > MAX_VERSION_BYTES {
        let message = format!("a version has at most {MAX_VERSION_BYTES} bytes");
        return Err(ApiError::field("new_version", message));
    }
    let weights = weights(&app)?;
    if !weights.is_paused() {
        let message = "the server samples; POST /pause before its version changes".to_owned();
        return Err(ApiError::Invalid { field: None, message });
    }
    weights.set_version(request.new_version);
    Ok(Json(json!({ "success": true })))
}

async fn read<T: DeserializeOwned>(app: &App, body: Body, keys: Keys) -> Result<T, ApiError> {
    let body = app.bodies.read(&app.config, body).await?;
    read_object(&body.bytes, keys, "")
}

fn weights(app: &App) -> Result<&Weights, ApiError> {
    app.sampler.as_ref().map(|it| it.weights()).ok_or_else(ApiError::no_model)
}
