//! Arguments that choose a search engine.

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use zs_simulator::SimulatedConfig;
use zs_trainer::Components;
use zs_trainer::config::{EngineConfig, TemplatesConfig, load_engine};

/// Search engine.
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
    /// Configuration of the chosen engine, if one is chosen.
    ///
    /// # Errors
    ///
    /// Fails on an unreadable or invalid engine file.
    pub(crate) fn config(&self, components: &Components) -> Result<Option<EngineConfig>> {
        Ok(match self.clone() {
            Self { engine: Some(path), .. } => Some(load_engine(&path, components)?),
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
