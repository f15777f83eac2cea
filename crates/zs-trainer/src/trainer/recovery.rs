//! Runs that failed or lost files: what is saved, and where they resume.

use std::path::PathBuf;

use zs_core::with_causes;

use super::keeper::Keeper;
use super::{Session, Trainer, faults, log};
use crate::TrainError;
use crate::checkpoint::Checkpoints;
use crate::files::RunDir;
use crate::rollouts::Rollouts;
use crate::run_dir_error::RunDirError;

impl Trainer {
    /// The newest checkpoint before which nothing is lost.
    pub(super) fn newest_checkpoint(
        &self,
        run: &RunDir,
    ) -> Result<Option<(usize, PathBuf)>, RunDirError> {
        let checkpoints = Checkpoints::of(run, self.config.checkpoints.keep_last);
        let Some((newest, dir)) = checkpoints.newest(&self.context)? else { return Ok(None) };
        let lost = log::first_lost_step(run, self.engines.is_some())?;
        let empty = Rollouts::of(run).first_empty()?.filter(|it| *it <= newest);
        let first = lost.min(empty.unwrap_or(usize::MAX));
        if newest < first {
            return Ok(Some((newest, dir)));
        }
        let whole = checkpoints.newest_before(first, &self.context)?;
        let what = if lost <= newest { "metrics or costs" } else { "episodes" };
        match &whole {
            Some(_) => {
                self.context.note(&format!("the {what} of step {first} are lost: it is repeated"));
            }
            // Training does not read episodes again.
            None if lost > newest => {
                self.context.note(&format!("the {what} of step {first} are lost"));
                return Ok(Some((newest, dir)));
            }
            None => {
                let path = run.path().to_owned();
                return Err(RunDirError::LostStep { path, what, step: first });
            }
        }
        Ok(whole)
    }

    /// Saves the steps before a failed one; a step that was begun is not part of the run.
    pub(super) fn rescue(
        &self,
        mut session: Session<'_>,
        error: TrainError,
        step: usize,
        run: Option<&RunDir>,
    ) -> TrainError {
        let is_whole = session.log.num_rows() == session.learner.numbers.step + 1;
        let skipped_since = faults::skipped_since(session.log.history())
            .or_else(|| faults::is_not_finite(&error).then_some(step));
        let is_healthy = self.context.health.check().is_ok();
        if is_whole
            && is_healthy
            && session.learner.is_intact()
            && let Err(source) = session.save_as(skipped_since)
        {
            let error = with_causes(&error);
            return TrainError::NotSaved { step, error, source: Box::new(source) };
        }
        let healthy = session.keeper.as_ref().and_then(Keeper::newest_healthy);
        // The weights after that step are those that are in doubt.
        let from = skipped_since.and(healthy);
        let run = run.map(|it| it.path().to_owned());
        TrainError::AtStep { step, run, from, source: Box::new(error) }
    }
}
