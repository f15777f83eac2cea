//! Error responses: a status and a JSON body in the form that OpenAI's clients read.

use std::borrow::Cow;
use std::fmt::Display;

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::json;
use zs_model::DeviceFailed;

/// Reason to reject a request, or for its failure.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ApiError {
    /// The request is invalid.
    #[error("{message}")]
    Invalid {
        /// The field, when the fault lies in one.
        field: Option<Cow<'static, str>>,
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
    /// The body is not JSON, by its header.
    #[error("`Content-Type` is `{0}`; send `application/json`")]
    MediaType(String),
    /// The request was sent to another name, or by the page of another site.
    #[error("{0}")]
    Forbidden(String),
    /// Too much is in progress.
    #[error("{0}")]
    Overloaded(String),
    /// The request was not answered in time.
    #[error("the request was not answered within {seconds} s; ask for less, or retry later")]
    Deadline {
        /// The timeout.
        seconds: u64,
    },
    /// The client closed its side of the connection before the response.
    #[error("the client closed its side of the connection before the response")]
    ClientLeft,
    /// The weights are being replaced.
    #[error("the server is paused while its weights are replaced; retry later")]
    Paused,
    /// The engine or the model failed.
    #[error("{0}")]
    Upstream(String),
    /// A thread of the model or its device failed, now or earlier.
    #[error(transparent)]
    Broken(#[from] DeviceFailed),
}

impl ApiError {
    /// Rejects one field of a request.
    pub(crate) fn field(field: &'static str, message: impl Into<String>) -> Self {
        Self::Invalid { field: Some(Cow::Borrowed(field)), message: message.into() }
    }

    /// Rejects a request for a model where there is none.
    pub(crate) fn no_model() -> Self {
        Self::NotFound("this server has no model".to_owned())
    }

    /// Rejects a body that cannot be read.
    pub(crate) fn body(problem: impl Display) -> Self {
        Self::body_field(None, problem)
    }

    /// Creates the error for a body with a fault in a field, where it is known.
    pub(crate) fn body_field(field: Option<String>, problem: impl Display) -> Self {
        let message = format!("the request body is not the JSON that this route reads: {problem}");
        Self::Invalid { field: field.map(Cow::Owned), message }
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
            Self::MediaType(_) => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::Forbidden(_) => StatusCode::FORBIDDEN,
            Self::Overloaded(_) => StatusCode::TOO_MANY_REQUESTS,
            Self::Deadline { .. } => StatusCode::GATEWAY_TIMEOUT,
            // nginx's status for it; the client is not there to see it.
            Self::ClientLeft => StatusCode::from_u16(499).unwrap_or(StatusCode::BAD_REQUEST),
            Self::Upstream(_) => StatusCode::BAD_GATEWAY,
            Self::Paused | Self::Broken(_) => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    fn kind(&self) -> &'static str {
        match self {
            Self::Unauthorized => "authentication_error",
            Self::Overloaded(_) => "rate_limit_error",
            Self::Upstream(_) | Self::Broken(_) | Self::Paused | Self::Deadline { .. } => {
                "server_error"
            }
            _ => "invalid_request_error",
        }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let status = self.status();
        let param = match &self {
            Self::Invalid { field, .. } => field.as_deref(),
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
            Self::Overloaded(_) => {
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
