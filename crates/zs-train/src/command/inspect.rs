//! `zs inspect`.

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use zs_observe::InspectOptions;

use crate::session::Session;

/// Arguments of `zs inspect`.
#[derive(Debug, Args)]
pub struct InspectArgs {
    /// The run directory of `zs train`, finished or not.
    pub run: PathBuf,
    /// The page to write; by default `inspect.html` in the run directory.
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
    /// The model whose tokenizer the episodes were written with; by default the run's own.
    #[arg(long, value_name = "DIR")]
    pub model: Option<PathBuf>,
    /// Maximum number of episodes. Above it, whole groups are left out, evenly over the run.
    #[arg(long, value_name = "NUMBER", default_value_t = 10_000)]
    pub episodes: usize,
}

pub(crate) fn inspect(args: &InspectArgs, session: &Session) -> Result<()> {
    let InspectArgs { run, out, model, episodes } = args;
    let (run, out, model) = (run.clone(), out.clone(), model.clone());
    let options = InspectOptions { run, out, model, episodes: *episodes };
    Ok(zs_observe::inspect(&options, session.console.as_ref())?)
}
