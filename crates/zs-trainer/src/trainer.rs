//! Reinforcement learning with a search engine: the training loop.

mod audit;
mod builder;
mod collect;
mod faults;
mod keeper;
mod learner;
mod log;
mod observe;
mod publish;
mod recovery;
mod replay;
mod session;
mod validation;

use std::sync::Arc;

use tracing::info_span;
use zs_core::{Question, SearchEngine, caught};
use zs_curriculum::{Curriculum, Progress};
use zs_model::{LanguageModel, OptimizerConfig, TokenRow, ValueNetwork};
use zs_rl::consult::HelperRegistry;
use zs_rl::program::Harness;
use zs_rl::{Algorithm, RewardFunction};

pub use self::audit::{Audit, AuditOptions, StepAudit};
pub use self::builder::TrainerBuilder;
pub use self::replay::{Comparison, Difference};
pub use self::validation::Validation;

use self::collect::Collector;
use self::keeper::Keeper;
use self::learner::Learner;
use self::log::{History, Log};
use self::observe::Observers;
use self::session::Session;
use crate::alarm::AlarmRecord;
use crate::callback::Callback;
use crate::checkpoint::Checkpoints;
use crate::config::{AlarmsConfig, CriticConfig, TrainingConfig};
use crate::engines::Engines;
use crate::environment::Machine;
use crate::files::RunDir;
use crate::metrics::Metrics;
use crate::servers::PolicyServers;
use crate::teacher::Teacher;
use crate::{RunContext, TrainError};

/// Training of one policy: policy, questions, engine and settings, in memory.
///
/// ```no_run
/// use std::sync::Arc;
///
/// use burn::tensor::Device;
/// use zs_core::Question;
/// use zs_model::LanguageModel;
/// use zs_rl::Grpo;
/// use zs_search::Bm25Engine;
/// use zs_trainer::Trainer;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let policy = LanguageModel::load("models/qwen2.5-0.5b".as_ref(), &Device::flex())?;
/// let engine = Arc::new(Bm25Engine::open("index".as_ref())?);
/// let questions = vec![Question::new("q1", "Who wrote Hamlet?", ["Shakespeare"])];
/// let mut trainer = Trainer::builder(policy, engine).questions(questions).seed(1).build()?;
/// let trained = trainer.run()?;
/// trained.best.save("models/trained".as_ref())?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Trainer {
    title: String,
    policy: LanguageModel,
    questions: Arc<[Question]>,
    engine: Arc<dyn SearchEngine>,
    engines: Option<Arc<Engines>>,
    algorithm: Box<dyn Algorithm>,
    reward: RewardFunction,
    curriculum: Box<dyn Curriculum>,
    harness: Harness,
    validation: Option<Validation>,
    values: Option<ValueNetwork>,
    texts: Arc<[TokenRow]>,
    helper_models: Option<HelperRegistry>,
    teacher: Option<Teacher>,
    servers: Option<PolicyServers>,
    alarms: AlarmsConfig,
    callbacks: Vec<Box<dyn Callback>>,
    config: TrainingConfig,
    seed: u64,
    context: RunContext,
}

/// Result of a training run.
#[derive(Debug)]
pub struct Trained {
    /// Policy of the best validation score; the last one without validation.
    pub best: LanguageModel,
    /// Step after which that policy was taken; 0 is the policy that the run started from.
    pub best_step: usize,
    /// Metrics of each step; those of step 0 hold the first validation only.
    pub metrics: Vec<Metrics>,
    /// Searches that were carried out in training.
    pub num_searches: u64,
    /// True if the run was interrupted: it is saved and not finished.
    pub interrupted: bool,
    /// Alarms, each at the step at which it was raised.
    pub alarms: Vec<AlarmRecord>,
}

impl Trainer {
    /// Starts to build a trainer.
    #[must_use]
    pub fn builder(policy: LanguageModel, engine: Arc<dyn SearchEngine>) -> TrainerBuilder {
        TrainerBuilder::new(policy, engine)
    }

    /// Trains the policy in memory: nothing is written.
    ///
    /// # Errors
    ///
    /// As [`run_in`](Self::run_in).
    pub fn run(&mut self) -> Result<Trained, TrainError> {
        self.with_callbacks(|it, callbacks| it.begin(None, callbacks))
    }

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
    /// [`FaultPolicy`](crate::config::FaultPolicy) allows, when a callback fails, or when a file
    /// cannot be written; a panic inside a step is an error of that step. The steps until then are
    /// saved, if that is possible.
    pub fn run_in(&mut self, run: &RunDir) -> Result<Trained, TrainError> {
        self.with_callbacks(|it, callbacks| it.begin(Some(run), callbacks))
    }

