//! Reinforcement learning with a search engine: the loop that everything else exists for.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result};
use burn::module::Module;
use burn::tensor::Device;
use serde::{Deserialize, Serialize};
use zs_core::{Question, SearchEngine};
use zs_curriculum::Progress;
use zs_model::{Generator, LanguageModel, Optimizer, OptimizerConfig, TokenRow, ValueNetwork};
use zs_rl::consult::ConsultRegistry;
use zs_rl::judge::RubricJudge;
use zs_rl::{
    Companions, Critic, LearningState, RewardResources, RolloutConfig, TrajectoryGroup,
    ValueLearner, update_with,
};

use super::collect::{Collected, Collector};
use super::log::{Log, SUCCESS_RATE, success_rate};
use super::sft::{next_batch, read_rows};
use super::validation::{self, Best};
use super::{EpochOrder, Metrics, trainable};
use crate::config::{CriticConfig, TrainConfig, TrainingConfig, load};
use crate::console::Console;
use crate::engines::Engines;
use crate::files::RunDir;
use crate::{device, engines, source};

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
    /// Where it comes from, if its costs are to be written and its policy is to be kept up to date.
    pub engines: Option<&'a Engines>,
    /// What checkpoints are chosen by; the last is taken where there is none.
    pub validation: Option<Validation<'a>>,
    /// The value model to start from, for algorithms that have one; one that says 0 everywhere where
    /// there is none.
    pub values: Option<ValueNetwork>,
    /// Curated texts to keep likely; may be empty.
    pub texts: &'a [TokenRow],
    /// What training may need beside all this.
    pub aids: Aids,
    /// How it learns.
    pub config: &'a TrainingConfig,
    /// Seed of everything random.
    pub seed: u64,
}

/// What training may need beside policy, questions and engine; nothing by default.
#[derive(Debug, Default)]
pub struct Aids {
    /// What rewards need beside the episodes.
    pub resources: RewardResources,
    /// Agents that the policy may consult. Validation goes without them.
    pub consultants: Option<ConsultRegistry>,
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

        let TrainingConfig { lora, memory, .. } = self.config;
        let mut network = trainable(&self.policy, lora.as_ref(), *memory, self.seed)?;
        let mut policy = self.policy.with_network(&network);
        let mut optimizer = Optimizer::new(&self.optimizer_config(), &network);
        let mut reference = algorithm.needs_reference().then(|| self.policy.network().clone());
        let mut critic = algorithm.value_clip().map(|_| self.critic());
        let mut state = LearningState::default();
        let mut texts = EpochOrder::new(self.seed, self.texts.len()).walk();

