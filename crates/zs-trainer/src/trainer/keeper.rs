//! Times at which a run is saved.

use std::time::{Duration, Instant};

use tracing::info_span;
use zs_model::DeviceHealth;

use super::Trainer;
use super::learner::Learner;
use super::log::Log;
use crate::checkpoint::Checkpoints;
use crate::config::CheckpointConfig;
use crate::engines::Engines;
use crate::files::RunDir;
use crate::run_dir_error::RunDirError;

/// Writes checkpoints at intervals of steps and of minutes.
pub(super) struct Keeper<'a> {
    checkpoints: Checkpoints,
    config: CheckpointConfig,
    engines: Option<&'a Engines>,
    health: &'a DeviceHealth,
    last: Instant,
    clock: fn() -> Instant,
}

impl<'a> Keeper<'a> {
    pub(super) fn new(run: &RunDir, trainer: &'a Trainer) -> Self {
        let (config, clock) = (trainer.config.checkpoints, trainer.context.clock);
        let checkpoints = Checkpoints::of(run, config.keep_last);
        let (engines, health) = (trainer.engines.as_deref(), &trainer.context.health);
        Self { checkpoints, config, engines, health, last: clock(), clock }
    }

    /// Returns true if the step that has just ended is to be saved.
    pub(super) fn is_due(&self, step: usize) -> bool {
        let CheckpointConfig { every, minutes, .. } = self.config;
        let waited = (self.clock)().saturating_duration_since(self.last);
        (every > 0 && step.is_multiple_of(every))
            || (minutes > 0.0 && waited >= Duration::from_secs_f64(minutes * 60.0))
    }

    /// Name of the newest checkpoint that is not suspect.
    pub(super) fn newest_healthy(&self) -> Option<String> {
        self.checkpoints.newest_healthy().ok().flatten()
    }

    /// Saves the learner after its last step, once the log is on the disk. `skipped_since` is the first
    /// of the skipped steps that the run is at, where it is.
    ///
    /// # Errors
    ///
    /// Fails when something cannot be written; earlier checkpoints are then as they were.
    pub(super) fn write(
        &mut self,
        learner: &mut Learner<'_>,
        log: &mut Log,
        skipped_since: Option<usize>,
    ) -> Result<(), RunDirError> {
        let _span = info_span!("checkpoint").entered();
        log.sync()?;
        if let Some(engines) = self.engines {
            (learner.numbers.usage, learner.numbers.budgets) = engines.counts();
        }
        let step = learner.numbers.step;
        self.checkpoints.write(step, skipped_since, |dir| {
            learner.save(dir)?;
            // By now every device has computed what the weights depend on.
            Ok(self.health.check()?)
        })?;
        self.last = (self.clock)();
        Ok(())
    }
}
