//! Log of a reinforcement learning run: metrics, episodes, costs and its summary.

use std::path::Path;

use zs_core::Document;
use zs_core::query_names_entity;
use zs_data::{DataError, FileError, JsonLinesWriter, RowReader, count_whole_lines};
use zs_rl::{RewardedTrajectory, RolloutStats, SearchesThatMattered, TrajectoryGroup};

use super::collect::Collected;
use super::learner::Learner;
use super::{Trained, Trainer};
use crate::alarm::AlarmRecord;
use crate::audit::AuditWriter;
use crate::engines::{self, Engines};
use crate::environment::Machine;
use crate::files::{RunDir, SUMMARY};
use crate::metrics::{Metrics, Timings};
use crate::rollouts::{RecordedGroup, Rollouts};
use crate::run_dir_error::RunDirError;
use crate::times::StepTimes;

/// Log of a run.
pub(super) struct Log {
    pub(super) metrics: Metrics,
    pub(super) timings: Timings,
    history: Vec<Metrics>,
    metrics_file: JsonLinesWriter,
    /// `None` without a run directory.
    rollouts: Option<Rollouts>,
    /// `None` without engines whose costs are recorded.
    costs_file: Option<JsonLinesWriter>,
    pub(super) audit: AuditWriter,
}

/// Part of the files of a run that a process begins with.
#[derive(Clone, Copy)]
pub(super) enum History {
    /// Nothing: the files are created.
    Fresh,
    /// Nothing: the files of an earlier process are emptied.
    Discarded,
    /// The first validation and the steps up to this one.
    Until(usize),
}

impl Log {
    /// Opens the files of a run, and truncates existing ones to the steps that are kept.
    pub(super) fn open(
        run: Option<&RunDir>,
        kept: History,
        with_costs: bool,
        machine: Machine,
    ) -> Result<Self, RunDirError> {
        let Some(run) = run else { return Ok(Self::discarding()) };
        let done = match kept {
            History::Fresh | History::Discarded => None,
            History::Until(step) => Some(step),
        };
        let rows = done.map_or(0, |it| it + 1);
        let lines = |name: &str, rows: usize| match kept {
            History::Fresh => run.json_lines(name),
            History::Discarded | History::Until(_) => {
                JsonLinesWriter::resume(&run.join(name), rows)
            }
        };
        let rollouts = Rollouts::of(run);
        rollouts.rewind(rows.saturating_sub(1))?;
        let metrics_file = lines(METRICS, rows)?;
        let costs = || lines(STEP_COSTS, rows);
        Ok(Self {
            metrics: Metrics::of_step(0),
            timings: match kept {
                History::Fresh => Timings::create(run)?,
                History::Discarded | History::Until(_) => Timings::resume(run, 0, rows)?,
            },
            history: read_metrics(run.path())?,
            metrics_file,
            rollouts: Some(rollouts),
            costs_file: with_costs.then(costs).transpose()?,
            audit: AuditWriter::begin(run, done, machine)?,
        })
    }

    /// Creates a log that is kept in memory alone.
    fn discarding() -> Self {
        Self {
            metrics: Metrics::of_step(0),
            timings: Timings::over(JsonLinesWriter::discarding()),
            history: Vec::new(),
            metrics_file: JsonLinesWriter::discarding(),
            rollouts: None,
            costs_file: None,
            audit: AuditWriter::discarding(),
        }
    }

    /// Rows that have been written: one for the first validation, and one a step.
    pub(super) fn num_rows(&self) -> usize {
        self.history.len()
    }

    /// The metrics of the steps so far.
    pub(super) fn history(&self) -> &[Metrics] {
        &self.history
    }

    /// Waits until everything is on the disk.
    pub(super) fn sync(&mut self) -> Result<(), FileError> {
        self.metrics_file.sync()?;
        self.timings.sync()?;
        self.audit.sync()?;
        self.costs_file.as_mut().map_or(Ok(()), JsonLinesWriter::sync)
    }

    /// Success rates of the steps so far, as logged, for a curriculum with feedback.
    pub(super) fn success_rates(&self) -> Vec<f64> {
        self.history.iter().filter_map(|it| it.get(SUCCESS_RATE)).collect()
    }

