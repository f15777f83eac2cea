//! The recorded episodes of a run, one group after the other.

use std::path::{Path, PathBuf};

use zs_trainer::{RecordedGroup, RunDirError, read_rollouts, recorded_steps};

use super::InspectError;

/// Reads all recorded groups of a run, in the order in which they were played.
///
/// # Errors
///
/// Fails where nothing was recorded; each item fails on its own, naming file and row.
pub(super) fn read_all(
    run: &Path,
) -> Result<impl Iterator<Item = Result<RecordedGroup, RunDirError>>, InspectError> {
    let steps = recorded_steps(run)?;
    let run = PathBuf::from(run);
    if steps.is_empty() {
        return Err(InspectError::NoEpisodes { run });
    }
    Ok(steps.into_iter().flat_map(move |step| match read_rollouts(&run, step) {
        Ok(groups) => {
            Box::new(groups) as Box<dyn Iterator<Item = Result<RecordedGroup, RunDirError>>>
        }
        Err(error) => Box::new(std::iter::once(Err(error))),
    }))
}
