//! The command line: what can be asked for, and the one line that a failure leaves.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Result;
use clap::{Args, Parser, Subcommand};
use zs_core::registry::{RegistryError, Spec};
use zs_observe::{InspectOptions, TerminalConsole, Tracing, print_error};
use zs_reproduce::ReproduceArgs;
use zs_simulator::{SimulatedConfig, SimulatedSettings, TemplatesConfig};
use zs_trainer::config::{Assignment, load_engine};
use zs_trainer::{Bm25Settings, Components};

use crate::command;
pub use crate::command::{
    AuditArgs, CollectArgs, CostArgs, DoctorArgs, IndexBuildArgs, IndexCommand, JudgeName,
    SearchArgs, ServeArgs, SimulateCommand,
};
use crate::device::DeviceArgs;
use crate::session::Session;

/// `ZeroSearch`: teach a language model to search, against a simulated search engine.
#[derive(Debug, Parser)]
#[command(name = "zs", version, about)]
pub struct Cli {
    /// Say nothing but results and errors.
    #[arg(long, short, global = true)]
    pub quiet: bool,
    /// Write where the time goes to this file, for <https://ui.perfetto.dev> or `chrome://tracing`.
    #[arg(long, global = true, value_name = "FILE")]
    pub trace: Option<PathBuf>,
    /// What to compute on.
    #[command(flatten, next_help_heading = "Device")]
    pub device: DeviceArgs,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What `zs` can do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Train a language model from scratch on the embedded world.
    Pretrain(ResumableArgs),
    /// Fine-tune a model on prompts and completions, e.g. into the simulation LLM.
    Sft(ResumableArgs),
    /// Train a policy by reinforcement learning with a search engine.
    Train(TrainArgs),
    /// Compute a recorded step of a training run again, and compare to the bit.
    Replay(ReplayArgs),
    /// Score a model on questions, searching as it answers; compare runs; measure retrieval.
    Eval(Box<command::EvalArgs>),
    /// Score answers that are already written down.
    Score(command::ScoreArgs),
    /// Build an index of a corpus, to search it later.
    #[command(subcommand)]
    Index(IndexCommand),
    /// Search a corpus, as the policy's `<search>` does.
    Search(SearchArgs),
    /// What a run's searches cost, and would have cost elsewhere.
    Cost(CostArgs),
    /// Draw a run as one page: curves, settings, costs, alarms, and every episode.
    Inspect(InspectArgs),
    /// Ask a model one question and watch it search.
    Ask(AskArgs),
    /// Compare a checkpoint with recorded reference outputs.
    Verify(VerifyArgs),
    /// What of this machine, and of a run file, is usable, and what to do about the rest.
    Doctor(DoctorArgs),
    /// Compute every shape that sampling will meet once, so that a GPU's kernels are compiled and tuned.
    WarmUp(command::WarmUpArgs),
    /// Answer searches and sample text over HTTP.
    Serve(ServeArgs),
    /// Collect data for tuning a simulation LLM; audit one.
    #[command(subcommand)]
    Simulate(SimulateCommand),
    /// Write, fetch and check data sets that the other commands read.
    #[command(subcommand)]
    Data(DataCommand),
    /// Run the main job: tune a simulator, train on it, evaluate on a real engine.
    Reproduce(ReproduceArgs),
}

/// Arguments of `zs train`.
#[derive(Debug, Args)]
pub struct TrainArgs {
    /// The run file (TOML). Its paths are relative to the current directory.
    #[arg(required_unless_present = "resume")]
    pub run: Option<PathBuf>,
    /// Go on with the interrupted run in this directory, to the bit.
    #[arg(long, value_name = "RUN", conflicts_with_all = ["run", "set", "dry_run"])]
    pub resume: Option<PathBuf>,
    /// Set a key of the run file, e.g. `training.schedule.steps=10`; may be repeated.
    #[arg(long, value_name = "KEY=VALUE")]
    pub set: Vec<Assignment>,
    /// Leave out rows of question files that cannot be read, and count them.
    #[arg(long)]
    pub skip_bad_rows: bool,
    /// Print the settings, the steps and what memory they need, and end.
    #[arg(long)]
    pub dry_run: bool,
    /// Begin even where the estimate says that the memory does not suffice.
    #[arg(long)]
    pub force: bool,
}

