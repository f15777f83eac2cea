//! Errors of starting, running and stopping a server.

use std::io;
use std::net::SocketAddr;

/// Failure of a server as a whole. A request that fails is answered with a status instead.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServeError {
    /// No service was given.
    #[error("nothing to serve: give a search engine, a model, or both")]
    NoService,
    /// A setting is out of its range.
    #[error("`{field}` must be {allowed}, is {value}")]
    Setting {
        /// The field of [`ServeConfig`](crate::ServeConfig).
        field: &'static str,
        /// The range.
        allowed: String,
        /// The value.
        value: String,
    },
    /// The address cannot be bound.
    #[error("cannot listen on {address}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// The error of the system.
        #[source]
        source: io::Error,
    },
    /// A thread or the asynchronous runtime cannot be started.
    #[error("cannot start {what}")]
    Start {
        /// The thread or runtime.
        what: String,
        /// The error of the system.
        #[source]
        source: io::Error,
    },
    /// SIGINT or SIGTERM cannot be handled.
    #[error("cannot wait for SIGINT or SIGTERM")]
    Signal(#[source] io::Error),
    /// Accepted requests were still in progress when the drain timeout ended.
    #[error("some requests were unfinished {seconds} s after the server was told to stop")]
    DrainTimeout {
        /// The drain timeout.
        seconds: u64,
    },
}
