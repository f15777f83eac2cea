//! Typed settings of the registered engines.

use std::path::PathBuf;
use std::sync::Arc;

use garde::Validate;
use serde::{Deserialize, Serialize};
use zs_core::registry::{BoxedError, Settings, SettingsError, Spec};
use zs_core::{Document, SearchEngine};

use super::{EngineContext, EngineSettings};
use crate::{
    Bm25Engine, Bm25Language, BudgetConfig, FaultConfig, FixedEngine, FusionConfig,
    RateLimitConfig, ReplayEngine, RetryConfig,
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

/// Implements [`Settings`] and [`EngineSettings`] for the configuration of a server.
#[cfg(feature = "http")]
macro_rules! server {
    ($settings:ty, $kind:literal, $open:expr) => {
        impl Settings for $settings {
            const KIND: &'static str = $kind;

            fn check(&self) -> Result<(), SettingsError> {
                Ok(self.validate()?)
            }
        }

        impl EngineSettings for $settings {
            fn open(self, context: &EngineContext) -> Result<Arc<dyn SearchEngine>, BoxedError> {
                let open: fn(Self, Arc<crate::Ledger>) -> Result<_, BoxedError> = $open;
                Ok(Arc::new(open(self, Arc::clone(context.ledger()))?))
            }
        }
    };
}

#[cfg(feature = "http")]
server!(crate::RetrieverConfig, "retriever", |it, ledger| {
    Ok(crate::RetrieverEngine::new(it, ledger)?)
});
#[cfg(feature = "http")]
server!(crate::WebConfig, "web", |it, ledger| Ok(crate::WebEngine::new(&it, ledger)?));
#[cfg(feature = "http")]
server!(crate::ElasticsearchConfig, "elasticsearch", |it, ledger| {
    let engine = crate::ElasticsearchEngine::new(it, ledger)?;
    engine.check()?;
    Ok(engine)
});
#[cfg(feature = "http")]
server!(crate::QdrantConfig, "qdrant", |it, ledger| {
    let engine = crate::QdrantEngine::new(it, ledger)?;
    engine.check()?;
    Ok(engine)
});
#[cfg(feature = "postgres")]
server!(crate::PostgresConfig, "postgres", |it, ledger| {
    let engine = crate::PostgresEngine::new(it, ledger)?;
    engine.check()?;
    Ok(engine)
});

/// Settings of `fused`: several engines as one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Validate)]
#[garde(allow_unvalidated)]
pub struct FusedSettings {
    /// Engines, at least two.
    pub engines: Vec<Spec>,
    /// Fusion.
    #[serde(flatten)]
    #[garde(dive)]
    pub fusion: FusionConfig,
}

impl Settings for FusedSettings {
    const KIND: &'static str = "fused";

    fn check(&self) -> Result<(), SettingsError> {
        match self.engines.len() {
            0 | 1 => Err(SettingsError::out_of_range("engines", "name at least two engines")),
            _ => Ok(self.validate()?),
        }
    }

    fn nested(&self) -> Vec<String> {
        (0..self.engines.len()).map(|it| format!("engines.{it}")).collect()
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

/// Settings of `reranked`: the documents of an engine, in the order of a rerank server.
#[cfg(feature = "http")]
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Validate)]
#[garde(allow_unvalidated)]
pub struct RerankedSettings {
    /// Engine.
    pub engine: Spec,
    /// Rerank server.
    #[garde(dive)]
    pub reranker: crate::RerankServerConfig,
    /// Depth, and consequence of a failure.
    #[serde(flatten)]
    #[garde(dive)]
    pub rerank: crate::RerankConfig,
}

#[cfg(feature = "http")]
wrapper!(RerankedSettings, "reranked");

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

/// Settings of `rate_limited`: a maximum number of searches per second.
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

/// Settings of `faulty`, fault injection: errors, delays and garbage.
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