/// Arguments of `zs inspect`.
#[derive(Debug, Args)]
pub struct InspectArgs {
    /// The run directory of `zs train`, finished or not.
    pub run: PathBuf,
    /// The page to write; `inspect.html` in the run directory unless said.
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
    /// The model whose tokenizer the episodes were written with; the run's own unless said.
    #[arg(long, value_name = "DIR")]
    pub model: Option<PathBuf>,
    /// Episodes at most. Where there are more, whole groups are left out, evenly over the run.
    #[arg(long, value_name = "NUMBER", default_value_t = 10_000)]
    pub episodes: usize,
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

/// A run that is described by a file and can be continued.
#[derive(Debug, Args)]
pub struct ResumableArgs {
    /// The run file (TOML). Its paths are relative to the current directory.
    pub run: PathBuf,
    /// Continue an interrupted run from its last checkpoint.
    #[arg(long)]
    pub resume: bool,
}

/// Where documents come from.
#[derive(Clone, Debug, Default, Args)]
#[group(multiple = false)]
pub struct EngineArgs {
    /// BM25 over this corpus (JSON Lines with `title` and `text`, or `contents`).
    #[arg(long, value_name = "FILE")]
    pub corpus: Option<PathBuf>,
    /// BM25 over an index made earlier.
    #[arg(long, value_name = "DIR")]
    pub index: Option<PathBuf>,
    /// A simulation LLM that writes the documents.
    #[arg(long, value_name = "DIR")]
    pub simulator: Option<PathBuf>,
    /// The engine that this file describes, as `engine = { … }` of a run file.
    #[arg(long, value_name = "FILE")]
    pub engine: Option<PathBuf>,
}

impl EngineArgs {
    /// The engine that is named, if one is.
    ///
    /// # Errors
    ///
    /// Fails on an unreadable or invalid engine file.
    pub(crate) fn spec(&self, components: &Components) -> Result<Option<Spec>> {
        Ok(match self.clone() {
            Self { engine: Some(path), .. } => Some(load_engine(&path, components)?),
            Self { simulator: Some(model), .. } => {
                let (templates, sampling) = (TemplatesConfig::Auto, SimulatedConfig::default());
                Some(Spec::of(&SimulatedSettings { model, templates, sampling })?)
            }
            Self { corpus: None, index: None, .. } => None,
            Self { corpus, index, .. } => {
                Some(Spec::of(&Bm25Settings { corpus, index, world: None })?)
            }
        })
    }
}

/// Arguments of `zs ask`.
#[derive(Debug, Args)]
pub struct AskArgs {
    /// The policy model (Hugging Face layout).
    #[arg(long, value_name = "DIR")]
    pub model: PathBuf,
    /// Where documents come from.
    #[command(flatten)]
    pub engine: EngineArgs,
    /// The golden answer, which a simulation LLM writes documents about.
    #[arg(long, conflicts_with_all = ["corpus", "index"], required_unless_present_any = ["corpus", "index", "engine"])]
    pub answer: Option<String>,
    /// Documents a search.
    #[arg(long, default_value_t = 3)]
    pub k: usize,
    /// Searches at most.
    #[arg(long, default_value_t = 3)]
    pub max_searches: u32,
    /// Softmax temperature; 0 is greedy.
    #[arg(long, default_value_t = 0.0)]
    pub temperature: f32,
    /// Seed of the sampling.
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// The question.
    pub question: String,
}

/// Arguments of `zs verify`.
#[derive(Debug, Args)]
pub struct VerifyArgs {
    /// The checkpoint (Hugging Face layout).
    #[arg(long, value_name = "DIR")]
    pub model: PathBuf,
    /// Reference outputs: `golden.safetensors`, or `golden.json` with greedy tokens.
    #[arg(long, value_name = "FILE", required_unless_present = "write")]
    pub golden: Option<PathBuf>,
    /// Write what the model computes on this device as reference outputs for another one.
    #[arg(long, value_name = "FILE", conflicts_with = "golden")]
    pub write: Option<PathBuf>,
    /// Largest relative difference that passes.
    #[arg(long, default_value_t = 1e-4)]
    pub tolerance: f64,
    /// Write the comparisons to this file too.
    #[arg(long, value_name = "FILE", conflicts_with = "write")]
    pub json: Option<PathBuf>,
}

/// What `zs data` can do.
#[derive(Debug, Subcommand)]
pub enum DataCommand {
    /// The embedded world: `questions.jsonl`, `corpus.jsonl`, `tokenizer.json`.
    World(WorldArgs),
    /// Question files: counts, duplicates, overlap, empty answers.
    Check(command::DataCheckArgs),
    /// Test sets, training questions, corpora and models, from the Hugging Face hub or a folder.
    Fetch(command::DataFetchArgs),
}

/// Arguments of `zs data world`.
#[derive(Debug, Args)]
pub struct WorldArgs {
    /// Seed of the world.
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// Which part of the world: `train`, `validation` or `test`.
    #[arg(long, default_value = "test")]
    pub split: zs_trainer::SplitName,
    /// Questions to write, half of them 1-hop.
    #[arg(long, default_value_t = 1000)]
    pub questions: usize,
    /// The directory to create.
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
}

/// Reads the process's arguments, does what they ask for, and reports failure in one line.
pub(crate) fn main(components: Result<Components, RegistryError>) -> ExitCode {
    let cli = Cli::parse();
    let result = match components {
        Ok(components) => run(&cli, Arc::new(components)),
        Err(error) => Err(error.into()),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            print_error(&error);
            ExitCode::FAILURE
        }
    }
}

