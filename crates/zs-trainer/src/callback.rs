//! Callbacks: code that sees each step of training, may stop it, and changes nothing else.

use std::fmt::Debug;

use zs_core::caught;
use zs_core::registry::BoxedError;

use crate::alarm::AlarmRecord;
use crate::callback_error::CallbackError;
use crate::metrics::Metrics;
use crate::rollouts::RecordedGroup;
use crate::times::StepTimes;

/// Observer of a training run: a tracker, a dashboard, a rule that ends the run.
///
/// # Implementing
///
/// Every method has a default that does nothing. A callback cannot change the run except by ending
/// it, so a run writes the same bytes with and without it. One that fails or panics ends the run
/// after the step, saved and resumable.
///
/// ```
/// use zs_core::registry::BoxedError;
/// use zs_trainer::{Callback, Flow, StepReport};
///
/// /// Ends a run once its mean reward is high enough.
/// #[derive(Debug)]
/// struct StopAt(f64);
///
/// impl Callback for StopAt {
///     fn name(&self) -> &'static str {
///         "stop_at"
///     }
///
///     fn step(&mut self, report: &StepReport<'_>) -> Result<Flow, BoxedError> {
///         let reward = report.metrics.get("reward/mean").unwrap_or(0.0);
///         Ok(if reward >= self.0 { Flow::Stop } else { Flow::Continue })
///     }
/// }
/// ```
pub trait Callback: Debug {
    /// Name in messages.
    fn name(&self) -> &'static str;

    /// Called once, before the first step of this process; `history` holds the steps that an earlier
    /// process has made.
    ///
    /// # Errors
    ///
    /// Ends the run.
    fn begin(&mut self, history: &[Metrics]) -> Result<(), BoxedError> {
        let _ = history;
        Ok(())
    }

    /// Called after each step, once all of it is written; step 0 is the validation before the first.
    ///
    /// # Errors
    ///
    /// Ends the run after this step.
    fn step(&mut self, report: &StepReport<'_>) -> Result<Flow, BoxedError> {
        let _ = report;
        Ok(Flow::Continue)
    }

    /// Called once with the outcome, unless the run failed.
    fn finish(&mut self, outcome: &str) {
        let _ = outcome;
    }
}

/// Decision of a callback.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Flow {
    /// Continues the run.
    #[default]
    Continue,
    /// Saves the run and ends it after this step.
    Stop,
}

/// Report of a finished step.
#[derive(Clone, Copy, Debug)]
pub struct StepReport<'a> {
    /// Number of the step, from 1; 0 is the validation before the first.
    pub step: usize,
    /// Steps of the whole run.
    pub total_steps: usize,
    /// Metrics, as in `metrics.jsonl`.
    pub metrics: &'a Metrics,
    /// Seconds of each part, as in `timings.jsonl`.
    pub times: &'a StepTimes,
    /// Episodes with their rewards and advantages; empty at step 0.
    pub groups: &'a [RecordedGroup],
    /// Alarms that were raised at this step.
    pub alarms: &'a [AlarmRecord],
}

/// Calls a callback, with a panic as an error.
pub(crate) fn guarded<T>(
    callback: &mut dyn Callback,
    call: impl FnOnce(&mut dyn Callback) -> Result<T, BoxedError>,
) -> Result<T, CallbackError> {
    let name = callback.name();
    match caught(|| call(callback)) {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(source)) => Err(CallbackError::Failed { name, source }),
        Err(message) => Err(CallbackError::Panicked { name, message }),
    }
}
