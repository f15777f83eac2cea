//! Errors of collecting a tuning set.

use std::path::PathBuf;

use zs_data::{DataError, FileError};
use zs_search::http::HttpError;

use super::VerdictError;

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
    /// The directory holds a set that is not this one.
    #[error(
        "{path}: holds a set that was collected from other inputs or with other settings; nothing \
         was overwritten: remove it or choose another `out`"
    )]
    OtherSet {
        /// The directory.
        path: PathBuf,
    },
    /// The directory holds an unfinished set that is not this one.
    #[error(
        "{path}: holds an interrupted collection with other settings; remove it or choose another \
         `out`"
    )]
    OtherUnfinishedSet {
        /// The directory.
        path: PathBuf,
    },
    /// The directory holds something else.
    #[error("{path}: holds other files; choose another `out`")]
    OtherFiles {
        /// The directory.
        path: PathBuf,
    },
    /// A file of a finished set is not what was collected.
    #[error("{path}: was changed after it was collected; remove the set")]
    Changed {
        /// The file.
        path: PathBuf,
    },
    /// Every search was dropped.
    #[error("no search is left to train on; dropped: {dropped}")]
    Nothing {
        /// Numbers of dropped searches, by reason.
        dropped: String,
    },
}
