//! Error responses: a status and a JSON body in the form that OpenAI's clients read.

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::json;

/// Reason to reject a request, or for its failure.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ApiError {
    /// The request is invalid.
    #[error("{message}")]
    Invalid {
        /// The field, when the fault lies in one.
        field: Option<&'static str>,
        /// The fault and its remedy.
        message: String,
    },
    /// The token is missing or wrong.
    #[error("send `Authorization: Bearer TOKEN` with the token that the server was started with")]
    Unauthorized,
    /// The path or the model does not exist here.
    #[error("{0}")]
    NotFound(String),
    /// The route does not accept this method.
    #[error("this route does not accept this method")]
    MethodNotAllowed,
    /// The request did not arrive in time.
    #[error("the request body did not arrive within {seconds} s")]
    Timeout {
        /// The timeout.
        seconds: u64,
    },
    /// The body is too large.
    #[error("the request body is larger than {limit} bytes")]
    TooLarge {
        /// The limit.
        limit: usize,
    },
    /// Too many requests are in progress.
    #[error("{limit} requests are already in progress; retry later")]
    Overloaded {
        /// The limit.
        limit: usize,
    },
    /// The engine or the model failed.
    #[error("{0}")]
    Upstream(String),
}

impl ApiError {
    /// Rejects one field of a request.
    pub(crate) fn field(field: &'static str, message: impl Into<String>) -> Self {
        Self::Invalid { field: Some(field), message: message.into() }
    }

    /// Returns the status of the response.
    pub(crate) fn status(&self) -> StatusCode {
        match self {
            Self::Invalid { .. } => StatusCode::BAD_REQUEST,
            Self::Unauthorized => StatusCode::UNAUTHORIZED,
            Self::NotFound(_) => StatusCode::NOT_FOUND,
            Self::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            Self::Timeout { .. } => StatusCode::REQUEST_TIMEOUT,
            Self::TooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Overloaded { .. } => StatusCode::TOO_MANY_REQUESTS,
            Self::Upstream(_) => StatusCode::BAD_GATEWAY,
        }
    }

    fn kind(&self) -> &'static str {
        match self {
            Self::Unauthorized => "authentication_error",
            Self::Overloaded { .. } => "rate_limit_error",
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
            Self::Overloaded { .. } => {
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
