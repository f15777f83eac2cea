//! The command line: what can be asked for, and the one line that a failure leaves.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};
use zs_core::registry::RegistryError;
use zs_observe::{TerminalConsole, Tracing, print_error};
use zs_reproduce::ReproduceArgs;
use zs_trainer::Components;

pub use crate::command::{
    AskArgs, CostArgs, DoctorArgs, EmbedArgs, EngineArgs, IndexBuildArgs, IndexCommand,
    InspectArgs, ReplayArgs, ResumableArgs, RunAuditArgs, SearchArgs, ServeArgs, SftArgs,
    TrainArgs, VerifyArgs, WarmUpArgs,
};
#[cfg(feature = "passages")]
pub use crate::command::{CorpusBuildArgs, CorpusCommand};
pub use crate::data::{
    DataCheckArgs, DataCommand, DataFetchArgs, QuestionsArgs, TrajectoriesArgs, WorldArgs,
};
use crate::device::DeviceArgs;
pub use crate::eval::EvalArgs;
pub use crate::eval::score::ScoreArgs;
pub use crate::model::{ImportDtype, ModelCardArgs, ModelCommand, ModelImportArgs, ModelPullArgs};
use crate::runners::watch_runners;
use crate::session::Session;
pub use crate::simulate::{AuditArgs, CollectArgs, JudgeName, SimulateCommand};
use crate::{command, data, eval, model, simulate};

/// `ZeroSearch`: teach a language model to search, against a simulated search engine.
#[derive(Debug, Parser)]
#[command(name = "zs", version, about)]
pub struct Cli {
    /// Print only results and errors.
    #[arg(long, short, global = true, help_heading = "Output")]
    pub quiet: bool,
    /// Write a trace of spans to this file, for <https://ui.perfetto.dev> or `chrome://tracing`.
    #[arg(long, global = true, value_name = "FILE", help_heading = "Output")]
    pub trace: Option<PathBuf>,
    /// Device options.
    #[command(flatten, next_help_heading = "Device")]
    pub device: DeviceArgs,
    /// Command.
    #[command(subcommand)]
    pub command: Command,
}

/// Commands of `zs`.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Train a language model from scratch on the embedded world.
    Pretrain(ResumableArgs),
    /// Fine-tune a model on prompts and completions, e.g. into the simulation LLM, or on whole episodes.
    Sft(SftArgs),
    /// Train a policy by reinforcement learning with a search engine.
    Train(TrainArgs),
    /// Recompute a recorded step of a training run, and compare it bitwise.
    Replay(ReplayArgs),
    /// Check a training run against its audit record, and recompute sampled steps.
    Audit(RunAuditArgs),
    /// Score a model on questions, searching as it answers; compare runs; measure retrieval.
    Eval(Box<EvalArgs>),
    /// Score answers from a file.
    Score(ScoreArgs),
    /// Cut documents into passages and index them.
    #[cfg(feature = "passages")]
    #[command(subcommand)]
    Corpus(CorpusCommand),
    /// Build an index of a corpus.
    #[command(subcommand)]
    Index(IndexCommand),
    /// Embed a corpus: one vector a document, in files of `NumPy`.
    Embed(EmbedArgs),
    /// Search a corpus, as the policy's `<search>` does.
    Search(SearchArgs),
    /// Show the cost of a run's searches, and its cost at other providers.
    Cost(CostArgs),
    /// Write a run as one HTML page: curves, settings, costs, alarms, and every episode.
    Inspect(InspectArgs),
    /// Ask a model one question and watch it search.
    Ask(AskArgs),
    /// Compare a checkpoint with recorded reference outputs.
    Verify(VerifyArgs),
    /// Check this machine, and optionally a run file, and print a remedy for each problem.
    Doctor(DoctorArgs),
    /// Compile and tune GPU kernels by running every shape that sampling needs.
    WarmUp(WarmUpArgs),
    /// Serve searches and completions over HTTP.
    Serve(ServeArgs),
    /// Collect tuning data for a simulation LLM, or audit one.
    #[command(subcommand)]
    Simulate(SimulateCommand),
    /// Write, fetch and check data sets.
    #[command(subcommand)]
    Data(DataCommand),
    /// Import, fetch and describe models.
    #[command(subcommand)]
    Model(ModelCommand),
    /// Reproduce the paper: tune a simulation LLM, train on it, evaluate on a real engine.
    Reproduce(ReproduceArgs),
}

/// Runs the command of the process's arguments, and reports failure in one line.
pub(crate) fn main(components: Result<Components, RegistryError>) -> ExitCode {
    let cli = Cli::parse();
    let result = match components {
        Ok(components) => run(&cli, Arc::new(components)),
        Err(error) => Err(error.into()),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            print_error(&*error);
            ExitCode::FAILURE
        }
    }
}

/// Runs a parsed command line, with these components.
///
/// # Errors
///
/// Fails as the command does; the error names file, row and field where there is one.
pub fn run(cli: &Cli, components: Arc<Components>) -> Result<()> {
    let tracing = Tracing::begin(cli.trace.as_deref())?;
    let spans = tracing.sums();
    let console = TerminalConsole::create(cli.quiet, spans.clone());
    let health = watch_runners();
    let session = Session { console, device: cli.device.clone(), spans, health, components };
    dispatch(&cli.command, &session)?;
    session.health.check()?;
    session.console.check_printed().context("results cannot be written to standard output")
}

fn dispatch(command: &Command, session: &Session) -> Result<()> {
    match command {
        Command::Pretrain(args) => command::pretrain(args, session),
        Command::Sft(args) => command::sft(args, session),
        Command::Train(args) => command::train(args, session),
        Command::Replay(args) => command::replay(args, session),
        Command::Audit(args) => command::audit(args, session),
        Command::Eval(args) => eval::eval(args, session),
        #[cfg(feature = "passages")]
        Command::Corpus(what) => command::corpus(what, session),
        Command::Index(what) => command::index(what, session),
        Command::Embed(args) => command::embed(args, session),
        Command::Score(args) => eval::score::score(args, session),
        Command::Search(args) => command::search(args, session),
        Command::Cost(args) => command::cost(args, session),
        Command::Inspect(args) => command::inspect(args, session),
        Command::Ask(args) => command::ask(args, session),
        Command::Verify(args) => command::verify(args, session),
        Command::Doctor(args) => command::doctor(args, session),
        Command::WarmUp(args) => command::warm_up(args, session),
        Command::Serve(args) => command::serve(args, session),
        Command::Simulate(what) => simulate::simulate(what, session),
        Command::Data(what) => data::data(what, session),
        Command::Model(what) => model::model(what, session),
        Command::Reproduce(args) => Ok(zs_reproduce::command(args, &session.context()?)?),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
