//! Readers of single files of a run directory, for tests of damaged ones.

use std::path::{Path, PathBuf};

use crate::audit::{AuditError, AuditRecord};
use crate::checkpoint::Checkpoints;
use crate::run_dir_error::RunDirError;

/// Number of steps of the record of a run, whose chain holds.
///
/// # Errors
///
/// Fails as `zs audit` does on a record that is missing or damaged.
pub fn read_audit_record(run: &Path) -> Result<usize, AuditError> {
    Ok(AuditRecord::read(run)?.steps().count())
}

/// Directory of the checkpoint of a step, which is as its manifest says.
///
/// # Errors
///
/// Fails as a resumed run does on a checkpoint that is missing or damaged.
pub fn check_checkpoint(run: &Path, step: usize) -> Result<PathBuf, RunDirError> {
    let checkpoints = Checkpoints::in_dir(run);
    checkpoints.newest_healthy()?;
    checkpoints.at(step)
}