    /// Records the episodes of a step and their rewards.
    pub(super) fn collected(&mut self, collected: &Collected) {
        let Collected { groups, dropped, stats, temperature, num_refills, .. } = collected;
        self.metrics.set("rollout/temperature", f64::from(*temperature));
        self.metrics.extend(stats.metrics());
        if let Some(of_branches) = &collected.of_branches {
            self.metrics.extend(branch_metrics(stats, of_branches));
        }
        if let Some(num_refills) = num_refills {
            self.metrics.set("rollout/num_refills", *num_refills as f64);
            self.metrics.set("rollout/num_dropped_groups", dropped.len() as f64);
        }
        if collected.num_resampled > 0 {
            self.metrics.set("rollout/num_resampled", collected.num_resampled as f64);
            self.metrics.set("rollout/num_failed_episodes", collected.num_failed as f64);
        }
        let played: Vec<&TrajectoryGroup> = groups.iter().chain(dropped).collect();
        self.metrics.extend(metrics_of_episodes(&played));
    }

    /// Writes the episodes of a step where they are recorded, and takes their digests.
    pub(super) fn episodes(
        &mut self,
        step: usize,
        groups: &[RecordedGroup],
        is_recorded: bool,
    ) -> Result<(), RunDirError> {
        let rollouts = self.rollouts.as_ref().filter(|_| is_recorded);
        let file = rollouts.map(|it| it.write(step, groups)).transpose()?;
        self.audit.episodes(groups, file);
        Ok(())
    }

    /// Records the cost of the step, as metrics and in a file of its own.
    pub(super) fn costs(
        &mut self,
        engines: Option<&Engines>,
        step: usize,
    ) -> Result<(), FileError> {
        let (Some(engines), Some(file)) = (engines, &mut self.costs_file) else { return Ok(()) };
        let costs = engines::step_metrics(engines, &mut self.metrics);
        file.push(&serde_json::json!({ "step": step, "engines": costs }))
    }

    /// Writes the lines of a step; returns the seconds of its parts and its metrics.
    pub(super) fn end_step(&mut self, step: usize) -> Result<(StepTimes, &Metrics), FileError> {
        self.audit.end_step(step, &self.metrics)?;
        self.metrics_file.push(&self.metrics)?;
        self.timings.lap("other");
        let times = self.timings.times();
        self.timings.end_step(step)?;
        Ok((times, self.history.push_mut(std::mem::take(&mut self.metrics))))
    }

    /// Writes the summary of a finished run.
    pub(super) fn summarize(
        &mut self,
        run: &RunDir,
        learner: &Learner<'_>,
        trainer: &Trainer,
        stopped: Option<String>,
    ) -> Result<(), FileError> {
        let schedule = &trainer.config.schedule;
        let best = &learner.best;
        if let Some(engines) = &trainer.engines {
            run.write_json(engines::COSTS, &engines.ledger().totals())?;
        }
        run.write_json(
            SUMMARY,
            &serde_json::json!({
                "kind": "train",
                "seed": trainer.seed,
                "steps": schedule.steps,
                "episodes": schedule.steps * schedule.questions_per_step * schedule.group_size,
                "searches": learner.numbers.num_searches,
                "engine": trainer.engine.name(),
                "stopped": stopped,
                "best_step": best.step,
                "best_validation_score": best.score,
            }),
        )
    }

    /// Result of the run so far.
    pub(super) fn trained(
        self,
        learner: &Learner<'_>,
        interrupted: bool,
        alarms: Vec<AlarmRecord>,
    ) -> Trained {
        Trained {
            best: learner.best.policy.clone(),
            best_step: learner.best.step,
            metrics: self.history,
            num_searches: learner.numbers.num_searches,
            interrupted,
            alarms,
        }
    }
}

const METRICS: &str = "metrics.jsonl";
/// File of a run with the costs of each step.
const STEP_COSTS: &str = "costs.jsonl";

/// The first step that a run has lost the records of: a checkpoint of this step or a later one cannot
/// be resumed from, since what was written before it is gone.
///
/// # Errors
///
/// Fails when a file cannot be read.
pub(super) fn first_lost_step(run: &RunDir, with_costs: bool) -> Result<usize, FileError> {
    let mut lost = count_whole_lines(&run.join(METRICS))?;
    if with_costs {
        lost = lost.min(count_whole_lines(&run.join(STEP_COSTS))?);
    }
    Ok(lost)
}

/// The metrics of a run directory, one a row; a last row that was cut short is passed over.
///
/// # Errors
///
/// Fails on an unreadable file or a malformed row, and names it.
pub(super) fn read_metrics(run: &Path) -> Result<Vec<Metrics>, DataError> {
    RowReader::new("step").with_finished_lines().open(&run.join(METRICS))?.collect()
}

