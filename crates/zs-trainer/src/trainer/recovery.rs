//! Runs that failed or lost files: what is saved, and where they resume.

use std::path::PathBuf;

use anyhow::{Result, bail};

use super::keeper::Keeper;
use super::{Session, Trainer, faults, log};
use crate::checkpoint::Checkpoints;
use crate::files::RunDir;
use crate::rollouts::Rollouts;

impl Trainer {
    /// The newest checkpoint before which nothing is lost.
    pub(super) fn newest_checkpoint(&self, run: &RunDir) -> Result<Option<(usize, PathBuf)>> {
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
            None => bail!(
                "{}: the {what} of step {first} are lost, and no checkpoint is older; restore \
                 metrics.jsonl and costs.jsonl, or start another run with another `out`",
                run.path().display()
            ),
        }
        Ok(whole)
    }

    /// Saves the steps before a failed one; a step that was begun is not part of the run.
    pub(super) fn rescue(
        &self,
        mut session: Session<'_>,
        error: anyhow::Error,
        step: usize,
        run: Option<&RunDir>,
    ) -> anyhow::Error {
        let is_whole = session.log.num_rows() == session.learner.numbers.step + 1;
        let skipped_since = faults::skipped_since(session.log.history())
            .or_else(|| faults::is_not_finite(&error).then_some(step));
        let is_healthy = self.context.health.check().is_ok();
        if is_whole
            && is_healthy
            && session.learner.is_intact()
            && let Err(error) = session.save_as(skipped_since)
        {
            return error.context("after an error");
        }
        let healthy = session.keeper.as_ref().and_then(Keeper::newest_healthy);
        match (run, skipped_since.and(healthy)) {
            (Some(run), None) => {
                let run = run.path().display();
                error.context(format!("step {step}; `zs train --resume {run}` resumes the run"))
            }
            // The weights after that step are those that are in doubt.
            (Some(run), Some(name)) => error.context(format!(
                "step {step}; `zs train --resume {} --resume-from {name}` resumes the run before its \
                 weights went wrong, with `--set KEY=VALUE` for a setting that is to change",
                run.path().display()
            )),
            (None, _) => error.context(format!("step {step}")),
        }
    }
}
