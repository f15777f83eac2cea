//! Reinforcement learning with a search engine: the loop that everything else exists for.

use std::sync::Arc;

use anyhow::{Context, Result};
use tracing::info_span;
use zs_core::{Question, SearchEngine};
use zs_curriculum::{Curriculum, Progress};
use zs_model::{Generator, LanguageModel, OptimizerConfig, TokenRow, ValueNetwork};
use zs_rl::consult::ConsultRegistry;
use zs_rl::{Algorithm, RewardResources, RolloutConfig};

use super::collect::Collector;
use super::keeper::Keeper;
use super::learner::Learner;
use super::log::{Kept, Log};
use super::observe::{Observe, Observers};
use super::{Metrics, faults};
use crate::alarm::AlarmRecord;
use crate::checkpoint::Checkpoints;
use crate::config::{CriticConfig, TrainingConfig};
use crate::console::Console;
use crate::engines::Engines;
use crate::files::RunDir;
use crate::interrupt::Interrupt;
use crate::trace;

pub use super::rollouts::RecordedGroup;
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
#[derive(Clone, Debug, Default)]
pub struct Aids {
    /// What rewards need beside the episodes.
    pub resources: RewardResources,
    /// Agents that the policy may consult. Validation goes without them.
    pub consultants: Option<ConsultRegistry>,
    /// Whether somebody has asked for an end; a run ends at once after its next step then.
    pub interrupt: Interrupt,
    /// What it is watched for and with.
    pub observe: Observe,
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
    /// Whether the run was interrupted: it is saved and not finished.
    pub interrupted: bool,
    /// Alarms, each where it was raised.
    pub alarms: Vec<AlarmRecord>,
}

