//! `zs train`: from a run file to a training run, begun or gone on with.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use burn::tensor::Device;
use zs_core::{Question, SearchEngine};
use zs_model::{Generator, LanguageModel, TokenRow, ValueNetwork};
use zs_rl::RewardResources;
use zs_rl::judge::RubricJudge;

use super::environment::Environment;
use super::observe::Observe;
use super::rl::{Aids, Training, Validation};
use super::sft::read_rows;
use crate::cli::TrainArgs;
use crate::config::{TrainConfig, ValidationMetric, load, load_with};
use crate::console::Console;
use crate::engines::Engines;
use crate::files::{RunDir, SUMMARY};
use crate::interrupt::Interrupt;
use crate::plan::Plan;
use crate::{console, engines, source};

const CONFIG: &str = "config.toml";

/// `zs train RUN.toml` and `zs train --resume RUN`.
///
/// # Errors
///
/// Fails on anything wrong with the run file or what it names, before the run directory is made; and
/// as [`Training::run`].
pub fn command(args: &TrainArgs, console: &Console) -> Result<()> {
    match (&args.run, &args.resume) {
        (Some(path), None) => {
            let mut config: TrainConfig = load_with(path, &args.set)?;
            config.skip_bad_rows |= args.skip_bad_rows;
            let plan = Plan::new(&config)?;
            if args.dry_run {
                console::print(&plan.describe()?);
            }
            if !args.force {
                plan.check()?;
            }
            if args.dry_run {
                return Ok(());
            }
            begin(config, console)
        }
        (None, Some(path)) => resume(path, console),
        _ => bail!("name a run file, or a run directory with --resume"),
    }
}

/// Begins a training run.
///
/// # Errors
///
/// As [`command`].
pub(crate) fn begin(config: TrainConfig, console: &Console) -> Result<()> {
    RunDir::check_free(&config.out)?;
    let prepared = Prepared::new(config, console)?;
    let environment = prepared.environment()?;
    let run = RunDir::create(&prepared.loaded.config.out)?;
    environment.write(&run)?;
    run.write_config(&prepared.loaded.config)?;
    prepared.train(&run, false, console)
}

/// Goes on with an interrupted training run.
///
/// # Errors
///
/// As [`command`].
pub(crate) fn resume(path: &Path, console: &Console) -> Result<()> {
    let run = RunDir::open(path)?;
    if run.join(SUMMARY).exists() {
        console.note(&format!("{}: the run is finished", path.display()));
        return Ok(());
    }
    let config: TrainConfig = load(&run.join(CONFIG))?;
    let prepared = Prepared::new(config, console)?;
    for change in prepared.environment()?.check(&run)? {
        console.note(&format!("{change}: what follows may differ in its last digits"));
    }
    prepared.train(&run, true, console)
}

/// What a run file names besides questions and engines, loaded.
pub(super) struct Loaded {
    pub(super) config: TrainConfig,
    devices: Vec<Device>,
    policy: LanguageModel,
    values: Option<ValueNetwork>,
    texts: Vec<TokenRow>,
    aids: Aids,
}

impl Loaded {
    pub(super) fn new(config: TrainConfig) -> Result<Self> {
        let policy = source::load_chosen(&config.policy)?;
        let (device, devices) = (policy.device(), policy.compute_devices());
        let values = match config.policy.join("value").exists() {
            true => Some(
                ValueNetwork::load(&config.policy, policy.config(), &device)?
                    .with_devices(&devices),
            ),
            false => None,
        };
        let texts = match &config.training.ptx {
            Some(ptx) => read_rows(&ptx.path, &policy)?,
            None => Vec::new(),
        };
        let aids = aids(&config, &device)?;
        Ok(Self { config, devices, policy, values, texts, aids })
    }

