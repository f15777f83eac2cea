//! The command line: what can be asked for, and the one line that a failure leaves.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::{Args, Parser, Subcommand};
use zs_rl::program::WebFunction;

use crate::command;
use crate::console::{Console, print_error};

/// `ZeroSearch`: teach a language model to search, against a simulated search engine.
#[derive(Debug, Parser)]
#[command(name = "zs", version, about)]
pub struct Cli {
    /// Say nothing but results and errors.
    #[arg(long, short, global = true)]
    pub quiet: bool,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What `zs` can do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Train a language model from scratch on the embedded world.
    Pretrain(PretrainArgs),
    /// Fine-tune a model on prompts and completions, e.g. into the simulation LLM.
    Sft(RunFileArgs),
    /// Train a policy by reinforcement learning with a search engine.
    Train(RunFileArgs),
    /// Score a model on questions, searching as it answers.
    Eval(EvalArgs),
    /// Search a corpus, as the policy's `<search>` does.
    Search(SearchArgs),
    /// Ask a model one question and watch it search.
    Ask(AskArgs),
    /// Compare a checkpoint with recorded reference outputs.
    Verify(VerifyArgs),
    /// Write data sets that the other commands read.
    #[command(subcommand)]
    Data(DataCommand),
    /// Run the main job: tune a simulator, train on it, evaluate on a real engine.
    Reproduce(ReproduceArgs),
}

/// A run that is described by a file.
#[derive(Debug, Args)]
pub struct RunFileArgs {
    /// The run file (TOML). Its paths are relative to the current directory.
    pub run: PathBuf,
}

/// Arguments of `zs pretrain`.
#[derive(Debug, Args)]
pub struct PretrainArgs {
    /// The run file (TOML).
    pub run: PathBuf,
    /// Continue an interrupted run from its last checkpoint.
    #[arg(long)]
    pub resume: bool,
}

/// Where documents come from.
#[derive(Clone, Debug, Default, Args)]
#[group(required = true, multiple = false)]
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
}

/// Arguments of `zs eval`.
#[derive(Debug, Args)]
pub struct EvalArgs {
    /// The policy model (Hugging Face layout).
    #[arg(long, value_name = "DIR")]
    pub model: PathBuf,
    /// Where documents come from.
    #[command(flatten)]
    pub engine: EngineArgs,
    /// Questions with golden answers (JSON Lines or Parquet).
    #[arg(long, value_name = "FILE")]
    pub questions: PathBuf,
    /// Documents a search.
    #[arg(long, default_value_t = 3)]
    pub k: usize,
    /// Searches an episode at most.
    #[arg(long, default_value_t = 3)]
    pub max_searches: u32,
    /// Questions at most, from the start of the file.
    #[arg(long)]
    pub limit: Option<usize>,
    /// Episodes sampled together.
    #[arg(long, default_value_t = 64)]
    pub batch_size: usize,
    /// Seed of the bootstrap and of the simulation LLM.
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// A program function around the loop, e.g. `insufficient_exploration`; may be repeated.
    #[arg(long = "program", value_name = "NAME")]
    pub programs: Vec<WebFunction>,
    /// Write `summary.json` and `trajectories.jsonl` there.
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
}

/// Arguments of `zs search`.
#[derive(Debug, Args)]
pub struct SearchArgs {
    /// An index made earlier.
    #[arg(long, value_name = "DIR", required_unless_present = "corpus", conflicts_with = "corpus")]
    pub index: Option<PathBuf>,
    /// A corpus to index in memory.
    #[arg(long, value_name = "FILE")]
    pub corpus: Option<PathBuf>,
    /// What to look for.
    #[arg(long)]
    pub query: String,
    /// Documents at most.
    #[arg(long, default_value_t = 3)]
    pub k: usize,
    /// One JSON object a document instead of text.
    #[arg(long)]
    pub json: bool,
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
    #[arg(long, requires = "simulator", required_unless_present_any = ["corpus", "index"])]
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
    #[arg(long, value_name = "FILE")]
    pub golden: PathBuf,
    /// Largest relative difference that passes.
    #[arg(long, default_value_t = 1e-4)]
    pub tolerance: f64,
}

/// What `zs data` can write.
#[derive(Debug, Subcommand)]
pub enum DataCommand {
    /// The embedded world: `questions.jsonl`, `corpus.jsonl`, `tokenizer.json`.
    World(WorldArgs),
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
    /// The settings that come with `zs`.
    #[arg(long, default_value = "quick", value_parser = ["quick"])]
    pub preset: String,
    /// Settings from a file instead.
    #[arg(long, value_name = "FILE", conflicts_with = "preset")]
    pub config: Option<PathBuf>,
    /// Seed of the whole job.
    #[arg(long)]
    pub seed: Option<u64>,
    /// The base model (Hugging Face layout).
    #[arg(long, value_name = "DIR")]
    pub base: Option<PathBuf>,
    /// The directory of the report.
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
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
    let console = Console::new(cli.quiet);
    match &cli.command {
        Command::Pretrain(args) => crate::run::pretrain::command(args, &console),
        Command::Sft(args) => crate::run::sft::command(&args.run, &console),
        Command::Train(args) => crate::run::rl::command(&args.run, &console),
        Command::Eval(args) => command::eval(args, &console),
        Command::Search(args) => command::search(args),
        Command::Ask(args) => command::ask(args),
        Command::Verify(args) => command::verify(args),
        Command::Data(DataCommand::World(args)) => command::data_world(args, &console),
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
