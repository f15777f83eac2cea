//! `zs eval`: a model on a question file; runs against each other; an engine on its own.

mod compare;
mod output;
mod retrieval;
mod run;
pub(crate) mod score;

use anyhow::Result;
use clap::{Args, Subcommand};

use crate::session::Session;

/// Arguments of `zs eval`.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub struct EvalArgs {
    /// Subcommand, in place of an evaluation.
    #[command(subcommand)]
    pub command: Option<EvalCommand>,
    /// Arguments of an evaluation.
    #[command(flatten)]
    pub run: run::EvalRunArgs,
}

/// Subcommands of `zs eval`.
#[derive(Debug, Subcommand)]
pub enum EvalCommand {
    /// Compare evaluations in one table, with paired differences from the first.
    Compare(compare::CompareArgs),
    /// Measure how often a search with the question itself finds the golden titles or answers.
    Retrieval(retrieval::RetrievalArgs),
}

/// Runs an evaluation or a subcommand.
pub(crate) fn eval(args: &EvalArgs, session: &Session) -> Result<()> {
    match &args.command {
        Some(EvalCommand::Compare(args)) => compare::compare(args, session),
        Some(EvalCommand::Retrieval(args)) => retrieval::retrieval(args, session),
        None => run::run(&args.run, session),
    }
}
