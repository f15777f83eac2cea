//! Asking servers over HTTP: deadlines, retries that end, several servers side by side, and keys that
//! stay secret. Every engine behind a wire is built on [`HttpClient`].

mod client;
mod error;
mod halves;
mod key;
mod pool;
#[cfg(any(test, feature = "testing"))]
pub mod testing;

use std::time::Duration;

use garde::Validate;
use serde::{Deserialize, Serialize};
use zs_core::registry::{SettingsError, check};

#[cfg(feature = "postgres")]
pub(crate) use self::client::is_private_host;
pub use self::client::{HttpClient, HttpRequest};
pub use self::error::HttpError;
pub(crate) use self::halves::in_halves;
pub use self::key::{ApiKey, KeyPlace};

/// Settings of requests to servers. Every wait has an end: a request is over, one way or the other,
/// after `total_timeout_s`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Validate)]
#[serde(default)]
pub struct HttpConfig {
    /// Calls in flight at once, over all servers.
    #[garde(custom(check::at_least_one))]
    pub max_in_flight: usize,
    /// Seconds for a connection to come about.
    #[garde(custom(is_deadline))]
    pub connect_timeout_s: f64,
    /// Seconds for one call, from connecting to the last byte of its reply.
    #[garde(custom(is_deadline))]
    pub read_timeout_s: f64,
    /// Seconds for a request with all its attempts and waits.
    #[garde(custom(is_deadline))]
    pub total_timeout_s: f64,
    /// Attempts a request at most.
    #[garde(custom(check::at_least_one))]
    pub max_attempts: u32,
    /// Seconds before the second attempt; each further wait is twice as long, and each is lengthened
    /// by up to as much again, drawn from the request's seed.
    #[garde(custom(is_wait))]
    pub backoff_s: f64,
    /// Seconds before an attempt at most, before lengthening.
    #[garde(custom(is_wait))]
    pub max_backoff_s: f64,
    /// Failures in a row after which a server is paused.
    #[garde(custom(check::at_least_one))]
    pub breaker_failures: u32,
    /// Seconds of that pause; then one request at a time tries whether it is back.
    #[garde(custom(is_wait))]
    pub breaker_pause_s: f64,
    /// Bytes of a reply at most.
    #[garde(custom(check::at_least_one))]
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
    /// Checks every setting.
    ///
    /// # Errors
    ///
    /// Fails with the first that is out of range.
    pub fn check(&self) -> Result<(), SettingsError> {
        Ok(self.validate()?)
    }
}

/// Longest wait that a setting may name, in seconds.
const DAY_S: f64 = 86_400.0;

fn is_deadline(seconds: &f64, (): &()) -> garde::Result {
    match *seconds > 0.0 && *seconds <= DAY_S {
        true => Ok(()),
        false => Err(garde::Error::new(format!("be above 0 and at most a day, is {seconds}"))),
    }
}

fn is_wait(seconds: &f64, (): &()) -> garde::Result {
    match (0.0..=DAY_S).contains(seconds) {
        true => Ok(()),
        false => Err(garde::Error::new(format!("lie in [0, {DAY_S}], is {seconds}"))),
    }
}

/// Seconds as a duration; what is out of range is cut to it.
pub(crate) fn seconds(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds).unwrap_or_default()
}
