//! Commands that begin, resume or replay runs.

use std::path::PathBuf;

use anyhow::{Result, bail};
use clap::Args;
use zs_observe::stop_on_signals;
use zs_trainer::checkpoint_step;
use zs_trainer::config::{Assignment, TrainConfig, load_with, note_renamed_keys};
use zs_trainer::plan::Plan;
use zs_trainer::supervised::{pretrain as pretraining, sft as tuning};
use zs_trainer::train as training;
use zs_trainer::train::ResumeOptions;

use crate::session::Session;

/// Arguments of `zs train`.
#[derive(Debug, Args)]
pub struct TrainArgs {
    /// The run file (TOML). Its paths are relative to the current directory.
    #[arg(required_unless_present = "resume")]
    pub run: Option<PathBuf>,
    /// Resume the interrupted run in this directory bit-exactly.
    #[arg(long, value_name = "RUN", conflicts_with_all = ["run", "dry_run"])]
    pub resume: Option<PathBuf>,
    /// Resume from this checkpoint of the run, e.g. `step-000120`, instead of the newest.
    #[arg(long, value_name = "CHECKPOINT", requires = "resume", value_parser = checkpoint)]
    pub resume_from: Option<usize>,
    /// Set a key of the run file, e.g. `training.schedule.steps=10`, also when resuming a run; may be
    /// repeated.
    #[arg(long, value_name = "KEY=VALUE")]
    pub set: Vec<Assignment>,
    /// Skip rows of question files that cannot be read, and count them.
    #[arg(long)]
    pub skip_bad_rows: bool,
    /// Print settings, steps and estimated memory, and exit.
    #[arg(long)]
    pub dry_run: bool,
    /// Start even if the estimate exceeds the available memory.
    #[arg(long)]
    pub force: bool,
}

/// Arguments of `zs replay`.
#[derive(Debug, Args)]
pub struct ReplayArgs {
    /// The run directory.
    pub run: PathBuf,
    /// The step, from 1.
    #[arg(long)]
    pub step: usize,
}

/// Arguments of a run that a file describes and that can be resumed.
#[derive(Debug, Args)]
pub struct ResumableArgs {
    /// The run file (TOML). Its paths are relative to the current directory.
    pub run: PathBuf,
    /// Resume an interrupted run from its last checkpoint.
    #[arg(long)]
    pub resume: bool,
}

/// Arguments of `zs sft`.
#[derive(Debug, Args)]
pub struct SftArgs {
    /// The run file (TOML). Its paths are relative to the current directory.
    pub run: PathBuf,
    /// Resume an interrupted run from its last checkpoint.
    #[arg(long)]
    pub resume: bool,
    /// Set a key of the run file, e.g. `base=models/smollm2`; may be repeated. A run that is resumed
    /// needs the same settings.
    #[arg(long, value_name = "KEY=VALUE")]
    pub set: Vec<Assignment>,
    /// Print rows, steps and the loss tokens of the first row, list the rows that cannot be used, and
    /// exit.
    #[arg(long, conflicts_with = "resume")]
    pub dry_run: bool,
}

/// Trains a policy as a run file says, or resumes the run in a directory.
pub(crate) fn train(args: &TrainArgs, session: &Session) -> Result<()> {
    match (&args.run, &args.resume) {
        (Some(path), None) => {
            note_renamed_keys(path, &mut |it| session.console.note(it));
            let mut config: TrainConfig = load_with(path, &args.set, &session.components)?;
            config.skip_bad_rows |= args.skip_bad_rows;
            let plan = Plan::new(&config, &session.context()?)?;
            if args.dry_run {
                session.print(&plan.describe()?);
            }
            if !args.force {
                plan.check()?;
            }
            if args.dry_run {
                return Ok(());
            }
            Ok(training::begin(config, &session.interruptible(stop_on_signals()?)?)?)
        }
        (None, Some(path)) => {
            let options = ResumeOptions { from: args.resume_from, set: args.set.clone() };
            Ok(training::resume(path, &options, &session.interruptible(stop_on_signals()?)?)?)
        }
        _ => bail!("name a run file, or a run directory with --resume"),
    }
}

fn checkpoint(name: &str) -> Result<usize, String> {
    checkpoint_step(name).ok_or_else(|| {
        format!("`{name}` is not the name of a checkpoint; use one like step-000120")
    })
}

/// Computes a recorded step again, and fails when anything differs in a single bit.
pub(crate) fn replay(args: &ReplayArgs, session: &Session) -> Result<()> {
    let comparison = training::replay(&args.run, args.step, &session.context()?)?;
    let step = comparison.step;
    session.print(&format!("{}\n", comparison.table()));
    if comparison.num_different > 0 {
        let (run, count) = (args.run.display(), comparison.num_different);
        bail!("{run}: {count} numbers of step {step} differ");
    }
    session.print(&format!("step {step} is bit-exact\n"));
    Ok(())
}

/// Fine-tunes a model as a run file says.
pub(crate) fn sft(args: &SftArgs, session: &Session) -> Result<()> {
    let context = session.context()?;
    if args.dry_run {
        session.print(&tuning::describe(&args.run, &args.set, &context)?);
        return Ok(());
    }
    Ok(tuning::from_file(&args.run, &args.set, args.resume, &context)?)
}

/// Pre-trains a model as a run file says.
pub(crate) fn pretrain(args: &ResumableArgs, session: &Session) -> Result<()> {
    Ok(pretraining::from_file(&args.run, args.resume, &session.context()?)?)
}
