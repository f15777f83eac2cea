//! Reinforcement learning with a search engine: the loop that everything else exists for.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result};
use burn::module::Module;
use serde::{Deserialize, Serialize};
use zs_core::{Document, Question, SearchEngine, StreamKey, exact_match};
use zs_curriculum::Progress;
use zs_model::{LanguageModel, Optimizer, OptimizerConfig};
use zs_rl::{
    Episode, RewardFunction, RewardedTrajectory, RolloutOutput, TrajectoryGroup, rollout, update,
    write_records,
};
use zs_simulator::world::query_names_entity;

use super::validation::{self, Best};
use super::{EpochOrder, Metrics, Timings};
use crate::config::{TrainConfig, TrainingConfig, load};
use crate::console::Console;
use crate::files::{JsonLines, RunDir, SUMMARY};
use crate::{device, source};

pub use super::validation::Validation;

/// A training run, with everything in memory.
#[derive(Debug)]
pub struct Training<'a> {
    /// What the progress bar calls it.
    pub title: &'a str,
    /// The policy to start from.
    pub policy: LanguageModel,
    /// The training questions.
    pub questions: &'a [Question],
    /// The engine to train with.
    pub engine: &'a dyn SearchEngine,
    /// What checkpoints are chosen by; the last is taken where there is none.
    pub validation: Option<Validation<'a>>,
    /// How it learns.
    pub config: &'a TrainingConfig,
    /// Seed of everything random.
    pub seed: u64,
}

/// What a training run came to.
#[derive(Debug)]
pub struct Trained {
    /// The policy of the best validation score.
    pub best: LanguageModel,
    /// The step it was taken after; 0 is the policy that the run started from.
    pub best_step: usize,
    /// The metrics of each step; those of step 0 hold the first validation only.
    pub metrics: Vec<Metrics>,
    /// Searches that were carried out in training.
    pub num_searches: u64,
}

/// A row of `trajectories.jsonl`, wrapped by [`zs_rl::write_records`].
#[derive(Debug, Serialize, Deserialize)]
pub struct RecordedGroup {
    /// The step, from 1.
    pub step: usize,
    /// Its noise probability.
    pub noise_probability: f64,
    /// The question and its episodes.
    pub group: TrajectoryGroup,
}

