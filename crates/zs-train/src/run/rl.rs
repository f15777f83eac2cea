//! Reinforcement learning with a search engine: the loop that everything else exists for.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result};
use burn::module::Module;
use serde::{Deserialize, Serialize};
use zs_core::{Document, Question, SearchEngine};
use zs_curriculum::Progress;
use zs_model::{LanguageModel, Optimizer, OptimizerConfig, TokenRow, ValueNetwork};
use zs_rl::{
    Companions, Critic, LearningState, RewardedTrajectory, TrajectoryGroup, ValueLearner,
    update_with, write_records,
};
use zs_simulator::world::query_names_entity;

use super::collect::{Collected, Collector};
use super::sft::{next_batch, read_rows};
use super::validation::{self, Best};
use super::{EpochOrder, Metrics, Timings};
use crate::config::{CriticConfig, TrainConfig, TrainingConfig, load};
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
    /// The value model to start from, for algorithms that have one; one that says 0 everywhere where
    /// there is none.
    pub values: Option<ValueNetwork>,
    /// Curated texts to keep likely; may be empty.
    pub texts: &'a [TokenRow],
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
        let algorithm = self.config.algorithm.build()?;
        let mut collector = Collector::new(self, algorithm.dynamic_sampling())?;

        let mut policy = self.policy.clone();
        let mut network = policy.network().clone().train();
        let mut optimizer = Optimizer::new(&self.optimizer_config(), &network);
        let mut reference = algorithm.needs_reference().then(|| self.policy.network().clone());
        let mut critic = algorithm.value_clip().map(|_| self.critic());
        let mut state = LearningState::default();
        let mut texts = EpochOrder::new(self.seed, self.texts.len()).walk();

        let mut log = Log::create(run)?;
        let mut best = Best::new(&policy, self.validate(&policy, &mut log)?);
        log.end_step(0)?;
        let progress = console.progress(self.title, steps);
        for step in 1..=steps {
            let noise_probability =
                curriculum.noise_probability(Progress { step, total_steps: steps });
            let Collected { groups, dropped, stats, num_refills } =
                collector.collect(step, &policy, noise_probability)?;
            log.timings.lap("rollout");

            let texts = next_batch(self.texts, &mut texts, self.config.texts_per_step());
            let (updated, learned) = update_with(
                network,
                &mut optimizer,
                Companions {
                    reference: reference.as_ref(),
                    critic: critic.as_mut().map(|it| it as &mut dyn Critic),
                    ptx: &texts,
                    state: &mut state,
                },
                &groups,
                algorithm.as_ref(),
                &self.config.update,
            )
            .with_context(|| format!("step {step}"))?;
            network = updated;
            policy = policy.with_network(&network);
            if schedule.reference_every > 0 && step % schedule.reference_every == 0 {
                reference = reference.map(|_| policy.network().clone());
            }
            log.timings.lap("update");

            log.metrics = Metrics::of_step(step);
            log.metrics.set("curriculum/noise_probability", noise_probability);
            log.metrics.extend(stats.metrics());
            log.metrics.extend(learned.values);
            if let Some(num_refills) = num_refills {
                log.metrics.set("rollout/num_refills", num_refills as f64);
                log.metrics.set("rollout/num_dropped_groups", dropped.len() as f64);
            }
            let groups = [groups, dropped].concat();
            log.rewards(&groups);
            log.num_searches += stats.num_searches as u64;
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
        let last = run.join("checkpoints/final");
        policy.save(&last)?;
        if let Some(critic) = &critic {
            critic.model().save(&last)?;
        }
        best.save(run)?;
        progress.finish(&format!("kept step {}", best.step));
        log.finish(run, &best, self)
    }

    /// The value model and its optimiser.
    fn critic(&self) -> ValueLearner<ValueNetwork> {
        let values = self.values.clone();
        let values = values.unwrap_or_else(|| ValueNetwork::from_policy(self.policy.network()));
        let network = values.train();
        let CriticConfig { learning_rate, warmup_steps } = self.config.critic;
        let config = OptimizerConfig { learning_rate, warmup_steps, ..self.optimizer_config() };
        let optimizer = Optimizer::new(&config, &network);
        ValueLearner::new(network, optimizer)
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
        let num_even = groups.iter().filter(|it| it.is_even()).count();
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
    let values_dir = config.policy.join("value");
    let values = match values_dir.exists() {
        true => Some(ValueNetwork::load(&config.policy, policy.config(), &device)?),
        false => None,
    };
    let texts = match &config.training.ptx {
        Some(ptx) => read_rows(&ptx.path, &policy)?,
        None => Vec::new(),
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
        values,
        texts: &texts,
        config: &config.training,
        seed: config.seed,
    };
    training.run(&run, console)?;
    console.note(&format!("wrote {}", run.path().display()));
    Ok(())
}
