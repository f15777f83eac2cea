//! Errors of run directories: their files, checkpoints and records.

use std::path::PathBuf;

use zs_data::{DataError, FileError};
use zs_model::{AdapterError, CheckpointError, DeviceFailed, OptimizerStateError, SaveError};
use zs_rl::RecordError;

/// Failure to use the directory of a run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RunDirError {
    /// Something lies where a new run would.
    #[error(
        "{path}: already exists and {found}; nothing was overwritten: remove it or choose another \
         `out`"
    )]
    Exists {
        /// Directory of the run.
        path: PathBuf,
        /// Clause about what lies there.
        found: &'static str,
    },
    /// A directory that is not there.
    #[error("{path}: no run directory to resume from")]
    Missing {
        /// Directory of the run.
        path: PathBuf,
    },
    /// Another process writes the run.
    #[error("{path}: another process uses this run; wait until it ends, or stop it")]
    InUse {
        /// Directory of the run.
        path: PathBuf,
    },
    /// A finished run, which has nothing to resume.
    #[error("{path}: the run is finished; there is nothing to resume")]
    Finished {
        /// Directory of the run.
        path: PathBuf,
    },
    /// A file that the run reads has changed since the run began.
    #[error(
        "{file}: has changed since the run began (see {path}); restore it to resume, or start \
         another run"
    )]
    InputChanged {
        /// File that has changed.
        file: String,
        /// File of the run that holds its digest.
        path: PathBuf,
    },
    /// An input that cannot be read twice.
    #[error(
        "{path}: not a regular file, and a run reads its files again when it resumes; save it to a \
         file",
        path = path.display()
    )]
    NotRegular {
        /// The input.
        path: PathBuf,
    },
    /// Every checkpoint is damaged.
    #[error(
        "{dir}: holds no complete checkpoint to resume from; start a new run with another `out`"
    )]
    NoCheckpoint {
        /// Directory of the checkpoints.
        dir: PathBuf,
    },
    /// A checkpoint that was asked for and is not there.
    #[error("{path}: does not exist; there are {found}")]
    NoSuchCheckpoint {
        /// Directory that the checkpoint would be in.
        path: PathBuf,
        /// Names of those that there are.
        found: String,
    },
    /// Metrics of fewer steps than the oldest checkpoint has.
    #[error(
        "{path}: has {num_steps} lines, and every checkpoint is of a later step; restore it, or \
         start another run with another `out`"
    )]
    LostLines {
        /// File of the metrics.
        path: PathBuf,
        /// Steps that it holds.
        num_steps: usize,
    },
    /// Records of a step are lost, and every checkpoint is of that step or a later one.
    #[error(
        "{path}: the {what} of step {step} are lost, and no checkpoint is older; restore \
         metrics.jsonl and costs.jsonl, or start another run with another `out`"
    )]
    LostStep {
        /// Directory of the run.
        path: PathBuf,
        /// Records that are lost.
        what: &'static str,
        /// First step whose records are lost.
        step: usize,
    },
    /// The settings in the directory were changed by hand.
    #[error(
        "{path}: has changed since the run's newest checkpoint was written; restore it, and change \
         settings with `zs train --resume {run} --set KEY=VALUE`"
    )]
    ConfigChanged {
        /// File of the settings.
        path: PathBuf,
        /// Directory of the run.
        run: PathBuf,
    },
    /// A run file that is not the one that the run began with.
    #[error(
        "{file}: has changed since the run began: `{now}` was `{before}` ({path}); restore it to \
         resume, or start another run with another `out`"
    )]
    SettingChanged {
        /// Run file.
        file: PathBuf,
        /// First line that differs.
        now: String,
        /// The line as it was.
        before: String,
        /// File of the run that holds the settings as they were.
        path: PathBuf,
    },
    /// A file that the manifest of its checkpoint does not list.
    #[error("{path}: its manifest does not list this file; remove it")]
    Unlisted {
        /// File.
        path: PathBuf,
    },
    /// A device lost what it was to compute, so that nothing may be saved.
    #[error(transparent)]
    Device(#[from] DeviceFailed),
    /// A file of a checkpoint has another size than was written.
    #[error("{path}: has {found} bytes instead of {expected}")]
    Size {
        /// File.
        path: PathBuf,
        /// Bytes in it.
        found: u64,
        /// Bytes that were written.
        expected: u64,
    },
    /// A file of a checkpoint has other contents than were written.
    #[error("{path}: its bytes have changed since it was written")]
    Digest {
        /// File.
        path: PathBuf,
    },
    /// A checkpoint that cannot be written.
    #[error("{path}: cannot write the checkpoint")]
    Checkpoint {
        /// Directory of the checkpoint.
        path: PathBuf,
        /// Error.
        source: Box<Self>,
    },
    /// A checkpoint that a run cannot resume from.
    #[error("{path}: cannot resume from")]
    Resume {
        /// Directory of the checkpoint.
        path: PathBuf,
        /// Error.
        source: Box<Self>,
    },
    /// A step whose episodes were not recorded.
    #[error("{path}: step {step} was not recorded; {recorded}")]
    NotRecorded {
        /// File that the episodes would be in.
        path: PathBuf,
        /// Step.
        step: usize,
        /// Clause about the steps that were.
        recorded: String,
    },
    /// Recorded episodes that cannot be read or written.
    #[error("{path}")]
    Record {
        /// File of the episodes.
        path: PathBuf,
        /// Error, with the row.
        source: RecordError,
    },
    /// A file that cannot be read or written.
    #[error(transparent)]
    File(#[from] FileError),
    /// Metrics that cannot be read.
    #[error(transparent)]
    Rows(#[from] DataError),
    /// Settings without a TOML form.
    #[error(transparent)]
    Settings(#[from] toml::ser::Error),
    /// Weights that cannot be read.
    #[error(transparent)]
    Weights(Box<CheckpointError>),
    /// Adapters that cannot be read.
    #[error(transparent)]
    Adapter(Box<AdapterError>),
    /// The state of an optimiser that cannot be read or written.
    #[error(transparent)]
    Optimizer(#[from] OptimizerStateError),
    /// Weights that cannot be written.
    #[error(transparent)]
    Save(#[from] SaveError),
}

impl From<CheckpointError> for RunDirError {
    fn from(error: CheckpointError) -> Self {
        Self::Weights(Box::new(error))
    }
}

impl From<AdapterError> for RunDirError {
    fn from(error: AdapterError) -> Self {
        Self::Adapter(Box::new(error))
    }
}
