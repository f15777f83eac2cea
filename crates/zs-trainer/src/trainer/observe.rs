//! Alarms and callbacks of a run.

use zs_core::registry::BoxedError;
use zs_data::FileError;

use super::Trainer;
use crate::alarm::{AlarmRecord, Watch, raised};
use crate::callback::{Callback, Flow, StepReport, guarded};
use crate::callback_error::CallbackError;
use crate::files::RunDir;
use crate::metrics::Metrics;
use crate::rollouts::RecordedGroup;
use crate::times::StepTimes;
use crate::{RunContext, TrainError};

/// Watches a run step by step.
pub(super) struct Observers<'a> {
    watch: Watch,
    records: Vec<AlarmRecord>,
    callbacks: &'a mut [Box<dyn Callback>],
    total_steps: usize,
    context: &'a RunContext,
}

impl<'a> Observers<'a> {
    /// Begins after the steps in `history`, none of a new run.
    pub(super) fn begin(
        trainer: &'a Trainer,
        run: Option<&RunDir>,
        history: &[Metrics],
        callbacks: &'a mut [Box<dyn Callback>],
    ) -> Result<Self, TrainError> {
        let max_searches = trainer.config.rollout.max_searches;
        let (watch, records) = Watch::begin(run, &trainer.alarms, max_searches, history)?;
        let total_steps = trainer.config.schedule.steps;
        for callback in &mut *callbacks {
            guarded(callback.as_mut(), |it| it.begin(history))?;
        }
        Ok(Self { watch, records, callbacks, total_steps, context: &trainer.context })
    }

    /// Adds the number of alarms that are on to the metrics of a step; returns those that it raised.
    pub(super) fn alarms(&mut self, metrics: &mut Metrics) -> Result<Vec<AlarmRecord>, FileError> {
        let records = self.watch.observe(metrics)?;
        let raised = raised(&records);
        self.records.extend(records);
        Ok(raised)
    }

    /// Waits until the alarms are on the disk.
    pub(super) fn sync(&mut self) -> Result<(), FileError> {
        self.watch.sync()
    }

    /// Tells callbacks of a finished step; returns why one of them stops the run.
    pub(super) fn step(
        &mut self,
        step: usize,
        metrics: &Metrics,
        times: &StepTimes,
        groups: &[RecordedGroup],
        alarms: &[AlarmRecord],
    ) -> Result<Option<String>, CallbackError> {
        let total_steps = self.total_steps;
        let report = StepReport { step, total_steps, metrics, times, groups, alarms };
        let mut stopped = None;
        for callback in &mut *self.callbacks {
            if guarded(callback.as_mut(), |it| it.step(&report))? == Flow::Stop {
                stopped = Some(format!("callback `{}` stopped the run", callback.name()));
            }
        }
        Ok(stopped)
    }

    /// Tells callbacks the outcome; returns the alarms that were raised.
    pub(super) fn finish(self, outcome: &str) -> Vec<AlarmRecord> {
        for callback in self.callbacks {
            let told = guarded(callback.as_mut(), |it| {
                it.finish(outcome);
                Ok::<(), BoxedError>(())
            });
            if let Err(error) = told {
                self.context.note(&error.to_string());
            }
        }
        raised(&self.records)
    }
}
