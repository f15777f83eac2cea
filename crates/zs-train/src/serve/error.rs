//! Refusals: a status and a JSON body in the form that OpenAI's clients read.

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::json;

/// Why a request was refused or could not be answered.
#[derive(Debug, thiserror::Error)]
pub(super) enum ApiError {
    /// The request makes no sense.
    #[error("{message}")]
    Invalid {
        /// The field, where it is one field's fault.
        field: Option<&'static str>,
        /// What is wrong, and what would be right.
        message: String,
    },
    /// The token is missing or wrong.
    #[error("send `Authorization: Bearer TOKEN` with the token that the server was started with")]
    Unauthorized,
    /// There is nothing at this path.
    #[error("{0}")]
    NotFound(String),
    /// The path does not take this method.
    #[error("this path does not take this method")]
    MethodNotAllowed,
    /// The client took too long to send its request.
    #[error("the request's body did not arrive within {seconds} s")]
    TooSlow {
        /// The deadline.
        seconds: u64,
    },
    /// The body is too large.
    #[error("the request's body is larger than {limit} bytes")]
    TooLarge {
        /// The limit.
        limit: usize,
    },
    /// The server has its hands full.
    #[error("{limit} requests are in work already; try again later")]
    Full {
        /// The limit.
        limit: usize,
    },
    /// The engine or model failed.
    #[error("{0}")]
    Upstream(String),
}

impl ApiError {
    /// A request with something wrong in one field.
    pub(super) fn field(field: &'static str, message: impl Into<String>) -> Self {
        Self::Invalid { field: Some(field), message: message.into() }
    }

    /// The status that goes with it.
    pub(super) fn status(&self) -> StatusCode {
        match self {
            Self::Invalid { .. } => StatusCode::BAD_REQUEST,
            Self::Unauthorized => StatusCode::UNAUTHORIZED,
            Self::NotFound(_) => StatusCode::NOT_FOUND,
            Self::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            Self::TooSlow { .. } => StatusCode::REQUEST_TIMEOUT,
            Self::TooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Full { .. } => StatusCode::TOO_MANY_REQUESTS,
            Self::Upstream(_) => StatusCode::BAD_GATEWAY,
        }
    }

    fn kind(&self) -> &'static str {
        match self {
            Self::Unauthorized => "authentication_error",
            Self::Full { .. } => "rate_limit_error",
            Self::Upstream(_) => "server_error",
            _ => "invalid_request_error",
        }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let status = self.status();
        let param = match &self {
            Self::Invalid { field, .. } => *field,
            _ => None,
        };
        let body = json!({
            "error": {
                "message": self.to_string(),
                "type": self.kind(),
                "param": param,
                "code": status.as_u16(),
            }
        });
        let mut response = (status, Json(body)).into_response();
        match self {
            Self::Full { .. } => {
                response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
            }
            Self::Unauthorized => {
                let challenge = HeaderValue::from_static("Bearer");
                response.headers_mut().insert(header::WWW_AUTHENTICATE, challenge);
            }
            _ => {}
        }
        response
    }
}