impl Training<'_> {
    /// Trains the policy, writing metrics, trajectories and checkpoints into `run`.
    ///
    /// ```text
    /// for step in 1..=steps:
    ///     noise probability -> questions -> rollout -> reward -> update -> log -> validate
    /// ```
    ///
    /// # Errors
    ///
    /// Fails when the rollout or the update does, or a file cannot be written.
    pub fn run(&self, run: &RunDir, console: &Console) -> Result<Trained> {
        let TrainingConfig { schedule, .. } = self.config;
        let steps = schedule.steps;
        let curriculum = self.config.curriculum.0.build()?;
        let reward = self.config.reward.build()?;
        let algorithm = self.config.algorithm.build()?;
        let order = EpochOrder::new(self.seed, self.questions.len());

        let mut policy = self.policy.clone();
        let mut network = policy.network().clone().train();
        let mut optimizer = Optimizer::new(&self.optimizer_config(), &network);
        let reference = algorithm.needs_reference().then(|| self.policy.network().clone());

        let mut log = Log::create(run)?;
        let mut best = Best::new(&policy, self.validate(&policy, &mut log)?);
        log.end_step(0)?;
        let progress = console.progress(self.title, steps);
        for step in 1..=steps {
            let successes = log.success_rates();
            let progress_so_far = Progress::new(step, steps).after(&successes);
            let turns = 0..self.config.rollout.max_searches.max(1);
            let noise: Vec<f64> = turns
                .map(|turn| curriculum.noise_probability(progress_so_far.at_turn(turn)))
                .collect();
            let noise_probability = noise[0];
            let questions = order.step(step - 1, schedule.questions_per_step);
            let episodes = self.episodes(step, &questions);

            let config = &self.config.rollout;
            let output = rollout(&policy, self.engine, &episodes, noise, config, &mut |_| {})?;
            log.timings.lap("rollout");

            let groups = group(&output, &episodes, schedule.group_size, &reward);
            let algorithm = algorithm.as_ref();
            let (updated, learned) = update(
                network,
                &mut optimizer,
                reference.as_ref(),
                &groups,
                algorithm,
                &self.config.update,
            )
            .with_context(|| format!("step {step}"))?;
            network = updated;
            policy = policy.with_network(&network);
            log.timings.lap("update");

            log.metrics = Metrics::of_step(step);
            log.metrics.set("curriculum/noise_probability", noise_probability);
            log.metrics.extend(output.stats.metrics());
            log.metrics.extend(learned.values);
            log.rewards(&groups);
            log.metrics.set(SUCCESS_RATE, success_rate(&groups));
            log.num_searches += output.stats.num_searches as u64;
            if schedule.record_every > 0 && step % schedule.record_every == 0 {
                log.record(step, noise_probability, groups)?;
            }
            if step % schedule.eval_every == 0 || step == steps {
                let exact_match = self.validate(&policy, &mut log)?;
                best.consider(step, &policy, exact_match);
            }
            progress.advance(1, &log.headline());
            log.end_step(step)?;
        }
        policy.save(&run.join("checkpoints/final"))?;
        best.save(run)?;
        progress.finish(&format!("kept step {}", best.step));
        log.finish(run, &best, self)
    }

    /// The episodes of a step: `group_size` of each question, each under its own key.
    fn episodes(&self, step: usize, questions: &[usize]) -> Vec<Episode<'_>> {
        let group_size = self.config.schedule.group_size as u32;
        (0..)
            .zip(questions)
            .flat_map(|(group, &question)| {
                (0..group_size).map(move |sample| Episode {
                    question: &self.questions[question],
                    key: StreamKey { seed: self.seed, step: step as u64, group, sample, turn: 0 },
                })
            })
            .collect()
    }

    /// Greedy exact match on the validation questions, where there are any.
    fn validate(&self, policy: &LanguageModel, log: &mut Log) -> Result<Option<f64>> {
        let Some(validation) = &self.validation else { return Ok(None) };
        let batch_size = self.config.schedule.eval_batch_size;
        let report = validation.run(policy, &self.config.rollout, batch_size, self.seed)?;
        validation::log(&report, &mut log.metrics);
        log.timings.lap("validation");
        Ok(Some(report.overall.exact_match.mean))
    }

    fn optimizer_config(&self) -> OptimizerConfig {
        let TrainingConfig { optimizer, schedule, update, .. } = self.config;
        let total_steps = match optimizer.total_steps {
            0 => schedule.steps * update.mini_batches * update.epochs,
            given => given,
        };
        OptimizerConfig { total_steps, ..optimizer.clone() }
    }
}