    /// Resumes from the newest complete checkpoint of `run`, or restarts where there is none yet.
    ///
    /// The result is bit-exact: metrics, episodes, checkpoints and weights equal those of an
    /// uninterrupted run, unless a budget ends it earlier, since what was spent stays spent. Output of
    /// steps after the checkpoint is removed first.
    ///
    /// # Errors
    ///
    /// As [`run_in`](Self::run_in); and when every checkpoint is damaged.
    pub fn resume(&mut self, run: &RunDir) -> Result<Trained, TrainError> {
        self.with_callbacks(|it, callbacks| it.begin_again(run, None, callbacks))
    }

    /// [`resume`](Self::resume) from the checkpoint of one step; later ones are removed once the next
    /// is written.
    ///
    /// # Errors
    ///
    /// As [`resume`](Self::resume), and where there is no complete checkpoint of this step.
    pub fn resume_from(&mut self, run: &RunDir, step: usize) -> Result<Trained, TrainError> {
        self.with_callbacks(|it, callbacks| it.begin_again(run, Some(step), callbacks))
    }

    /// Adds a callback, as those that need the directory of the run.
    pub(crate) fn add_callback(&mut self, callback: Box<dyn Callback>) {
        self.callbacks.push(callback);
    }

    fn with_callbacks<T>(&mut self, run: impl FnOnce(&Self, &mut [Box<dyn Callback>]) -> T) -> T {
        let mut callbacks = std::mem::take(&mut self.callbacks);
        callbacks.insert(0, self.context.training(&self.title, self.config.schedule.steps));
        let result = run(self, &mut callbacks);
        callbacks.remove(0);
        self.callbacks = callbacks;
        result
    }

    fn begin(
        &self,
        run: Option<&RunDir>,
        callbacks: &mut [Box<dyn Callback>],
    ) -> Result<Trained, TrainError> {
        self.train(run, Learner::new(self)?, History::Fresh, callbacks)
    }

    fn begin_again(
        &self,
        run: &RunDir,
        from: Option<usize>,
        callbacks: &mut [Box<dyn Callback>],
    ) -> Result<Trained, TrainError> {
        let found = match from {
            Some(step) => {
                let dir = Checkpoints::of(run, self.config.checkpoints.keep_last).at(step)?;
                Some((step, dir))
            }
            None => self.newest_checkpoint(run)?,
        };
        let Some((step, dir)) = found else {
            self.context.note("no checkpoint yet: the run restarts");
            return self.train(Some(run), Learner::new(self)?, History::Discarded, callbacks);
        };
        let learner = Learner::load(self, &dir)?;
        if let Some(engines) = &self.engines {
            engines.restore(learner.numbers.usage.clone(), &learner.numbers.budgets);
        }
        self.context.note(&format!("resumes after step {step}"));
        self.train(Some(run), learner, History::Until(step), callbacks)
    }