    /// A training run with these questions and this engine, and without validation.
    pub(super) fn training<'a>(
        &'a self,
        questions: &'a [Question],
        engine: &'a dyn SearchEngine,
    ) -> Training<'a> {
        Training {
            title: "training",
            policy: self.policy.clone(),
            questions,
            engine,
            engines: None,
            validation: None,
            values: self.values.clone(),
            texts: &self.texts,
            aids: self.aids.clone(),
            config: &self.config.training,
            seed: self.config.seed,
        }
    }
}

/// All that a run file names, loaded.
struct Prepared {
    loaded: Loaded,
    questions: Vec<Question>,
    engines: Engines,
    engine: Arc<dyn SearchEngine>,
    validation: Option<LoadedValidation>,
}

struct LoadedValidation {
    questions: Vec<Question>,
    engine: Arc<dyn SearchEngine>,
    /// Whether the engine of training is asked too.
    side_by_side: bool,
    choose_by: ValidationMetric,
}

impl Prepared {
    fn new(config: TrainConfig, console: &Console) -> Result<Self> {
        let loaded = Loaded::new(config)?;
        let config = &loaded.config;
        let read = |source| match config.skip_bad_rows {
            false => source::questions(source),
            true => source::sound_questions(source, console),
        };
        let questions = read(&config.questions)?;
        let asked: Arc<dyn Generator> = Arc::new(loaded.policy.clone());
        let engines =
            Engines::new(loaded.policy.device(), config.prices.clone()).with_policy(asked);
        let engine = engines.open(&config.engine)?;
        let validation = match &config.validation {
            None => None,
            Some(it) => {
                let other = it.engine.as_ref().filter(|it| **it != config.engine);
                Some(LoadedValidation {
                    questions: read(&it.questions)?,
                    side_by_side: it.side_by_side && other.is_some(),
                    choose_by: it.choose_by,
                    engine: match &it.engine {
                        Some(config) => engines.open(config)?,
                        None => Arc::clone(&engine),
                    },
                })
            }
        };
        Ok(Self { loaded, questions, engines, engine, validation })
    }

    fn environment(&self) -> Result<Environment> {
        let inputs: Vec<PathBuf> = self.loaded.config.inputs();
        Environment::of(&inputs, &self.loaded.devices)
    }

    fn train(mut self, run: &RunDir, resume: bool, console: &Console) -> Result<()> {
        self.loaded.aids.interrupt = Interrupt::on_signals()?;
        let training = Training {
            engines: Some(&self.engines),
            validation: self.validation.as_ref().map(|it| Validation {
                questions: &it.questions,
                engine: it.engine.as_ref(),
                training_engine: it.side_by_side.then_some(self.engine.as_ref()),
                choose_by: it.choose_by,
            }),
            ..self.loaded.training(&self.questions, self.engine.as_ref())
        };
        let trained = match resume {
            false => training.run(run, console)?,
            true => training.resume(run, console)?,
        };
        if let Some(line) = engines::summary_line(self.engines.ledger()) {
            console.note(&line);
        }
        if !trained.interrupted {
            console.note(&format!("wrote {}", run.path().display()));
        }
        Ok(())
    }
}

/// Loads what rewards and rollouts need beside the rest.
fn aids(config: &TrainConfig, device: &Device) -> Result<Aids> {
    let corpus = config.corpus.as_ref().map(source::corpus).transpose()?;
    let judge = config.judge.as_ref().map(|it| source::judge(it, device)).transpose()?;
    let consultants =
        config.consultants.as_ref().map(|it| source::consultants(it, device)).transpose()?;
    let judge = judge.map(|it| Arc::new(it) as Arc<dyn RubricJudge>);
    let resources = RewardResources::new(corpus.map(Into::into), judge);
    let observe = Observe { alarms: config.alarms.clone(), logging: config.logging };
    Ok(Aids { resources, consultants, interrupt: Interrupt::default(), observe })
}

/// The configuration of a run directory.
pub(super) fn config_of(run: &Path) -> Result<TrainConfig> {
    load(&run.join(CONFIG)).with_context(|| format!("{}: not a training run", run.display()))
}
