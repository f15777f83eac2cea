//! Errors of audits.

use std::path::PathBuf;

use zs_data::FileError;

use crate::TrainError;
use crate::run_dir_error::RunDirError;

/// Failure of an audit: something of a run is not what its record says, or cannot be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AuditError {
    /// A run without a record.
    #[error(
        "{run}: has no audit.jsonl (only `zs train` writes one, and its earlier versions did not); \
         compare single steps with `zs replay {run} --step N`"
    )]
    NoRecord {
        /// Directory of the run.
        run: PathBuf,
    },
    /// A line of the record that cannot stand where it does.
    #[error("step {step}: {path}, line {line}: {problem}")]
    Line {
        /// Step that the line is about, or the one that is expected there.
        step: usize,
        /// File of the record.
        path: PathBuf,
        /// Line, from 1.
        line: usize,
        /// Clause about the line.
        problem: &'static str,
    },
    /// Something of the run that is not what was recorded.
    #[error("step {step}: {path}: {problem}")]
    Changed {
        /// First step that it belongs to.
        step: usize,
        /// File or directory.
        path: PathBuf,
        /// Clause about it.
        problem: &'static str,
    },
    /// A checkpoint that is damaged or cannot be read.
    #[error("step {step}")]
    Checkpoint {
        /// Step of the checkpoint.
        step: usize,
        /// Error of the checkpoint.
        source: RunDirError,
    },
    /// No step can be recomputed.
    #[error(
        "{run}: the record and the files are intact, but no step can be recomputed: {reason}; check them \
         alone with `--steps 0`"
    )]
    NothingToRecompute {
        /// Directory of the run.
        run: PathBuf,
        /// Clause about the cause.
        reason: &'static str,
    },
    /// A file that cannot be read.
    #[error(transparent)]
    File(#[from] FileError),
    /// A run that cannot be loaded, or a step that cannot be recomputed.
    #[error(transparent)]
    Train(#[from] Box<TrainError>),
}

impl From<TrainError> for AuditError {
    fn from(error: TrainError) -> Self {
        Self::Train(Box::new(error))
    }
}

impl From<RunDirError> for AuditError {
    fn from(error: RunDirError) -> Self {
        TrainError::from(error).into()
    }
}