/// Puts episodes back into the groups of their questions, scored.
fn group(
    output: &RolloutOutput,
    episodes: &[Episode<'_>],
    group_size: usize,
    reward: &RewardFunction,
) -> Vec<TrajectoryGroup> {
    let groups = episodes.chunks(group_size).zip(output.trajectories.chunks(group_size));
    groups
        .map(|(episodes, trajectories)| {
            let question = episodes[0].question.clone();
            let rewarded = |trajectory: &zs_rl::Trajectory| RewardedTrajectory {
                reward: reward.score(&question, &trajectory.transcript()),
                trajectory: trajectory.clone(),
            };
            let trajectories = trajectories.iter().map(rewarded).collect();
            TrajectoryGroup { trajectories, question }
        })
        .collect()
}

/// What a run writes as it goes.
struct Log {
    metrics: Metrics,
    timings: Timings,
    num_searches: u64,
    history: Vec<Metrics>,
    metrics_file: JsonLines,
    trajectories_file: JsonLines,
}

impl Log {
    fn create(run: &RunDir) -> Result<Self> {
        Ok(Self {
            metrics: Metrics::of_step(0),
            timings: Timings::create(run)?,
            num_searches: 0,
            history: Vec::new(),
            metrics_file: run.json_lines("metrics.jsonl")?,
            trajectories_file: run.json_lines("trajectories.jsonl")?,
        })
    }

    /// The success rates of the steps so far, as they were logged: what a curriculum with feedback
    /// follows.
    fn success_rates(&self) -> Vec<f64> {
        self.history.iter().filter_map(|it| it.get(SUCCESS_RATE)).collect()
    }

    /// Mean reward and its components, and how many queries name what they are about.
    fn rewards(&mut self, groups: &[TrajectoryGroup]) {
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
        let is_even = |group: &TrajectoryGroup| {
            let rewards = group.rewards();
            rewards.iter().all(|it| *it == rewards[0])
        };
        let num_even = groups.iter().filter(|it| is_even(it)).count();
        self.metrics.set("reward/even_groups", num_even as f64 / groups.len().max(1) as f64);
        self.metrics.set("search/names_entity_frac", names_entity_frac(groups));
    }

    fn record(
        &mut self,
        step: usize,
        noise_probability: f64,
        groups: Vec<TrajectoryGroup>,
    ) -> Result<()> {
        let rows = groups.into_iter().map(|group| RecordedGroup { step, noise_probability, group });
        let mut lines = Vec::new();
        write_records(&mut lines, rows).context("trajectories.jsonl")?;
        self.trajectories_file.push_bytes(&lines)
    }

    /// What the progress bar says about the step.
    fn headline(&self) -> String {
        let value = |key| self.metrics.get(key).unwrap_or_default();
        let searches = value("rollout/num_searches");
        format!("reward {:.3}, {searches:.2} searches", value("reward/mean"))
    }

    fn end_step(&mut self, step: usize) -> Result<()> {
        self.metrics_file.push(&self.metrics)?;
        self.timings.lap("other");
        self.timings.end_step(step)?;
        self.history.push(std::mem::take(&mut self.metrics));
        Ok(())
    }

    fn finish(self, run: &RunDir, best: &Best, training: &Training<'_>) -> Result<Trained> {
        let schedule = &training.config.schedule;
        run.write_json(
            SUMMARY,
            &serde_json::json!({
                "kind": "train",
                "seed": training.seed,
                "steps": schedule.steps,
                "episodes": schedule.steps * schedule.questions_per_step * schedule.group_size,
                "searches": self.num_searches,
                "engine": training.engine.name(),
                "best_step": best.step,
                "best_validation_exact_match": best.exact_match,
            }),
        )?;
        Ok(Trained {
            best: best.policy.clone(),
            best_step: best.step,
            metrics: self.history,
            num_searches: self.num_searches,
        })
    }
}

/// The metric that a curriculum with feedback follows.
const SUCCESS_RATE: &str = "curriculum/success_rate";

/// Share of episodes whose answer equals a golden one, whatever they are rewarded for.
fn success_rate(groups: &[TrajectoryGroup]) -> f64 {
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
fn names_entity_frac(groups: &[TrajectoryGroup]) -> f64 {
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

/// `zs train RUN.toml`.
///
/// # Errors
///
/// Fails on anything wrong with the run file or what it names, before the run directory is made.
pub fn command(path: &Path, console: &Console) -> Result<()> {
    let config: TrainConfig = load(path)?;
    RunDir::check_free(&config.out)?;
    let device = device::select();
    let policy = source::load_model(&config.policy, &device)?;
    let questions = source::questions(&config.questions)?;
    let engine = source::engine(&config.engine, &device)?;
    let validation = match &config.validation {
        None => None,
        Some(it) => {
            let engine = match &it.engine {
                Some(config) => source::engine(config, &device)?,
                None => Arc::clone(&engine),
            };
            Some((source::questions(&it.questions)?, engine))
        }
    };
    let run = RunDir::create(&config.out)?;
    run.write_config(&config)?;
    let training = Training {
        title: "training",
        policy,
        questions: &questions,
        engine: engine.as_ref(),
        validation: validation
            .as_ref()
            .map(|(questions, engine)| Validation { questions, engine: engine.as_ref() }),
        config: &config.training,
        seed: config.seed,
    };
    training.run(&run, console)?;
    console.note(&format!("wrote {}", run.path().display()));
    Ok(())
}
