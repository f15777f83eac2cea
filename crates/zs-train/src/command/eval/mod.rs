//! `zs eval`: a model on a question file; runs against each other; an engine on its own.

mod compare;
mod output;
mod retrieval;
mod run;

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::{Result, bail};
use clap::{Args, Subcommand};
use zs_core::SearchEngine;
use zs_model::Generator;

use crate::command::EngineArgs;
use crate::session::Session;
use zs_trainer::RunContext;
use zs_trainer::engines::Engines;

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

/// The engine that the arguments name; self-search asks the policy.
pub(super) fn engine(
    args: &EngineArgs,
    policy: Option<Arc<dyn Generator>>,
    context: &RunContext,
) -> Result<Arc<dyn SearchEngine>> {
    let engines = Engines::new(context, BTreeMap::new());
    let engines = match policy {
        Some(policy) => engines.with_policy(policy),
        None => engines,
    };
    match args.spec(&context.components)? {
        Some(spec) => engines.open(&spec),
        None => bail!(
            "name a search engine: `--corpus FILE`, `--index DIR`, `--simulator DIR` or \
             `--engine FILE`"
        ),
    }
}
