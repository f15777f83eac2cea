//! State of one call of the loop.

use super::collect::Collector;
use super::faults;
use super::keeper::Keeper;
use super::learner::Learner;
use super::log::Log;
use super::observe::Observers;
use crate::TrainError;
use crate::rollouts::RecordedGroup;
use crate::run_dir_error::RunDirError;

/// State of one call of the loop.
pub(super) struct Session<'a> {
    pub(super) collector: Collector<'a>,
    pub(super) learner: Learner<'a>,
    pub(super) log: Log,
    pub(super) observers: Observers<'a>,
    pub(super) keeper: Option<Keeper<'a>>,
}

impl Session<'_> {
    /// Completes the metrics of a step, writes them, and tells callbacks; returns why one of them
    /// stops the run.
    pub(super) fn end_step(
        &mut self,
        step: usize,
        groups: Vec<RecordedGroup>,
    ) -> Result<Option<String>, TrainError> {
        let alarms = self.observers.alarms(&mut self.log.metrics)?;
        let (times, metrics) = self.log.end_step(step)?;
        Ok(self.observers.step(step, metrics, &times, &groups, &alarms)?)
    }

    pub(super) fn save(&mut self) -> Result<(), RunDirError> {
        let skipped_since = faults::skipped_since(self.log.history());
        self.save_as(skipped_since)
    }

    /// Saves a run that is at skipped steps since some step, or is not.
    pub(super) fn save_as(&mut self, skipped_since: Option<usize>) -> Result<(), RunDirError> {
        let Some(keeper) = &mut self.keeper else { return Ok(()) };
        self.observers.sync()?;
        keeper.write(&mut self.learner, &mut self.log, skipped_since)
    }
}
