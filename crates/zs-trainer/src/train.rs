//! Training runs from run files: begun, resumed, replayed, audited.

use std::path::Path;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use zs_core::registry::Settings;
use zs_core::{Question, SearchEngine};
use zs_data::{JsonLinesWriter, count_whole_lines, digest, read_whole_rows};
use zs_model::{Generator, LanguageModel, TokenRow, ValueNetwork};
use zs_rl::RewardResources;
use zs_rl::consult::HelperRegistry;
use zs_rl::judge::RubricJudge;
use zs_search::FixedEngine;

use crate::audit::{AuditError, AuditRecord, check_files, check_inputs};
use crate::checkpoint::{Checkpoints, file_digest};
use crate::config::{Assignment, TrainConfig, load, load_with};
use crate::engines::{self, Engines};
use crate::environment::Environment;
use crate::files::{CONFIG, RunDir, SUMMARY};
use crate::run_dir_error::RunDirError;
use crate::servers::PolicyServers;
use crate::supervised::sft::read_rows;
use crate::teacher::{ServerTeacher, Teacher};
use crate::trainer::{
    Audit, AuditOptions, Comparison, Trained, Trainer, TrainerBuilder, Validation,
};
use crate::{LoadError, RunContext, TrainError, source};

/// File of a run with the settings that were changed when it was resumed.
const CONFIG_CHANGES: &str = "config_changes.jsonl";

/// Checkpoint and settings with which a run is resumed; by default the newest, and unchanged ones.
///
/// ```
/// use zs_trainer::train::ResumeOptions;
///
/// let options = ResumeOptions { from: Some(120), ..ResumeOptions::default() };
/// assert!(options.set.is_empty());
/// ```
#[derive(Clone, Debug, Default)]
pub struct ResumeOptions {
    /// Step of the checkpoint; the newest complete one without it.
    pub from: Option<usize>,
    /// Settings that change from here on.
    pub set: Vec<Assignment>,
}

/// A change of settings: a row of `config_changes.jsonl`.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ConfigChange {
    /// SHA-256 of `config.toml` after it.
    config_sha256: String,
    set: Vec<String>,
}

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
    prepared.train(&run, |trainer, run| trainer.run_in(run))
}

/// Resumes an interrupted training run.
///
/// # Errors
///
/// As [`begin`]; and when `config.toml` was changed by other means than
/// [`set`](ResumeOptions::set).
pub fn resume(
    path: &Path,
    options: &ResumeOptions,
    context: &RunContext,
) -> Result<(), TrainError> {
    let run = RunDir::open(path)?;
    if run.join(SUMMARY).exists() {
        context.note(&format!("{}: the run is finished", path.display()));
        return Ok(());
    }
    check_unchanged(&run)?;
    let ResumeOptions { from, set } = options;
    let config: TrainConfig = load_with(&run.join(CONFIG), set, &context.components)?;
    let prepared = Prepared::new(config, context)?;
    let environment = prepared.environment()?;
    for change in environment.check(&run, !set.is_empty())? {
        context.note(&format!("{change}: the rest may differ in its last digits"));
    }
    if !set.is_empty() {
        change_config(&run, &prepared.config, set)?;
        environment.write(&run)?;
    }
    match *from {
        Some(step) => prepared.train(&run, |trainer, run| trainer.resume_from(run, step)),
        None => prepared.train(&run, Trainer::resume),
    }
}

/// Compares `config.toml` with the one that the newest checkpoint was written with, or with the last
/// change that was asked for.
fn check_unchanged(run: &RunDir) -> Result<(), RunDirError> {
    let path = run.join(CONFIG);
    let Some(written) = Checkpoints::in_dir(run.path()).config_sha256()? else { return Ok(()) };
    let changes: Vec<ConfigChange> = read_whole_rows(&run.join(CONFIG_CHANGES))?;
    let expected = [Some(written), changes.into_iter().next_back().map(|it| it.config_sha256)];
    let found = file_digest(&path)?;
    if found.is_none() || expected.contains(&found) {
        return Ok(());
    }
    Err(RunDirError::ConfigChanged { path, run: run.path().to_owned() })
}

