//! `zs model`: model directories imported, fetched and described.

mod card;
mod import;
mod pull;

use anyhow::Result;
use clap::Subcommand;

use crate::session::Session;

pub use card::ModelCardArgs;
pub use import::{ImportDtype, ModelImportArgs};
pub use pull::ModelPullArgs;

/// Subcommands of `zs model`.
#[derive(Debug, Subcommand)]
pub enum ModelCommand {
    /// Convert a GGUF file to a model directory: dequantised weights, tokenizer, chat template.
    Import(ModelImportArgs),
    /// Fetch a model directory from the Hugging Face hub; resumes, and checks checksums.
    Pull(ModelPullArgs),
    /// Show the contents of a model directory: architecture, weights, tokenizer, origin.
    Card(ModelCardArgs),
}

pub(crate) fn model(what: &ModelCommand, session: &Session) -> Result<()> {
    match what {
        ModelCommand::Import(args) => import::model_import(args, session),
        ModelCommand::Pull(args) => pull::model_pull(args, session),
        ModelCommand::Card(args) => card::model_card(args, session),
    }
}
