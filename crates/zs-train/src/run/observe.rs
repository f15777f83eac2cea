//! Whoever watches a run: alarms, `TensorBoard`, and the person at the terminal.

use anyhow::Result;
use zs_rl::TrajectoryGroup;

use super::{Metrics, Timings};
use crate::alarm::{AlarmRecord, Watch, raised};
use crate::config::{AlarmsConfig, LoggingConfig};
use crate::console::Progress;
use crate::dashboard::{Author, Sample, StepTimes};
use crate::files::RunDir;
use crate::tensorboard::EventWriter;

/// What a run is watched for and with.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Observe {
    /// Thresholds.
    pub alarms: AlarmsConfig,
    /// Files beside the metrics.
    pub logging: LoggingConfig,
}

/// Watches a run step by step.
#[derive(Debug)]
pub(super) struct Observers {
    watch: Watch,
    records: Vec<AlarmRecord>,
    events: Option<EventWriter>,
    pub(super) progress: Progress,
}

impl Observers {
    /// Begins after the steps that are `done` already: none in a new run.
    pub(super) fn begin(
        run: &RunDir,
        observe: &Observe,
        max_searches: u32,
        done: &[Metrics],
        progress: Progress,
    ) -> Result<Self> {
        let (watch, records) = Watch::begin(run, &observe.alarms, max_searches, done)?;
        let last = done.iter().filter_map(Metrics::step).max().unwrap_or(0);
        let events =
            observe.logging.tensorboard.then(|| EventWriter::begin(run, last)).transpose()?;
        Ok(Self { watch, records, events, progress })
    }

    /// The metrics of a step, complete but for what observers add; alarms that are raised are told.
    pub(super) fn step(&mut self, metrics: &mut Metrics, timings: &Timings) -> Result<()> {
        let records = self.watch.observe(metrics)?;
        for it in raised(&records) {
            self.progress.note(&format!(
                "alarm at step {}: {}: {}",
                it.step,
                it.alarm.name(),
                it.message
            ));
        }
        if let (Some(events), Some(step)) = (&mut self.events, metrics.step()) {
            events.step(step, metrics)?;
        }
        self.records.extend(records);
        if let Some(dashboard) = self.progress.dashboard() {
            let [rollout, prefill, decode, search, update, validation] =
                ["rollout", "prefill", "decode", "search", "update", "validation"]
                    .map(|it| timings.of(it));
            let times = StepTimes { rollout, prefill, decode, search, update, validation };
            dashboard.step(metrics, times);
        }
        Ok(())
    }

    /// The episodes of a step, the latest of which is shown.
    pub(super) fn episodes(&self, groups: &[TrajectoryGroup]) {
        if let (Some(dashboard), Some(group)) = (self.progress.dashboard(), groups.last()) {
            dashboard.sample(sample(group));
        }
    }

    /// Says how the run ended; returns the alarms that were raised.
    pub(super) fn finish(self, message: &str) -> Vec<AlarmRecord> {
        self.progress.finish(message);
        raised(&self.records)
    }
}

/// The first episode of a group.
fn sample(group: &TrajectoryGroup) -> Sample {
    let Some(rewarded) = group.trajectories.first() else { return Sample::default() };
    let mut parts = Vec::new();
    for (index, turn) in rewarded.trajectory.turns.iter().enumerate() {
        parts.push((Author::Policy, rewarded.trajectory.turn_text(index).into_owned()));
        parts.push((Author::Observation, turn.observation_text.clone()));
    }
    Sample {
        question: group.question.text.clone(),
        golden_answers: group.question.golden_answers.join(", "),
        reward: rewarded.reward.total,
        parts,
    }
}
