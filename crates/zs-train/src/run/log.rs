//! What a reinforcement learning run writes as it goes: metrics, episodes, costs and its summary.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use zs_core::{Document, exact_match};
use zs_rl::{RewardedTrajectory, TrajectoryGroup};
use zs_simulator::world::query_names_entity;

use super::collect::Collected;
use super::learner::Learner;
use super::rl::{Trained, Training};
use super::rollouts::{RecordedGroup, Rollouts};
use super::{Metrics, Timings};
use crate::engines::{self, Engines};
use crate::files::{JsonLines, RunDir, SUMMARY};

/// What a run writes as it goes.
pub(super) struct Log {
    pub(super) metrics: Metrics,
    pub(super) timings: Timings,
    history: Vec<Metrics>,
    metrics_file: JsonLines,
    rollouts: Rollouts,
    /// Only where there are engines whose costs are kept.
    costs_file: Option<JsonLines>,
}

/// How much of the files of a run is kept.
#[derive(Clone, Copy)]
pub(super) enum Kept {
    /// There are none yet.
    None,
    /// Nothing of what may be there.
    Nothing,
    /// The first validation and the steps up to this one.
    Until(usize),
}

impl Log {
    /// Opens the files of a run, and rewinds those that are there already.
    pub(super) fn open(run: &RunDir, kept: Kept, with_costs: bool) -> Result<Self> {
        let rows = match kept {
            Kept::None | Kept::Nothing => 0,
            Kept::Until(step) => step + 1,
        };
        let lines = |name: &str, rows: usize| match kept {
            Kept::None => run.json_lines(name),
            Kept::Nothing | Kept::Until(_) => JsonLines::resume(&run.join(name), rows),
        };
        let rollouts = Rollouts::of(run);
        rollouts.rewind(rows.saturating_sub(1))?;
        let metrics_file = lines(METRICS, rows)?;
        let costs = || lines("costs.jsonl", rows);
        Ok(Self {
            metrics: Metrics::of_step(0),
            timings: Timings::over(lines("timings.jsonl", rows)?),
            history: read_metrics(run.path())?,
            metrics_file,
            rollouts,
            costs_file: with_costs.then(costs).transpose()?,
        })
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
    pub(super) fn sync(&mut self) -> Result<()> {
        self.metrics_file.sync()?;
        self.costs_file.as_mut().map_or(Ok(()), JsonLines::sync)
    }

    /// The success rates of the steps so far, as they were logged: what a curriculum with feedback
    /// follows.
    pub(super) fn success_rates(&self) -> Vec<f64> {
        self.history.iter().filter_map(|it| it.get(SUCCESS_RATE)).collect()
    }

    /// What was played in a step, and what it earned.
    pub(super) fn collected(&mut self, collected: &Collected) {
        let Collected { groups, dropped, stats, temperature, num_refills, .. } = collected;
        self.metrics.set("rollout/temperature", f64::from(*temperature));
        self.metrics.extend(stats.metrics());
        if let Some(num_refills) = num_refills {
            self.metrics.set("rollout/num_refills", *num_refills as f64);
            self.metrics.set("rollout/num_dropped_groups", dropped.len() as f64);
        }
        if collected.num_resampled > 0 {
            self.metrics.set("rollout/num_resampled", collected.num_resampled as f64);
            self.metrics.set("rollout/num_failed_episodes", collected.num_failed as f64);
        }
        let played: Vec<&TrajectoryGroup> = groups.iter().chain(dropped).collect();
        self.rewards(&played);
        self.metrics.set(SUCCESS_RATE, success_rate(&played));
    }

    /// Mean reward and its components, and how many queries name what they are about.
    fn rewards(&mut self, groups: &[&TrajectoryGroup]) {
        let rewarded: Vec<&RewardedTrajectory> =
            groups.iter().flat_map(|it| &it.trajectories).collect();
        let count = rewarded.len().max(1) as f64;
        let total: f64 = rewarded.iter().map(|it| f64::from(it.reward.total)).sum();
        self.metrics.set("reward/mean", total / count);
        let components = rewarded.first().map_or(0, |it| it.reward.components.len());
        for index in 0..components {
            let name = &rewarded[0].reward.components[index].name;
            let sum: f64 =
                rewarded.iter().map(|it| f64::from(it.reward.components[index].score)).sum();
            self.metrics.set(format!("reward/{name}"), sum / count);
        }
        let num_even = groups.iter().filter(|it| it.has_zero_variance()).count();
        self.metrics.set("reward/even_groups", num_even as f64 / groups.len().max(1) as f64);
        self.metrics.set("search/names_entity_frac", names_entity_frac(groups));
    }

    /// Writes the episodes of the step: what was learned from, with its advantages, and what was
    /// replaced.
    pub(super) fn record(
        &self,
        step: usize,
        noise_probability: f64,
        collected: Collected,
        advantages: Vec<Vec<f32>>,
    ) -> Result<()> {
        let Collected { groups, dropped, .. } = collected;
        let mut advantages = advantages.into_iter();
        let learned = groups.into_iter().map(|group| RecordedGroup {
            step,
            noise_probability,
            dropped: false,
            advantages: advantages.by_ref().take(group.trajectories.len()).collect(),
            group,
        });
        let mut rows: Vec<RecordedGroup> = learned.collect();
        rows.extend(dropped.into_iter().map(|group| RecordedGroup {
            step,
            noise_probability,
            dropped: true,
            group,
            advantages: Vec::new(),
        }));
        self.rollouts.write(step, &rows)
    }

    /// What the step has cost, as metrics and in a file of its own.
    pub(super) fn costs(&mut self, engines: Option<&Engines>, step: usize) -> Result<()> {
        let (Some(engines), Some(file)) = (engines, &mut self.costs_file) else { return Ok(()) };
        let costs = engines::step_metrics(engines, &mut self.metrics);
        file.push(&serde_json::json!({ "step": step, "engines": costs }))
    }

    /// What the progress bar says about the last step that has ended.
    pub(super) fn headline(&self) -> String {
        let ended = self.history.last();
        let value = |key| ended.and_then(|it| it.get(key)).unwrap_or_default();
        let searches = value("rollout/num_searches");
        format!("reward {:.3}, {searches:.2} searches", value("reward/mean"))
    }

    pub(super) fn end_step(&mut self, step: usize) -> Result<()> {
        self.metrics_file.push(&self.metrics)?;
        self.timings.lap("other");
        self.timings.end_step(step)?;
        self.history.push(std::mem::take(&mut self.metrics));
        Ok(())
    }

    /// What a run comes to that is not finished.
    pub(super) fn interrupted(self, learner: &Learner<'_>) -> Trained {
        Trained {
            best: learner.best.policy.clone(),
            best_step: learner.best.step,
            metrics: self.history,
            num_searches: learner.state.num_searches,
            interrupted: true,
            alarms: Vec::new(),
        }
    }

    pub(super) fn finish(
        self,
        run: &RunDir,
        learner: &Learner<'_>,
        training: &Training<'_>,
    ) -> Result<Trained> {
        let schedule = &training.config.schedule;
        let best = &learner.best;
        if let Some(engines) = training.engines {
            run.write_json(engines::COSTS, &engines.ledger().totals())?;
        }
        run.write_json(
            SUMMARY,
            &serde_json::json!({
                "kind": "train",
                "seed": training.seed,
                "steps": schedule.steps,
                "episodes": schedule.steps * schedule.questions_per_step * schedule.group_size,
                "searches": learner.state.num_searches,
                "engine": training.engine.name(),
                "stopped": training.engine.exhausted(),
                "best_step": best.step,
                "best_validation_score": best.score,
            }),
        )?;
        Ok(Trained {
            best: best.policy.clone(),
            best_step: best.step,
            metrics: self.history,
            num_searches: learner.state.num_searches,
            interrupted: false,
            alarms: Vec::new(),
        })
    }
}

const METRICS: &str = "metrics.jsonl";

/// The metrics of a run directory, one a row.
///
/// # Errors
///
/// Fails on an unreadable file or a malformed row, and names it.
pub(super) fn read_metrics(run: &Path) -> Result<Vec<Metrics>> {
    let path = run.join(METRICS);
    let text =
        fs::read_to_string(&path).with_context(|| format!("{}: cannot be read", path.display()))?;
    let row = |(index, line): (usize, &str)| {
        serde_json::from_str(line).with_context(|| format!("{}: row {}", path.display(), index + 1))
    };
    text.lines().enumerate().map(row).collect()
}

/// The metric that a curriculum with feedback follows.
const SUCCESS_RATE: &str = "curriculum/success_rate";

/// Share of episodes whose answer equals a golden one, whatever they are rewarded for.
fn success_rate(groups: &[&TrajectoryGroup]) -> f64 {
    let (mut num_episodes, mut num_right) = (0_usize, 0_usize);
    for group in groups {
        for rewarded in &group.trajectories {
            let transcript = rewarded.trajectory.transcript();
            let is_right = |answer: &str| exact_match(answer, &group.question.golden_answers);
            num_episodes += 1;
            num_right += usize::from(transcript.answer().is_some_and(is_right));
        }
    }
    num_right as f64 / num_episodes.max(1) as f64
}

/// Share of queries that name an entity of the question or of what was read before.
fn names_entity_frac(groups: &[&TrajectoryGroup]) -> f64 {
    let (mut num_queries, mut num_naming) = (0_usize, 0_usize);
    for group in groups {
        for rewarded in &group.trajectories {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_headline_is_that_of_the_step_that_ended() {
        let scratch = tempfile::tempdir().expect("a scratch directory");
        let run = RunDir::create(&scratch.path().join("run")).expect("a run directory");
        let mut log = Log::open(&run, Kept::None, false).expect("files of the run");
        assert_eq!(log.headline(), "reward 0.000, 0.00 searches");
        log.metrics.set("reward/mean", 0.25);
        log.metrics.set("rollout/num_searches", 1.5);
        log.end_step(1).expect("a step on the disk");
        assert_eq!(log.headline(), "reward 0.250, 1.50 searches");
    }
}
