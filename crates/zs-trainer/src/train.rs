//! Training runs from run files: begun, resumed, replayed.

use std::path::Path;
use std::sync::Arc;

use zs_core::{Question, SearchEngine};
use zs_model::{Generator, LanguageModel, TokenRow, ValueNetwork};
use zs_rl::RewardResources;
use zs_rl::consult::HelperRegistry;
use zs_rl::judge::RubricJudge;
use zs_search::FixedEngine;

use crate::config::{TrainConfig, load};
use crate::engines::{self, Engines};
use crate::environment::Environment;
use crate::files::{RunDir, SUMMARY};
use crate::supervised::sft::read_rows;
use crate::trainer::{Comparison, Trainer, TrainerBuilder, Validation};
use crate::{LoadError, RunContext, TrainError, source};

const CONFIG: &str = "config.toml";

/// Begins a training run.
///
/// # Errors
///
/// Fails on anything wrong with the run file or what it names, before the run directory is made; and
/// as [`Trainer::run_in`].
pub fn begin(config: TrainConfig, context: &RunContext) -> Result<(), TrainError> {
    RunDir::check_free(&config.out)?;
    let prepared = Prepared::new(config, context)?;
    let environment = prepared.environment()?;
    let run = RunDir::create(&prepared.config.out)?;
    environment.write(&run)?;
    run.write_config(&prepared.config)?;
    prepared.train(&run, false)
}

/// Resumes an interrupted training run.
///
/// # Errors
///
/// As [`begin`].
pub fn resume(path: &Path, context: &RunContext) -> Result<(), TrainError> {
    let run = RunDir::open(path)?;
    if run.join(SUMMARY).exists() {
        context.note(&format!("{}: the run is finished", path.display()));
        return Ok(());
    }
    let config: TrainConfig = load(&run.join(CONFIG), &context.components)?;
    let prepared = Prepared::new(config, context)?;
    for change in prepared.environment()?.check(&run)? {
        context.note(&format!("{change}: the rest may differ in its last digits"));
    }
    prepared.train(&run, true)
}

/// Computes a recorded step of a run again; see [`Trainer::replay`].
///
/// # Errors
///
/// As [`Trainer::replay`], and when the run file or what it names cannot be read.
pub fn replay(run: &Path, step: usize, context: &RunContext) -> Result<Comparison, TrainError> {
    let config: TrainConfig = load(&run.join(CONFIG), &context.components)
        .map_err(|source| TrainError::NotATrainingRun { path: run.to_owned(), source })?;
    let loaded = Loaded::new(&config, context)?;
    let engine = Arc::new(FixedEngine::new(Vec::new()));
    // Its questions are in the record.
    let unused = vec![Question::new("", "", [""])];
    loaded.trainer(&config, engine, context).questions(unused).build()?.replay(run, step)
}

/// Models and texts of a run file, besides questions and engines.
struct Loaded {
    policy: LanguageModel,
    values: Option<ValueNetwork>,
    texts: Vec<TokenRow>,
    resources: RewardResources,
    helper_models: Option<HelperRegistry>,
}

impl Loaded {
    fn new(config: &TrainConfig, context: &RunContext) -> Result<Self, LoadError> {
        let policy = source::load_policy(&config.policy, context)?;
        let (device, devices) = (policy.device(), policy.compute_devices());
        let values = match config.policy.join("value").exists() {
            true => Some(
                ValueNetwork::load(&config.policy, policy.config(), &device)
                    .map_err(|source| {
                        let (dir, source) = (config.policy.clone(), Box::new(source));
                        LoadError::Model { dir, source }
                    })?
                    .with_devices(&devices),
            ),
            false => None,
        };
        let texts = match &config.training.ptx {
            Some(ptx) => read_rows(&ptx.path, &policy)?,
            None => Vec::new(),
        };
        let corpus = config.corpus.as_ref().map(|it| source::corpus(it, context)).transpose()?;
        let judge = config.judge.as_ref().map(|it| source::judge(it, &device)).transpose()?;
        let helper_models =
            config.helper_models.as_ref().map(|it| source::consultants(it, &device)).transpose()?;
        let judge = judge.map(|it| Arc::new(it) as Arc<dyn RubricJudge>);
        let resources = RewardResources::new(corpus.map(Into::into), judge);
        Ok(Self { policy, values, texts, resources, helper_models })
    }

    /// A trainer without questions and validation.
    fn trainer(
        self,
        config: &TrainConfig,
        engine: Arc<dyn SearchEngine>,
        context: &RunContext,
    ) -> TrainerBuilder {
        Trainer::builder(self.policy, engine)
            .config(config.training.clone())
            .seed(config.seed)
            .values(self.values)
            .texts(self.texts)
            .reward_resources(self.resources)
            .helper_models(self.helper_models)
            .alarms(config.alarms.clone())
            .context(context.clone())
    }
}

/// A trainer whose questions and engines are loaded, and its run file.
struct Prepared {
    config: TrainConfig,
    engines: Arc<Engines>,
    trainer: Trainer,
    context: RunContext,
}

impl Prepared {
    fn new(config: TrainConfig, context: &RunContext) -> Result<Self, TrainError> {
        let loaded = Loaded::new(&config, context)?;
        let read = |source| source::questions(source, config.skip_bad_rows, context);
        let questions = read(&config.questions)?;
        let policy: Arc<dyn Generator> = Arc::new(loaded.policy.clone());
        let engines = Arc::new(Engines::new(context, config.prices.clone()).with_policy(policy));
        let engine = engines.open(&config.engine)?;
        let mut builder = loaded
            .trainer(&config, Arc::clone(&engine), context)
            .questions(questions)
            .engines(Arc::clone(&engines));
        if let Some(it) = &config.validation {
            let other = it.engine.as_ref().filter(|it| **it != config.engine);
            builder = builder.validation(Validation {
                questions: read(&it.questions)?.into(),
                engine: match &it.engine {
                    Some(config) => engines.open(config)?,
                    None => Arc::clone(&engine),
                },
                training_engine: (it.side_by_side && other.is_some()).then_some(engine),
                choose_by: it.choose_by,
            });
        }
        let trainer = builder.build()?;
        Ok(Self { config, engines, trainer, context: context.clone() })
    }

    fn environment(&self) -> Result<Environment, TrainError> {
        let inputs = self.config.inputs(&self.context.components)?;
        Ok(Environment::of(&inputs, &self.context.devices)?)
    }

    fn train(mut self, run: &RunDir, resume: bool) -> Result<(), TrainError> {
        for tracker in self.config.logging.trackers() {
            self.trainer.add_callback(self.context.components.trackers.build(&tracker, run)?);
        }
        let trained = match resume {
            false => self.trainer.run_in(run)?,
            true => self.trainer.resume(run)?,
        };
        if let Some(line) = engines::summary_line(self.engines.ledger()) {
            self.context.note(&line);
        }
        if !trained.interrupted {
            self.context.note(&format!("wrote {}", run.path().display()));
        }
        Ok(())
    }
}
