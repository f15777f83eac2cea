//! Errors of collecting a tuning set.

use zs_data::{DataError, FileError};
use zs_search::http::HttpError;

use super::VerdictError;
use crate::resumable_set::SetError;

/// Errors of collecting a tuning set.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CollectError {
    /// A file cannot be read or written.
    #[error(transparent)]
    File(#[from] FileError),
    /// Recorded turns cannot be read.
    #[error(transparent)]
    Turns(#[from] DataError),
    /// The judge's template cannot be used.
    #[error(transparent)]
    Template(#[from] VerdictError),
    /// The judge's address or key cannot be used.
    #[error("the judge: {0}")]
    Server(#[from] HttpError),
    /// The threads that ask the judge do not start.
    #[error("cannot start the threads that ask the judge")]
    Threads(#[from] rayon::ThreadPoolBuildError),
    /// Episodes could not be played.
    #[error(transparent)]
    Play(Box<dyn std::error::Error + Send + Sync>),
    /// The directory holds something else.
    #[error(transparent)]
    Set(#[from] SetError),
    /// Every search was dropped.
    #[error("no search is left to train on; dropped: {dropped}")]
    Nothing {
        /// Numbers of dropped searches, by reason.
        dropped: String,
    },
}
