//! `zs data`: data sets written, checked and fetched.

mod check;
mod fetch;
mod questions;
mod trajectories;
mod world;

use anyhow::Result;
use clap::Subcommand;

use crate::session::Session;

pub use check::DataCheckArgs;
pub(crate) use fetch::Bar;
pub use fetch::DataFetchArgs;
pub use questions::QuestionsArgs;
pub use trajectories::TrajectoriesArgs;
pub use world::WorldArgs;

/// Subcommands of `zs data`.
#[derive(Debug, Subcommand)]
pub enum DataCommand {
    /// Write an embedded world: `questions.jsonl`, `corpus.jsonl`, `tokenizer.json`.
    World(WorldArgs),
    /// Check question files: counts, duplicates, overlap, empty answers.
    Check(DataCheckArgs),
    /// Fetch test sets, training questions, corpora and models, from the Hugging Face hub or a folder.
    Fetch(DataFetchArgs),
    /// Build episodes for a policy to imitate: from recorded searches, from questions and an engine, or
    /// by filtering recorded episodes.
    Trajectories(Box<TrajectoriesArgs>),
    /// Make questions and answers from passages with a model, and keep those that it answers with the
    /// passage and not without it.
    Questions(Box<QuestionsArgs>),
}

pub(crate) fn data(what: &DataCommand, session: &Session) -> Result<()> {
    match what {
        DataCommand::World(args) => world::data_world(args, session),
        DataCommand::Check(args) => check::data_check(args, session),
        DataCommand::Fetch(args) => fetch::data_fetch(args, session),
        DataCommand::Trajectories(args) => trajectories::data_trajectories(args, session),
        DataCommand::Questions(args) => questions::data_questions(args, session),
    }
}
