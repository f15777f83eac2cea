//! The command line: what can be asked for, and the one line that a failure leaves.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::{Args, Parser, Subcommand};
use zs_simulator::SimulatedConfig;

use crate::command;
pub use crate::command::{
    AuditArgs, CollectArgs, CostArgs, DoctorArgs, IndexBuildArgs, IndexCommand, JudgeName,
    SearchArgs, ServeArgs, SimulateCommand,
};
use crate::config::{Assignment, EngineConfig, TemplatesConfig, load_engine};
use crate::console::{Console, print_error};
use crate::device::{self, DeviceArgs};
pub use crate::inspect::InspectArgs;
use crate::trace;

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
    pub(crate) fn config(&self) -> Result<Option<EngineConfig>> {
        Ok(match self.clone() {
            Self { engine: Some(path), .. } => Some(load_engine(&path)?),
            Self { simulator: Some(model), .. } => Some(EngineConfig::Simulated {
                model,
                templates: TemplatesConfig::Auto,
                sampling: SimulatedConfig::default(),
            }),
            Self { corpus: None, index: None, .. } => None,
            Self { corpus, index, .. } => Some(EngineConfig::Bm25 { corpus, index, world: None }),
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
    pub split: crate::config::SplitName,
    /// Questions to write, half of them 1-hop.
    #[arg(long, default_value_t = 1000)]
    pub questions: usize,
    /// The directory to create.
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
}

/// Arguments of `zs reproduce`.
#[derive(Debug, Args)]
pub struct ReproduceArgs {
    /// `quick`: the main job once; `claims`: every claim of the paper at this scale, over seeds;
    /// `paper`: the paper's runs on models of your own.
    #[arg(long, value_enum, default_value_t)]
    pub preset: Preset,
    /// Settings from a file instead.
    #[arg(long, value_name = "FILE", conflicts_with = "preset")]
    pub config: Option<PathBuf>,
    /// Seed of the whole job; the first of several.
    #[arg(long)]
    pub seed: Option<u64>,
    /// The base model (Hugging Face layout).
    #[arg(long, value_name = "DIR")]
    pub base: Option<PathBuf>,
    /// The directory of the report; `claims` resumes what is in it.
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// `claims`: how many seeds.
    #[arg(long, value_name = "N", help_heading = "With --preset claims")]
    pub seeds: Option<usize>,
    /// This claim of `claims`, or this run of `paper`, only; may be given several times.
    #[arg(long, value_name = "NAME")]
    pub only: Vec<String>,
    /// `claims`: pieces of work at a time; by default one a core, as far as memory allows.
    #[arg(long, value_name = "N", help_heading = "With --preset claims")]
    pub jobs: Option<usize>,
    /// `claims`: do nothing, and report on what is done.
    #[arg(long, help_heading = "With --preset claims")]
    pub report_only: bool,
    /// `paper`: the policy's model directory.
    #[arg(long, value_name = "DIR", help_heading = "With --preset paper")]
    pub model: Option<PathBuf>,
    /// `paper`: the simulation LLM's model directory.
    #[arg(long, value_name = "DIR", help_heading = "With --preset paper")]
    pub simulator: Option<PathBuf>,
    /// `paper`: the folder of `zs data fetch`.
    #[arg(long, value_name = "DIR", help_heading = "With --preset paper")]
    pub data: Option<PathBuf>,
    /// Say what would be done, and do nothing; for `claims` and `paper`.
    #[arg(long)]
    pub dry_run: bool,
}

/// The settings that come with `zs`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Preset {
    /// The main job once, in minutes.
    #[default]
    Quick,
    /// Every claim of the paper at the embedded scale, over seeds.
    Claims,
    /// The paper's own runs, on real weights.
    Paper,
}

/// Reads the process's arguments, does what they ask for, and reports failure in one line.
#[must_use]
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    match run(&cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            print_error(&error);
            ExitCode::FAILURE
        }
    }
}

/// Does what a parsed command line asks for.
///
/// # Errors
///
/// Fails with what went wrong, named by file, row and field where there is one.
pub fn run(cli: &Cli) -> Result<()> {
    device::choose(&cli.device);
    let console = Console::new(cli.quiet);
    let _tracing = trace::begin(cli.trace.as_deref())?;
    match &cli.command {
        Command::Pretrain(args) => crate::run::pretrain::command(args, &console),
        Command::Sft(args) => crate::run::sft::command(args, &console),
        Command::Train(args) => crate::run::train::command(args, &console),
        Command::Replay(args) => crate::run::replay::command(args, &console),
        Command::Eval(args) => command::eval(args, &console),
        Command::Index(command) => command::index(command, &console),
        Command::Score(args) => command::score(args),
        Command::Search(args) => command::search(args),
        Command::Cost(args) => command::cost(args),
        Command::Inspect(args) => crate::inspect::inspect(args, &console),
        Command::Ask(args) => command::ask(args),
        Command::Verify(args) => command::verify(args),
        Command::Doctor(args) => command::doctor(args),
        Command::WarmUp(args) => command::warm_up(args, &console),
        Command::Serve(args) => command::serve(args, &console),
        Command::Simulate(what) => command::simulate(what, &console),
        Command::Data(DataCommand::World(args)) => command::data_world(args, &console),
        Command::Data(DataCommand::Check(args)) => command::data_check(args),
        Command::Data(DataCommand::Fetch(args)) => command::data_fetch(args, &console),
        Command::Reproduce(args) => crate::reproduce::command(args, &console),
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
