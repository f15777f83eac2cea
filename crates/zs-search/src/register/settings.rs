//! Typed settings of the registered engines.

use std::path::PathBuf;
use std::sync::Arc;

use garde::Validate;
use serde::{Deserialize, Serialize};
use zs_core::registry::{BoxedError, Settings, SettingsError, Spec};
use zs_core::{Document, SearchEngine};

use super::{EngineContext, EngineSettings};
use crate::{
    Bm25Engine, Bm25Language, BudgetConfig, FaultConfig, FixedEngine, RateLimitConfig,
    ReplayEngine, RetryConfig,
};

/// Settings of `bm25`: exactly one of a corpus and an index.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Bm25Settings {
    /// Corpus, indexed in memory.
    #[serde(default)]
    pub corpus: Option<PathBuf>,
    /// Index on disk.
    #[serde(default)]
    pub index: Option<PathBuf>,
    /// Language of a corpus, else by its scripts; an index must have been built in it.
    #[serde(default)]
    pub language: Option<Bm25Language>,
}

impl EngineSettings for Bm25Settings {
    fn open(self, context: &EngineContext) -> Result<Arc<dyn SearchEngine>, BoxedError> {
        Ok(Arc::new(match (&self.corpus, &self.index) {
            (Some(path), _) => {
                Bm25Engine::from_corpus(path, self.language, |line| context.note(line))?
            }
            (None, Some(dir)) => Bm25Engine::open(dir)?.in_language(self.language)?,
            (None, None) => return Err("neither `corpus` nor `index` is given".into()),
        }))
    }
}

impl Settings for Bm25Settings {
    const KIND: &'static str = "bm25";

    fn check(&self) -> Result<(), SettingsError> {
        match self.corpus.is_some() == self.index.is_some() {
            true => Err(SettingsError::out_of_range(
                "corpus",
                "be given where `index` is not, and only there",
            )),
            false => Ok(()),
        }
    }

    fn inputs(&self) -> Vec<PathBuf> {
        // An index is known by the list of its segments.
        let index = self.index.as_ref().map(|it| it.join("meta.json"));
        self.corpus.iter().cloned().chain(index).collect()
    }
}

/// Settings of `fixed`: the same documents for every query.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FixedSettings {
    /// Documents.
    pub documents: Vec<Document>,
}

impl Settings for FixedSettings {
    const KIND: &'static str = "fixed";
}

impl EngineSettings for FixedSettings {
    fn open(self, _: &EngineContext) -> Result<Arc<dyn SearchEngine>, BoxedError> {
        Ok(Arc::new(FixedEngine::new(self.documents)))
    }
}

/// Settings of `replay`: what was recorded for the same query.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ReplaySettings {
    /// Recorded turns (JSON Lines, packed or not).
    pub turns: PathBuf,
}

impl Settings for ReplaySettings {
    const KIND: &'static str = "replay";

    fn inputs(&self) -> Vec<PathBuf> {
        vec![self.turns.clone()]
    }
}

impl EngineSettings for ReplaySettings {
    fn open(self, _: &EngineContext) -> Result<Arc<dyn SearchEngine>, BoxedError> {
        Ok(Arc::new(ReplayEngine::read(&self.turns)?))
    }
}

#[cfg(feature = "http")]
impl Settings for crate::RetrieverConfig {
    const KIND: &'static str = "retriever";

    fn check(&self) -> Result<(), SettingsError> {
        Ok(self.validate()?)
    }
}

#[cfg(feature = "http")]
impl EngineSettings for crate::RetrieverConfig {
    fn open(self, context: &EngineContext) -> Result<Arc<dyn SearchEngine>, BoxedError> {
        Ok(Arc::new(crate::RetrieverEngine::new(self, Arc::clone(context.ledger()))?))
    }
}

#[cfg(feature = "http")]
impl Settings for crate::WebConfig {
    const KIND: &'static str = "web";

    fn check(&self) -> Result<(), SettingsError> {
        Ok(self.validate()?)
    }
}

#[cfg(feature = "http")]
impl EngineSettings for crate::WebConfig {
    fn open(self, context: &EngineContext) -> Result<Arc<dyn SearchEngine>, BoxedError> {
        Ok(Arc::new(crate::WebEngine::new(&self, Arc::clone(context.ledger()))?))
    }
}

/// Implements [`Settings`] for a wrapper: its engine is nested in it.
macro_rules! wrapper {
    ($settings:ty, $kind:literal) => {
        impl Settings for $settings {
            const KIND: &'static str = $kind;

            fn check(&self) -> Result<(), SettingsError> {
                Ok(self.validate()?)
            }

            fn nested(&self) -> Vec<String> {
                vec!["engine".to_owned()]
            }
        }
    };
}

/// Settings of `cached`: answers are remembered in a folder, across runs and processes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Validate)]
#[garde(allow_unvalidated)]
pub struct CachedSettings {
    /// Engine.
    pub engine: Spec,
    /// Folder.
    pub dir: PathBuf,
    /// Anything that sets answers apart from earlier ones, e.g. after a model was replaced in its
    /// place.
    #[serde(default)]
    pub version: String,
}

wrapper!(CachedSettings, "cached");

/// Settings of `rate_limited`: no more than so many searches a second.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Validate)]
#[garde(allow_unvalidated)]
pub struct RateLimitedSettings {
    /// Engine.
    pub engine: Spec,
    /// Limit.
    #[garde(dive)]
    pub limit: RateLimitConfig,
}

wrapper!(RateLimitedSettings, "rate_limited");

/// Settings of `retried`: searches are sent again whose engine was out of reach.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Validate)]
#[garde(allow_unvalidated)]
pub struct RetriedSettings {
    /// Engine.
    pub engine: Spec,
    /// Attempts and waits.
    #[serde(default)]
    #[garde(dive)]
    pub retry: RetryConfig,
}

wrapper!(RetriedSettings, "retried");

/// Settings of `budgeted`: the run ends when so much is spent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Validate)]
#[garde(allow_unvalidated)]
pub struct BudgetedSettings {
    /// Engine.
    pub engine: Spec,
    /// Budget.
    #[garde(custom(has_limit))]
    pub budget: BudgetConfig,
}

fn has_limit(budget: &BudgetConfig, _: &()) -> garde::Result {
    match (budget.max_searches, budget.max_dollars) {
        (None, None) => Err(garde::Error::new("have `max_searches`, `max_dollars` or both")),
        _ => Ok(()),
    }
}

wrapper!(BudgetedSettings, "budgeted");

/// Settings of `faulty`: errors, delays and garbage on purpose.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Validate)]
#[garde(allow_unvalidated)]
pub struct FaultySettings {
    /// Engine.
    pub engine: Spec,
    /// Faults.
    #[garde(dive)]
    pub faults: FaultConfig,
}

wrapper!(FaultySettings, "faulty");
