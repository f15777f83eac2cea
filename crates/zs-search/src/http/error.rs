//! Failure of a server to give a usable reply. No message holds a key, a query string or a header.

use std::time::Duration;

use zs_core::SearchError;

/// Failure of a server to give a usable reply.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HttpError {
    /// A URL cannot be used.
    #[error("`{url}` cannot be used as a server's address: {problem}")]
    Url {
        /// The address, without any password in it.
        url: String,
        /// Problem.
        problem: &'static str,
    },
    /// There is no server to ask.
    #[error("no server is named; give at least one address")]
    NoEndpoint,
    /// The environment has no usable key.
    #[error("the environment variable `{variable}` holds no key; set it to the provider's key")]
    MissingKey {
        /// The variable.
        variable: String,
    },
    /// A variable that is not named as one that holds a key.
    #[error(
        "the environment variable `{variable}` is not read, so that no other secret is sent; \
         put the key into a variable whose name ends in _API_KEY or _TOKEN"
    )]
    NotAKey {
        /// The variable.
        variable: String,
    },
    /// A key would travel unencrypted.
    #[error(
        "{endpoint}: keys are not sent over plain http outside private networks; use https:// or an \
         address of this machine"
    )]
    PlainKey {
        /// Scheme, host and port.
        endpoint: String,
    },
    /// The request does not fit in a URL; nothing was sent.
    #[error(
        "{endpoint}: the query makes a URL of {length} bytes, which is more than servers accept"
    )]
    TooLong {
        /// Scheme, host and port.
        endpoint: String,
        /// Bytes that the URL would have.
        length: usize,
    },
    /// No connection, or one that broke.
    #[error("{endpoint}: connection failed: {problem}")]
    Transport {
        /// Scheme, host and port.
        endpoint: String,
        /// Message of the transport.
        problem: String,
    },
    /// A deadline passed.
    #[error("{endpoint}: no reply in time ({what})")]
    Timeout {
        /// Scheme, host and port.
        endpoint: String,
        /// Name of the deadline.
        what: String,
    },
    /// The server refused or failed.
    #[error("{endpoint}: status {status}: {body}")]
    Status {
        /// Scheme, host and port.
        endpoint: String,
        /// The status.
        status: u16,
        /// The start of what it said.
        body: String,
        /// Time that the server asks to wait.
        retry_after: Option<Duration>,
    },
    /// The reply is not of the documented form.
    #[error("{endpoint}: unusable reply: {problem}")]
    Reply {
        /// Scheme, host and port.
        endpoint: String,
        /// Problem.
        problem: String,
    },
    /// Every server failed often, or asked to be left alone, for longer than there is time.
    #[error("every server is paused after failures for longer than this request may wait")]
    AllPaused,
    /// Attempts or time are used up.
    #[error("gave up after {attempts} attempts: {last}")]
    GaveUp {
        /// Calls that were made.
        attempts: u32,
        /// Failure of the last attempt.
        last: Box<HttpError>,
    },
}

impl HttpError {
    /// Returns true if another attempt may succeed: connections that break, deadlines, overload, a
    /// server's own failures, and replies that are cut or garbled.
    pub(super) fn is_retryable(&self) -> bool {
        match self {
            Self::Transport { .. } | Self::Timeout { .. } | Self::Reply { .. } => true,
            Self::Status { status, .. } => matches!(status, 408 | 425 | 429 | 500..=599),
            _ => false,
        }
    }

    /// Returns true if the server is out of reach or out of order, rather than unwilling to answer
    /// this very request.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        match self {
            Self::GaveUp { last, .. } => last.is_transient(),
            Self::AllPaused => true,
            Self::Reply { .. } => false,
            other => other.is_retryable(),
        }
    }

    /// Error of a search: out of reach, or an engine's own failure.
    #[must_use]
    pub fn for_search(&self, engine: &str, query: &str) -> SearchError {
        let (engine, source) = (engine.to_owned(), self.to_string().into());
        if self.is_transient() {
            SearchError::Unreachable { engine, source }
        } else {
            SearchError::Engine { engine, query: query.to_owned(), source }
        }
    }

    /// Returns true if the server may have failed because of the contents of this request: a
    /// smaller one, or one without its worst part, may succeed.
    pub(crate) fn blames_request(&self) -> bool {
        match self {
            Self::GaveUp { last, .. } => last.blames_request(),
            Self::TooLong { .. } => true,
            Self::Status { status, .. } => matches!(status, 400 | 413 | 414 | 422 | 431 | 500),
            _ => false,
        }
    }
}