        let mut log = Log::create(run)?;
        log.costs_file = self.engines.map(|_| run.json_lines("costs.jsonl")).transpose()?;
        self.follow(&policy);
        let mut best = Best::new(&policy, self.validate(&policy, &mut log)?);
        log.end_step(0)?;
        let progress = console.progress(self.title, steps);
        for step in 1..=steps {
            let successes = log.success_rates();
            let so_far = Progress::new(step, steps).after(&successes);
            let turns = 0..self.config.rollout.max_searches.max(1);
            let noise: Vec<f64> =
                turns.map(|turn| curriculum.noise_probability(so_far.at_turn(turn))).collect();
            let noise_probability = noise[0];
            let Collected { groups, dropped, stats, temperature, num_refills } =
                collector.collect(step, &policy, &noise.into())?;
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
            self.follow(&policy);
            if schedule.reference_every > 0 && step % schedule.reference_every == 0 {
                reference = reference.map(|_| policy.network().clone());
            }
            log.timings.lap("update");

            log.metrics = Metrics::of_step(step);
            log.metrics.set("curriculum/noise_probability", noise_probability);
            log.metrics.set("rollout/temperature", f64::from(temperature));
            log.metrics.extend(stats.metrics());
            log.metrics.extend(learned.values);
            if let Some(num_refills) = num_refills {
                log.metrics.set("rollout/num_refills", num_refills as f64);
                log.metrics.set("rollout/num_dropped_groups", dropped.len() as f64);
            }
            let groups = [groups, dropped].concat();
            log.rewards(&groups);
            log.metrics.set(SUCCESS_RATE, success_rate(&groups));
            log.num_searches += stats.num_searches as u64;
            if schedule.record_every > 0 && step % schedule.record_every == 0 {
                log.record(step, noise_probability, groups)?;
            }
            if step % schedule.eval_every == 0 || step == steps {
                let exact_match = self.validate(&policy, &mut log)?;
                best.consider(step, &policy, exact_match);
            }
            progress.advance(1, &log.headline());
            log.costs(self.engines, step)?;
            log.end_step(step)?;
            if let Some(reason) = self.engine.exhausted() {
                console.note(&format!("stopped after step {step}: {reason}"));
                break;
            }
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

    /// Engines that ask the policy ask the one that has just learned.
    fn follow(&self, policy: &LanguageModel) {
        if let Some(engines) = self.engines.filter(|it| it.asks_policy()) {
            let policy: Arc<dyn Generator> = Arc::new(policy.clone());
            engines.follow(&policy);
        }
    }

    /// How episodes of a step are played.
    pub(super) fn rollout_config(&self, step: usize) -> RolloutConfig {
        let mut config = self.config.rollout.clone();
        if let Some(schedule) = self.config.temperature {
            config.temperature = schedule.temperature(step, self.config.schedule.steps);
        }
        config
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
        let beside = validation.run_beside(policy, &self.config.rollout, batch_size, self.seed)?;
        if let Some(exact_match) = beside {
            log.metrics.set(validation::BESIDE, exact_match);
        }
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

/// `zs train RUN.toml`.
///
/// # Errors
///
/// Fails on anything wrong with the run file or what it names, before the run directory is made.
pub fn command(path: &Path, console: &Console) -> Result<()> {
    train(&load(path)?, console)
}

/// Carries out a run file.
///
/// # Errors
///
/// As [`command`], but for what is wrong with the file itself.
pub fn train(config: &TrainConfig, console: &Console) -> Result<()> {
    RunDir::check_free(&config.out)?;
    let device = device::select();
    let policy = source::load_model(&config.policy, &device)?;
    let questions = source::questions(&config.questions)?;
    let asked: Arc<dyn Generator> = Arc::new(policy.clone());
    let engines = Engines::new(device.clone(), config.prices.clone()).with_policy(asked);
    let engine = engines.open(&config.engine)?;
    let validation = match &config.validation {
        None => None,
        Some(it) => {
            let engine = match &it.engine {
                Some(config) => engines.open(config)?,
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
    let aids = aids(config, &device)?;
    let run = RunDir::create(&config.out)?;
    run.write_config(config)?;
    let training = Training {
        title: "training",
        policy,
        questions: &questions,
        engine: engine.as_ref(),
        engines: Some(&engines),
        validation: validation.as_ref().map(|(questions, engine)| Validation {
            questions,
            engine: engine.as_ref(),
            beside: None,
        }),
        values,
        texts: &texts,
        aids,
        config: &config.training,
        seed: config.seed,
    };
    training.run(&run, console)?;
    if let Some(line) = engines::summary_line(engines.ledger()) {
        console.note(&line);
    }
    console.note(&format!("wrote {}", run.path().display()));
    Ok(())
}

/// Loads what rewards and rollouts need beside the rest.
fn aids(config: &TrainConfig, device: &Device) -> Result<Aids> {
    let corpus = config.corpus.as_ref().map(source::corpus).transpose()?;
    let judge = config.judge.as_ref().map(|it| source::judge(it, device)).transpose()?;
    let consultants =
        config.consultants.as_ref().map(|it| source::consultants(it, device)).transpose()?;
    let resources = RewardResources {
        corpus: corpus.map(Into::into),
        judge: judge.map(|it| Arc::new(it) as Arc<dyn RubricJudge>),
    };
    Ok(Aids { resources, consultants })
}
