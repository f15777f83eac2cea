//! Failures of callbacks.

use zs_core::registry::BoxedError;

/// Failure of a callback.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CallbackError {
    /// An error that the callback returned.
    #[error("callback `{name}` failed")]
    Failed {
        /// Callback.
        name: &'static str,
        /// Its error.
        source: BoxedError,
    },
    /// A panic inside the callback.
    #[error("callback `{name}` {message}")]
    Panicked {
        /// Callback.
        name: &'static str,
        /// Message of the panic, as [`caught`](zs_core::caught) gives it.
        message: String,
    },
}
