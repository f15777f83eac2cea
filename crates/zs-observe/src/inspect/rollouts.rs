//! The recorded episodes of a run, one group after the other.

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};

use zs_trainer::{RecordedGroup, read_rollouts, recorded_steps};

/// Reads all recorded groups of a run, in the order in which they were played.
///
/// # Errors
///
/// Fails where nothing was recorded; each item fails on its own, naming file and row.
pub(super) fn read_all(run: &Path) -> Result<impl Iterator<Item = Result<RecordedGroup>>> {
    let steps = recorded_steps(run)?;
    if steps.is_empty() {
        bail!("{}: no episode was recorded", run.display());
    }
    let run = PathBuf::from(run);
    Ok(steps.into_iter().flat_map(move |step| match read_rollouts(&run, step) {
        Ok(groups) => Box::new(groups) as Box<dyn Iterator<Item = Result<RecordedGroup>>>,
        Err(error) => Box::new(std::iter::once(Err(error))),
    }))
}
