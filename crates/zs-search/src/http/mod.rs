//! Asking servers over HTTP: deadlines, retries that end, several servers side by side, and keys that
//! stay secret. Every engine behind a wire is built on [`HttpClient`].

mod client;
mod error;
mod key;
mod pool;
#[cfg(any(test, feature = "testing"))]
pub mod testing;

use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use self::client::{HttpClient, HttpRequest};
pub use self::error::HttpError;
pub use self::key::{ApiKey, KeyPlace};

/// Settings of requests to servers. Every wait has an end: a request is over, one way or the other,
/// after `total_timeout_s`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct HttpConfig {
    /// Calls in flight at once, over all servers.
    pub max_in_flight: usize,
    /// Seconds for a connection to come about.
    pub connect_timeout_s: f64,
    /// Seconds for one call, from connecting to the last byte of its reply.
    pub read_timeout_s: f64,
    /// Seconds for a request with all its attempts and waits.
    pub total_timeout_s: f64,
    /// Attempts a request at most.
    pub max_attempts: u32,
    /// Seconds before the second attempt; each further wait is twice as long, and each is lengthened
    /// by up to as much again, drawn from the request's seed.
    pub backoff_s: f64,
    /// Seconds before an attempt at most, before lengthening.
    pub max_backoff_s: f64,
    /// Failures in a row after which a server is paused.
    pub breaker_failures: u32,
    /// Seconds of that pause; then one request at a time tries whether it is back.
    pub breaker_pause_s: f64,
    /// Bytes of a reply at most.
    pub max_reply_bytes: u64,
}

impl Default for HttpConfig {
    fn default() -> Self {
        Self {
            max_in_flight: 32,
            connect_timeout_s: 5.0,
            read_timeout_s: 60.0,
            total_timeout_s: 180.0,
            max_attempts: 5,
            backoff_s: 0.5,
            max_backoff_s: 20.0,
            breaker_failures: 5,
            breaker_pause_s: 10.0,
            max_reply_bytes: 8 << 20,
        }
    }
}

impl HttpConfig {
    /// The first field that is out of range, and what it must be.
    ///
    /// ```
    /// use zs_search::http::HttpConfig;
    ///
    /// assert_eq!(HttpConfig::default().problem(), None);
    /// let config = HttpConfig { max_attempts: 0, ..HttpConfig::default() };
    /// assert_eq!(config.problem(), Some(("max_attempts", "at least 1")));
    /// ```
    #[must_use]
    pub fn problem(&self) -> Option<(&'static str, &'static str)> {
        const DAY: f64 = 86_400.0;
        let is_wait = |seconds: f64| (0.0..=DAY).contains(&seconds);
        let checks = [
            ("max_in_flight", "at least 1", self.max_in_flight > 0),
            ("max_attempts", "at least 1", self.max_attempts > 0),
            ("breaker_failures", "at least 1", self.breaker_failures > 0),
            ("max_reply_bytes", "at least 1", self.max_reply_bytes > 0),
            ("connect_timeout_s", "above 0 and at most a day", is_deadline(self.connect_timeout_s)),
            ("read_timeout_s", "above 0 and at most a day", is_deadline(self.read_timeout_s)),
            ("total_timeout_s", "above 0 and at most a day", is_deadline(self.total_timeout_s)),
            ("backoff_s", "in [0, 86400]", is_wait(self.backoff_s)),
            ("max_backoff_s", "in [0, 86400]", is_wait(self.max_backoff_s)),
            ("breaker_pause_s", "in [0, 86400]", is_wait(self.breaker_pause_s)),
        ];
        checks.iter().find(|(.., holds)| !holds).map(|(field, must, _)| (*field, *must))
    }
}

fn is_deadline(seconds: f64) -> bool {
    seconds > 0.0 && seconds <= 86_400.0
}

/// Seconds as a duration; what is out of range is cut to it.
pub(crate) fn seconds(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds).unwrap_or_default()
}
