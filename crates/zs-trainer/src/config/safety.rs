//! Checkpoints of a training run, and the faults that it tolerates.

use serde::{Deserialize, Serialize};

use super::{Check, RunFileError, ensure};
use crate::components::Components;

/// Times at which a run is saved, besides its end and an interruption.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CheckpointConfig {
    /// Interval in steps; 0 for never.
    pub every: usize,
    /// Interval in minutes: the run is saved at the end of the first step that ends this long after the
    /// last checkpoint; 0 for never.
    pub minutes: f64,
    /// Number of newest checkpoints that are kept. The second serves where the newest is damaged.
    pub keep_last: usize,
}

impl Default for CheckpointConfig {
    fn default() -> Self {
        Self { every: 20, minutes: 30.0, keep_last: 2 }
    }
}

impl Check for CheckpointConfig {
    fn check(&self, _: &Components) -> Result<(), RunFileError> {
        let is_time = self.minutes.is_finite() && self.minutes >= 0.0;
        ensure(is_time, "training.checkpoints.minutes", "0 or more", self.minutes)?;
        let kept = self.keep_last;
        ensure(kept > 0, "training.checkpoints.keep_last", "at least 1", kept)
    }
}

/// Faults that a run tolerates before it stops.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct FaultPolicy {
    /// Treatment of an episode in which a search failed.
    pub failed_search: FailedSearch,
    /// Maximum number of times that such an episode is played again, with
    /// [`FailedSearch::Resample`].
    pub max_resamples: u32,
    /// Maximum fraction of a step's searches that may fail. Above it the run stops before it learns from
    /// the step.
    pub max_failure_rate: f64,
    /// Number of consecutive skipped steps, whose loss or gradient was not finite, at which the run
    /// stops.
    pub max_skipped_steps: usize,
}

/// Treatment of an episode in which a search failed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FailedSearch {
    /// The policy is told that the search failed, and continues.
    #[default]
    Observe,
    /// The episode is replaced by a new sample. One that fails each time is left out of its group.
    Resample,
}

impl Default for FaultPolicy {
    fn default() -> Self {
        Self {
            failed_search: FailedSearch::Observe,
            max_resamples: 2,
            max_failure_rate: 0.5,
            max_skipped_steps: 3,
        }
    }
}

impl FaultPolicy {
    /// Maximum number of times that an episode in which a search failed is played again.
    pub(crate) fn resamples(&self) -> u32 {
        match self.failed_search {
            FailedSearch::Observe => 0,
            FailedSearch::Resample => self.max_resamples,
        }
    }
}

impl Check for FaultPolicy {
    fn check(&self, _: &Components) -> Result<(), RunFileError> {
        let rate = self.max_failure_rate;
        let key = "training.faults.max_failure_rate";
        ensure((0.0..=1.0).contains(&rate), key, "in [0, 1]", rate)?;
        let skipped = self.max_skipped_steps;
        ensure(skipped > 0, "training.faults.max_skipped_steps", "at least 1", skipped)
    }
}