    fn train<'a>(
        &'a self,
        run: Option<&'a RunDir>,
        mut learner: Learner<'a>,
        history: History,
        callbacks: &'a mut [Box<dyn Callback>],
    ) -> Result<Trained, TrainError> {
        let steps = self.config.schedule.steps;
        if let (Some(engines), Some(run)) = (&self.engines, run) {
            engines.keep_journal(run.path())?;
        }
        let machine = Machine::of(&self.context.devices);
        let mut log = Log::open(run, history, self.engines.is_some(), machine)?;
        if log.audit.is_on() {
            learner.digest_gradients();
            log.audit.begin_with(learner.weights_digest());
        }
        let mut session = Session {
            collector: Collector::new(self),
            learner,
            observers: Observers::begin(self, run, log.history(), callbacks)?,
            keeper: run.map(|it| Keeper::new(it, self)),
            log,
        };
        self.follow(&session.learner.policy);
        let mut stopped = None;
        if session.log.num_rows() == 0 {
            let score = self.validate(&session.learner.policy, 0, &mut session.log)?;
            session.learner.best.score = score;
            session.log.costs(self.engines.as_deref(), 0)?;
            stopped = session.end_step(0, Vec::new())?;
            session.save()?;
        }
        if stopped.is_none() {
            // What earlier processes have spent is not there for another step.
            stopped = self.engine.exhausted();
        }
        while stopped.is_none() && session.learner.numbers.step < steps {
            let step = session.learner.numbers.step + 1;
            let stepped = caught(|| self.step(step, &mut session));
            stopped = match stepped.unwrap_or_else(|message| Err(TrainError::Panicked { message }))
            {
                Ok(by_callback) => self.engine.exhausted().or(by_callback),
                Err(error) => return Err(self.rescue(session, error, step, run)),
            };
            if let Some(reason) = &stopped {
                self.context.note(&format!("stopped after step {step}: {reason}"));
                break;
            }
            let interrupted = step < steps && self.context.interrupt.is_set();
            if interrupted || session.keeper.as_ref().is_some_and(|it| it.is_due(step)) {
                session.save()?;
                session.log.timings.lap("checkpoint");
            }
            if interrupted {
                let alarms = session.observers.finish(&format!("interrupted after step {step}"));
                if let Some(run) = run {
                    let run = run.path().display();
                    self.context.note(&format!("saved; `zs train --resume {run}` resumes it"));
                }
                return Ok(session.log.trained(&session.learner, true, alarms));
            }
        }
        let Session { learner, mut log, observers, .. } = session;
        self.context.health.check()?;
        if let Some(run) = run {
            let last = run.join("checkpoints/final");
            learner.policy.save(&last)?;
            if let Some(values) = learner.values() {
                values.save(&last)?;
            }
            learner.best.save(run)?;
            log.audit.finish(run.path(), learner.best.step)?;
            log.sync()?;
            log.summarize(run, &learner, self, stopped)?;
        }
        let alarms = observers.finish(&format!("kept step {}", learner.best.step));
        Ok(log.trained(&learner, false, alarms))
    }

    /// Performs one step: play, learn, log, validate.
    fn step(&self, step: usize, session: &mut Session<'_>) -> Result<Option<String>, TrainError> {
        let Session { collector, learner, log, .. } = session;
        let TrainingConfig { schedule, .. } = &self.config;
        let _span = info_span!("step", step).entered();
        let noise = self.noise(step, &log.success_rates());
        let noise_probability = noise[0];
        let sampled = self.published(&learner.policy, step - 1, log)?;
        let collected =
            collector.collect(step, sampled, &noise.into(), learner.numbers.next_question)?;
        self.context.health.check()?;
        faults::check_searches(&collected, self.engine.as_ref(), self.config.faults)?;
        log.timings.lap("rollout");
        log.timings.split_rollout(self.context.take_rollout_times());
        if let Some(servers) = &self.servers {
            log.timings.extend(servers.take_numbers());
        }

        let teacher_log_probs = match &self.teacher {
            Some(teacher) => {
                let asked = || teacher.log_probs(&collected.groups, &self.policy);
                let scores = info_span!("teacher").in_scope(asked)?;
                if scores.is_some() {
                    log.timings.lap("teacher");
                }
                scores
            }
            None => None,
        };
        let scores = teacher_log_probs.as_deref();
        let learned = info_span!("update").in_scope(|| learner.learn(&collected.groups, scores))?;
        self.context.health.check()?;
        learner.numbers.next_question = collected.next_question;
        learner.numbers.num_searches += collected.num_searches() as u64;
        self.follow(&learner.policy);
        log.timings.lap("update");
        if log.audit.is_on() {
            let gradients = learner.take_gradients_digest();
            let weights = learner.weights_digest();
            log.audit.learned(gradients, weights, learner.value_weights_digest());
            log.timings.lap("audit");
        }

        log.metrics = Metrics::of_step(step);
        log.metrics.set("curriculum/noise_probability", noise_probability);
        log.collected(&collected);
        log.metrics.extend(learned.values);
        let is_skipped = !learned.skipped.is_empty();
        let every = schedule.record_every;
        let is_recorded = is_skipped || (every > 0 && step.is_multiple_of(every));
        let advantages = learned.advantages;
        let groups = collected.into_records(step, noise_probability, advantages, teacher_log_probs);
        log.episodes(step, &groups, is_recorded)?;
        log.timings.lap("record");
        if step.is_multiple_of(schedule.eval_every) || step == schedule.steps {
            let score = self.validate(&learner.policy, step, log)?;
            learner.best.consider(step, &learner.policy, score);
        }
        log.costs(self.engines.as_deref(), step)?;
        let stopped = session.end_step(step, groups)?;
        faults::check_skipped(&learned.skipped, session.log.history(), self.config.faults)?;
        Ok(stopped)
    }

    /// The noise probability of each turn of a step.
    fn noise(&self, step: usize, success_rates: &[f64]) -> Vec<f64> {
        let progress = Progress::new(step, self.config.schedule.steps).after(success_rates);
        let turns = 0..self.config.rollout.max_searches.max(1);
        turns.map(|turn| self.curriculum.noise_probability(progress.at_turn(turn))).collect()
    }

    /// The policy's score after a step on the validation questions, where there are any.
    fn validate(
        &self,
        policy: &LanguageModel,
        step: usize,
        log: &mut Log,
    ) -> Result<Option<f64>, TrainError> {
        let Some(validation) = &self.validation else { return Ok(None) };
        let _span = info_span!("validation").entered();
        let sampled = self.published(policy, step, log)?;
        let score = validation.run(self, sampled, &mut log.metrics)?;
        log.timings.lap("validation");
        Ok(Some(score))
    }

    fn optimizer_config(&self) -> OptimizerConfig {
        let TrainingConfig { optimizer, schedule, update, .. } = &self.config;
        let total_steps = match optimizer.total_steps {
            0 => schedule.steps * update.mini_batches * update.epochs,
            given => given,
        };
        OptimizerConfig { total_steps, ..optimizer.clone() }
    }

    /// Settings of the value model's optimiser.
    fn critic_optimizer_config(&self) -> OptimizerConfig {
        let CriticConfig { learning_rate, warmup_steps } = self.config.critic;
        OptimizerConfig { learning_rate, warmup_steps, ..self.optimizer_config() }
    }
}
