//! Arguments that choose a search engine.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Result, bail};
use clap::Args;
use zs_core::SearchEngine;
use zs_core::registry::Spec;
use zs_model::{ComputeDtype, Generator};
use zs_simulator::{SimulatedConfig, SimulatedSettings, TemplatesConfig};
use zs_trainer::config::load_engine;
use zs_trainer::engines::Engines;
use zs_trainer::{Bm25Settings, Components, RunContext};

/// Search engine.
#[derive(Clone, Debug, Default, Args)]
#[group(multiple = false)]
pub struct EngineArgs {
    /// BM25 over this corpus (JSON Lines with `title` and `text`, or `contents`).
    #[arg(long, value_name = "FILE")]
    pub corpus: Option<PathBuf>,
    /// BM25 over an index built by `zs index build`.
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
    /// Opens the engine that is named; self-search asks the policy.
    ///
    /// # Errors
    ///
    /// Fails when no engine is named, or when it cannot be opened.
    pub(crate) fn open(
        &self,
        policy: Option<Arc<dyn Generator>>,
        context: &RunContext,
    ) -> Result<Arc<dyn SearchEngine>> {
        self.open_in(None, policy, context)
    }

    /// [`open`](Self::open) for work that can be interrupted and whose directory keeps what was spent.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open), and when what was spent cannot be read.
    pub(crate) fn open_in(
        &self,
        dir: Option<&Path>,
        policy: Option<Arc<dyn Generator>>,
        context: &RunContext,
    ) -> Result<Arc<dyn SearchEngine>> {
        let engines = Engines::new(context, BTreeMap::new());
        let engines = match policy {
            Some(policy) => engines.with_policy(policy),
            None => engines,
        };
        match self.spec(&context.components)? {
            Some(spec) => {
                let engine = engines.open(&spec)?;
                dir.map_or(Ok(()), |it| engines.keep_journal(it))?;
                Ok(engine)
            }
            None => bail!(
                "name a search engine: `--corpus FILE`, `--index DIR`, `--simulator DIR` or \
                 `--engine FILE`"
            ),
        }
    }

    /// Configuration of the chosen engine, if one is chosen.
    ///
    /// # Errors
    ///
    /// Fails on an unreadable or invalid engine file.
    pub(crate) fn spec(&self, components: &Components) -> Result<Option<Spec>> {
        Ok(match self.clone() {
            Self { engine: Some(path), .. } => Some(load_engine(&path, components)?),
            Self { simulator: Some(model), .. } => Some(Spec::of(&SimulatedSettings {
                model,
                templates: TemplatesConfig::Auto,
                sampling: SimulatedConfig::default(),
                compute_dtype: ComputeDtype::F32,
            })?),
            Self { corpus: None, index: None, .. } => None,
            Self { corpus, index, .. } => {
                Some(Spec::of(&Bm25Settings { corpus, index, ..Bm25Settings::default() })?)
            }
        })
    }
}