/// Does what a parsed command line asks for, with these components.
///
/// # Errors
///
/// Fails with what went wrong, named by file, row and field where there is one.
pub fn run(cli: &Cli, components: Arc<Components>) -> Result<()> {
    let tracing = Tracing::begin(cli.trace.as_deref())?;
    let spans = tracing.sums();
    let console = TerminalConsole::create(cli.quiet, spans.clone());
    let session = Session { console, device: cli.device.clone(), spans, components };
    match &cli.command {
        Command::Pretrain(args) => command::pretrain(args, &session),
        Command::Sft(args) => command::sft(args, &session),
        Command::Train(args) => command::train(args, &session),
        Command::Replay(args) => command::replay(args, &session),
        Command::Eval(args) => command::eval(args, &session),
        Command::Index(what) => command::index(what, &session),
        Command::Score(args) => command::score(args, &session),
        Command::Search(args) => command::search(args, &session),
        Command::Cost(args) => command::cost(args, &session),
        Command::Inspect(args) => {
            let InspectArgs { run, out, model, episodes } = args;
            let (run, out, model) = (run.clone(), out.clone(), model.clone());
            let options = InspectOptions { run, out, model, episodes: *episodes };
            zs_observe::inspect(&options, session.console.as_ref())
        }
        Command::Ask(args) => command::ask(args, &session),
        Command::Verify(args) => command::verify(args, &session),
        Command::Doctor(args) => command::doctor(args, &session),
        Command::WarmUp(args) => command::warm_up(args, &session),
        Command::Serve(args) => command::serve(args, &session),
        Command::Simulate(what) => command::simulate(what, &session),
        Command::Data(DataCommand::World(args)) => command::data_world(args, &session),
        Command::Data(DataCommand::Check(args)) => command::data_check(args, &session),
        Command::Data(DataCommand::Fetch(args)) => command::data_fetch(args, &session),
        Command::Reproduce(args) => zs_reproduce::command(args, &session.context()?),
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
