//! `zs eval`: a model on a question file; runs against each other; an engine on its own.

mod compare;
mod output;
mod retrieval;
mod run;

use anyhow::{Result, bail};
use burn::tensor::Device;
use clap::{Args, Subcommand};
use zs_core::SearchEngine;

use crate::cli::EngineArgs;
use crate::config::{EngineConfig, TemplatesConfig};
use crate::console::Console;
use crate::source;

/// Arguments of `zs eval`.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub struct EvalArgs {
    /// Something else than an evaluation.
    #[command(subcommand)]
    pub command: Option<EvalCommand>,
    /// An evaluation.
    #[command(flatten)]
    pub run: run::EvalRunArgs,
}

/// What `zs eval` can do besides.
#[derive(Debug, Subcommand)]
pub enum EvalCommand {
    /// Put several evaluations into one table, with paired differences from the first.
    Compare(compare::CompareArgs),
    /// How often a search with the question itself finds the golden titles or answers.
    Retrieval(retrieval::RetrievalArgs),
}

/// Does what the arguments ask for.
pub(crate) fn eval(args: &EvalArgs, console: &Console) -> Result<()> {
    match &args.command {
        Some(EvalCommand::Compare(args)) => compare::compare(args),
        Some(EvalCommand::Retrieval(args)) => retrieval::retrieval(args, console),
        None => run::run(&args.run, console),
    }
}

/// The engine that the arguments name.
pub(super) fn engine(
    args: &EngineArgs,
    device: &Device,
) -> Result<std::sync::Arc<dyn SearchEngine>> {
    let config = match &args.simulator {
        Some(model) => EngineConfig::Simulated {
            model: model.clone(),
            templates: TemplatesConfig::Auto,
            sampling: zs_simulator::SimulatedConfig::default(),
        },
        None if args.corpus.is_none() && args.index.is_none() => {
            bail!("name a search engine: `--corpus FILE`, `--index DIR` or `--simulator DIR`")
        }
        None => EngineConfig::Bm25 {
            corpus: args.corpus.clone(),
            index: args.index.clone(),
            world: None,
        },
    };
    source::engine(&config, device)
}