impl Training<'_> {
    /// Trains the policy, writing metrics, episodes and checkpoints into `run`.
    ///
    /// ```text
    /// for step in 1..=steps:
    ///     noise probability -> questions -> rollout -> reward -> update -> log -> validate -> save
    /// ```
    ///
    /// # Errors
    ///
    /// Fails when the rollout or the update does, when more goes wrong than the run's
    /// [`FaultPolicy`](crate::config::FaultPolicy) bears, or when a file cannot be written. What was
    /// learned until then is saved, if that is possible.
    pub fn run(&self, run: &RunDir, console: &Console) -> Result<Trained> {
        let algorithm = zs_rl::algorithm::builtin().build(&self.config.algorithm, &())?;
        let learner = Learner::new(self, algorithm.as_ref())?;
        let log = Log::open(run, Kept::None, self.engines.is_some())?;
        self.train(run, console, algorithm.as_ref(), learner, log)
    }

    /// Goes on from the newest whole checkpoint of `run`, or begins again where there is none yet.
    ///
    /// What comes out is the same, byte for byte, as if the run had not been interrupted: metrics,
    /// episodes, checkpoints and weights. Whatever was written after the checkpoint is taken back
    /// first.
    ///
    /// # Errors
    ///
    /// As [`run`](Self::run); and when every checkpoint is damaged.
    pub fn resume(&self, run: &RunDir, console: &Console) -> Result<Trained> {
        let algorithm = zs_rl::algorithm::builtin().build(&self.config.algorithm, &())?;
        let checkpoints = Checkpoints::of(run, self.config.checkpoints.keep_last);
        let (learner, kept) = match checkpoints.newest(console)? {
            None => {
                console.note("no checkpoint yet: the run begins again");
                (Learner::new(self, algorithm.as_ref())?, Kept::Nothing)
            }
            Some((step, dir)) => {
                let learner = Learner::load(self, algorithm.as_ref(), &dir)
                    .with_context(|| format!("{}: cannot resume from", dir.display()))?;
                if let Some(engines) = self.engines {
                    engines.restore(learner.state.usage.clone(), &learner.state.budgets);
                }
                console.note(&format!("goes on after step {step}"));
                (learner, Kept::Until(step))
            }
        };
        let log = Log::open(run, kept, self.engines.is_some())?;
        self.train(run, console, algorithm.as_ref(), learner, log)
    }

    fn train(
        &self,
        run: &RunDir,
        console: &Console,
        algorithm: &dyn Algorithm,
        mut learner: Learner<'_>,
        mut log: Log,
    ) -> Result<Trained> {
        let steps = self.config.schedule.steps;
        let mut keeper = Keeper::new(run, self.config.checkpoints, self.engines);
        let mut collector = Collector::new(self, algorithm.requirements().dynamic_sampling)?;
        let curriculum = zs_curriculum::builtin().build(&self.config.curriculum, &())?;
        let parts = (algorithm, curriculum.as_ref());
        let progress = console.training(self.title, steps);
        let max_searches = self.config.rollout.max_searches;
        let observe = &self.aids.observe;
        let mut observers = Observers::begin(run, observe, max_searches, log.history(), progress)?;
        self.follow(&learner.policy);
        if log.num_rows() == 0 {
            learner.best.score = self.validate(&learner.policy, &mut log)?;
            log.costs(self.engines, 0)?;
            observers.step(&mut log.metrics, &log.timings)?;
            log.end_step(0)?;
            keeper.write(&mut learner, &mut log)?;
        }
        observers.progress.advance(learner.state.step, "resumed");
        while learner.state.step < steps {
            let done = learner.state.step;
            if let Err(error) =
                self.step(parts, &mut collector, &mut learner, &mut log, &mut observers)
            {
                // A step that was begun is not part of the run; the steps before it are.
                let is_whole = log.num_rows() == learner.state.step + 1;
                if is_whole && learner.is_intact() {
                    keeper.write(&mut learner, &mut log).context("after an error")?;
                }
                return Err(error).with_context(|| {
                    let run = run.path().display();
                    format!("step {}, after which `zs train --resume {run}` goes on", done + 1)
                });
            }
            observers.progress.advance(1, &log.headline());
            if let Some(reason) = self.engine.exhausted() {
                console.note(&format!("stopped after step {}: {reason}", learner.state.step));
                break;
            }
            let interrupted = self.aids.interrupt.is_set() && learner.state.step < steps;
            if interrupted || keeper.is_due(learner.state.step) {
                keeper.write(&mut learner, &mut log)?;
                log.timings.lap("checkpoint");
            }
            if interrupted {
                let alarms =
                    observers.finish(&format!("interrupted after step {}", learner.state.step));
                let run = run.path().display();
                console.note(&format!("saved; `zs train --resume {run}` goes on"));
                return Ok(Trained { alarms, ..log.interrupted(&learner) });
            }
        }
        let last = run.join("checkpoints/final");
        learner.policy.save(&last)?;
        if let Some(values) = learner.values() {
            values.save(&last)?;
        }
        learner.best.save(run)?;
        let alarms = observers.finish(&format!("kept step {}", learner.best.step));
        Ok(Trained { alarms, ..log.finish(run, &learner, self)? })
    }

    /// One step: play, learn, log, validate.
    fn step(
        &self,
        (algorithm, curriculum): (&dyn Algorithm, &dyn Curriculum),
        collector: &mut Collector<'_>,
        learner: &mut Learner<'_>,
        log: &mut Log,
        observers: &mut Observers,
    ) -> Result<()> {
        let TrainingConfig { schedule, rollout, .. } = self.config;
        let step = learner.state.step + 1;
        let _span = info_span!("step", step).entered();
        let successes = log.success_rates();
        let so_far = Progress::new(step, schedule.steps).after(&successes);
        let turns = 0..rollout.max_searches.max(1);
        let noise: Vec<f64> =
            turns.map(|turn| curriculum.noise_probability(so_far.at_turn(turn))).collect();
        let noise_probability = noise[0];
        let next_question = learner.state.next_question;
        let collected = collector.collect(step, &learner.policy, &noise.into(), next_question)?;
        faults::check_searches(&collected, self)?;
        log.timings.lap("rollout");
        log.timings.split_rollout(trace::take_rollout_times());

        let learned =
            info_span!("update").in_scope(|| learner.learn(algorithm, &collected.groups))?;
        learner.state.next_question = collected.next_question;
        learner.state.num_searches += collected.stats.num_searches as u64;
        self.follow(&learner.policy);
        log.timings.lap("update");

        log.metrics = Metrics::of_step(step);
        log.metrics.set("curriculum/noise_probability", noise_probability);
        log.collected(&collected);
        log.metrics.extend(learned.values);
        observers.episodes(&collected.groups);
        let is_skipped = !learned.skipped.is_empty();
        let every = schedule.record_every;
        if is_skipped || (every > 0 && step.is_multiple_of(every)) {
            log.record(step, noise_probability, collected, learned.advantages)?;
        }
        log.timings.lap("record");
        if step.is_multiple_of(schedule.eval_every) || step == schedule.steps {
            let score = self.validate(&learner.policy, log)?;
            learner.best.consider(step, &learner.policy, score);
        }
        log.costs(self.engines, step)?;
        observers.step(&mut log.metrics, &log.timings)?;
        log.end_step(step)?;
        faults::check_skipped(&learned.skipped, log.history(), self.config.faults)
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

    /// The policy's score on the validation questions, where there are any.
    fn validate(&self, policy: &LanguageModel, log: &mut Log) -> Result<Option<f64>> {
        let Some(validation) = &self.validation else { return Ok(None) };
        let _span = info_span!("validation").entered();
        let batch_size = self.config.schedule.eval_batch_size;
        let rollout = &self.config.rollout;
        let score = validation.run(policy, rollout, batch_size, self.seed, &mut log.metrics)?;
        log.timings.lap("validation");
        Ok(Some(score))
    }

    pub(super) fn optimizer_config(&self) -> OptimizerConfig {
        let TrainingConfig { optimizer, schedule, update, .. } = self.config;
        let total_steps = match optimizer.total_steps {
            0 => schedule.steps * update.mini_batches * update.epochs,
            given => given,
        };
        OptimizerConfig { total_steps, ..optimizer.clone() }
    }

    /// How the value model learns.
    pub(super) fn critic_optimizer_config(&self) -> OptimizerConfig {
        let CriticConfig { learning_rate, warmup_steps } = self.config.critic;
        OptimizerConfig { learning_rate, warmup_steps, ..self.optimizer_config() }
    }
}