/// Writes changed settings into the run, and that they were asked for.
fn change_config(
    run: &RunDir,
    config: &TrainConfig,
    set: &[Assignment],
) -> Result<(), RunDirError> {
    let text = RunDir::config_text(config)?;
    let config_sha256 = digest::of_bytes(text.as_bytes());
    let set = set.iter().map(ToString::to_string).collect();
    // A process that is killed between the two leaves the old settings, and they are known as well.
    let path = run.join(CONFIG_CHANGES);
    let mut changes = JsonLinesWriter::resume(&path, count_whole_lines(&path)?)?;
    changes.push(&ConfigChange { config_sha256, set })?;
    changes.sync()?;
    run.write_config(config)
}

/// Computes a recorded step of a run again; see [`Trainer::replay`].
///
/// # Errors
///
/// As [`Trainer::replay`], and when the run file or what it names cannot be read.
pub fn replay(run: &Path, step: usize, context: &RunContext) -> Result<Comparison, TrainError> {
    recorded_trainer(run, context)?.replay(run, step)
}

/// Holds a run against its record, and computes sampled steps again.
///
/// # Errors
///
/// Fails without a record, when anything is not what it says, and when no step can be computed again.
/// Numbers that differ are no error: see [`StepAudit::passes`](crate::StepAudit::passes).
pub fn audit(
    run: &Path,
    options: &AuditOptions,
    context: &RunContext,
) -> Result<Audit, AuditError> {
    let record = AuditRecord::read(run)?;
    let changes: Vec<ConfigChange> =
        read_whole_rows(&run.join(CONFIG_CHANGES)).map_err(RunDirError::from)?;
    check_files(run, &record, changes.last().map(|it| &it.config_sha256))?;
    let missing = check_inputs(run, &record)?;
    recorded_trainer(run, context)?.audit(run, &record, missing, options)
}

/// A trainer that computes recorded steps of a run again.
fn recorded_trainer(run: &Path, context: &RunContext) -> Result<Trainer, TrainError> {
    let config: TrainConfig = load(&run.join(CONFIG), &context.components)
        .map_err(|source| TrainError::NotATrainingRun { path: run.to_owned(), source })?;
    let loaded = Loaded::new(&config, context)?;
    let teacher = match &config.teacher {
        Some(spec) if spec.kind == ServerTeacher::KIND => Some(Teacher::Recorded),
        Some(spec) => Some(source::teacher(spec, context, &Arc::default())?),
        None => None,
    };
    let engine = Arc::new(FixedEngine::new(Vec::new()));
    // Its questions are in the record.
    let unused = vec![Question::new("", "", [""])];
    loaded.trainer(&config, engine, context).teacher(teacher).questions(unused).build()
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
        let servers = config
            .rollout
            .servers
            .clone()
            .map(|it| PolicyServers::new(it, &loaded.policy, Arc::clone(&context.console)));
        let servers = servers.transpose()?;
        let teacher = config.teacher.as_ref();
        let teacher =
            teacher.map(|it| source::teacher(it, context, engines.ledger())).transpose()?;
        let mut builder = loaded
            .trainer(&config, Arc::clone(&engine), context)
            .questions(questions)
            .teacher(teacher)
            .servers(servers)
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

    fn train(
        mut self,
        run: &RunDir,
        work: impl FnOnce(&mut Trainer, &RunDir) -> Result<Trained, TrainError>,
    ) -> Result<(), TrainError> {
        for tracker in self.config.logging.trackers() {
            self.trainer.add_callback(self.context.components.trackers.build(&tracker, run)?);
        }
        let trained = work(&mut self.trainer, run)?;
        if let Some(line) = engines::summary_line(self.engines.ledger()) {
            self.context.note(&line);
        }
        if !trained.interrupted {
            self.context.note(&format!("wrote {}", run.path().display()));
        }
        Ok(())
    }
}