/// Cost of the continuations of a step's episodes.
fn branch_metrics(
    of_episodes: &RolloutStats,
    of_branches: &RolloutStats,
) -> [(&'static str, f64); 4] {
    let tokens = of_branches.tokens_sampled as f64;
    let all = of_episodes.tokens_sampled as f64 + tokens;
    [
        ("branch/num_continuations", of_branches.num_trajectories as f64),
        ("branch/num_searches", of_branches.num_searches as f64),
        ("branch/tokens_sampled", tokens),
        ("branch/tokens_sampled_frac", tokens / all.max(1.0)),
    ]
}

/// Metrics that follow from the recorded episodes of a step, without continuations: mean reward and its
/// components, success rate, and the fraction of queries that name an entity.
pub(super) fn metrics_of_episodes(groups: &[&TrajectoryGroup]) -> Vec<(String, f64)> {
    let rewarded: Vec<&RewardedTrajectory> = groups.iter().flat_map(|it| it.episodes()).collect();
    let mean = |value: &dyn Fn(&RewardedTrajectory) -> f32| {
        let sum: f64 = rewarded.iter().map(|it| f64::from(value(it))).sum();
        sum / rewarded.len().max(1) as f64
    };
    let mut metrics = vec![("reward/mean".to_owned(), mean(&|it| it.reward.total))];
    let components = rewarded.first().map_or(&[][..], |it| &it.reward.components);
    for (index, component) in components.iter().enumerate() {
        let name = format!("reward/{}", component.name);
        metrics.push((name, mean(&|it| it.reward.components[index].score)));
    }
    let num_even = groups.iter().filter(|it| it.has_zero_variance()).count();
    let even = num_even as f64 / groups.len().max(1) as f64;
    metrics.push(("reward/zero_variance_groups".to_owned(), even));
    metrics.push(("search/names_entity_frac".to_owned(), names_entity_frac(groups)));
    metrics.push((SUCCESS_RATE.to_owned(), success_rate(groups)));
    metrics.extend(counterfactual_metrics(groups));
    metrics
}

/// Cost of counterfactuals and the share of searches that mattered; empty where none was played.
fn counterfactual_metrics(groups: &[&TrajectoryGroup]) -> Vec<(String, f64)> {
    let (mut num_played, mut num_tokens) = (0, 0);
    let (mut num_valued, mut num_mattered) = (0, 0);
    for group in groups {
        for RewardedTrajectory { trajectory, .. } in &group.trajectories {
            num_played += trajectory.counterfactuals.len();
            num_tokens +=
                trajectory.counterfactuals.iter().map(|it| it.tokens_sampled).sum::<usize>();
        }
        for RewardedTrajectory { trajectory, .. } in group.episodes() {
            let searches = SearchesThatMattered::of(trajectory, &group.question.golden_answers);
            num_valued += searches.num_valued;
            num_mattered += searches.num_mattered;
        }
    }
    if num_played == 0 {
        return Vec::new();
    }
    vec![
        ("counterfactual/num_episodes".to_owned(), num_played as f64),
        ("counterfactual/tokens_sampled".to_owned(), num_tokens as f64),
        ("search/mattered_frac".to_owned(), num_mattered as f64 / num_valued.max(1) as f64),
    ]
}

/// Metric that a curriculum with feedback reads.
const SUCCESS_RATE: &str = "curriculum/success_rate";

/// Share of episodes whose answer equals a golden one, whatever they are rewarded for.
fn success_rate(groups: &[&TrajectoryGroup]) -> f64 {
    let (mut num_episodes, mut num_right) = (0_usize, 0_usize);
    for group in groups {
        for rewarded in group.episodes() {
            num_episodes += 1;
            num_right += usize::from(rewarded.trajectory.is_right(&group.question));
        }
    }
    num_right as f64 / num_episodes.max(1) as f64
}

/// Share of queries that name an entity of the question or of what was read before.
fn names_entity_frac(groups: &[&TrajectoryGroup]) -> f64 {
    let (mut num_queries, mut num_naming) = (0_usize, 0_usize);
    for group in groups {
        for rewarded in group.episodes() {
            let mut read: Vec<Document> = Vec::new();
            for search in rewarded.trajectory.searches() {
                num_queries += 1;
                num_naming +=
                    usize::from(query_names_entity(&group.question, &read, &search.query));
                read.extend_from_slice(&search.documents);
            }
        }
    }
    num_naming as f64 / num_queries.max(1) as f64
}
