//! Engines by name: typed settings of every kind, and the registry that run files choose from.

mod dense;
mod settings;

use std::any::{Any, TypeId};
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use parking_lot::Mutex;
use sha2::{Digest, Sha256};
use zs_core::SearchEngine;
use zs_core::registry::{BoxedError, Registry, RegistryError, Settings, Spec};

pub use self::dense::{DenseSettings, EmbedderLoader};
#[cfg(feature = "http")]
pub use self::settings::RerankedSettings;
pub use self::settings::{
    Bm25Settings, BudgetedSettings, CachedSettings, FaultySettings, FixedSettings, FusedSettings,
    RateLimitedSettings, ReplaySettings, RetriedSettings,
};
use crate::{
    BudgetedEngine, CachedEngine, FaultInjector, FusedEngine, Ledger, RateLimitedEngine,
    RetryingEngine,
};

/// Constructors of engines by name.
pub type EngineRegistry = Registry<Arc<dyn SearchEngine>, EngineContext>;

/// Typed settings that open a search engine.
///
/// # Implementing
///
/// [`Settings::check`] refuses what is out of range when a run file is read; [`open`](Self::open)
/// reads files and variables of the environment. An engine that holds another one needs the registry
/// to build it: such a kind is registered with [`Registry::register`]. An engine whose struct is also
/// its [`Settings`] has this trait already.
///
/// ```
/// use std::sync::Arc;
///
/// use serde::{Deserialize, Serialize};
/// use zs_core::registry::{BoxedError, Registry, Settings, Spec};
/// use zs_core::{Document, SearchEngine};
/// use zs_search::{EngineContext, EngineSettings, FixedEngine, register_engine};
///
/// /// One document about the same thing for every query.
/// #[derive(Serialize, Deserialize)]
/// struct Parrot {
///     word: String,
/// }
///
/// impl Settings for Parrot {
///     const KIND: &'static str = "parrot";
/// }
///
/// impl EngineSettings for Parrot {
///     fn open(self, _: &EngineContext) -> Result<Arc<dyn SearchEngine>, BoxedError> {
///         Ok(Arc::new(FixedEngine::new(vec![Document::new("Parrot", &self.word)])))
///     }
/// }
///
/// let mut registry = Registry::new("search engine");
/// register_engine::<Parrot>(&mut registry)?;
/// let spec = Spec::named("parrot").with("word", "hello");
/// assert_eq!(registry.build(&spec, &EngineContext::default())?.name(), "fixed");
/// # Ok::<(), zs_core::registry::RegistryError>(())
/// ```
pub trait EngineSettings: Settings {
    /// Opens the engine.
    ///
    /// # Errors
    ///
    /// Fails on files, addresses or variables of the environment that cannot be used.
    fn open(self, context: &EngineContext) -> Result<Arc<dyn SearchEngine>, BoxedError>;
}

/// An engine whose struct is its settings needs no opening.
impl<E: SearchEngine + Settings> EngineSettings for E {
    fn open(self, _: &EngineContext) -> Result<Arc<dyn SearchEngine>, BoxedError> {
        Ok(Arc::new(self))
    }
}

/// Registers an engine under the name of its settings.
///
/// # Errors
///
/// Fails when the name is taken.
pub fn register_engine<E: EngineSettings>(
    registry: &mut EngineRegistry,
) -> Result<(), RegistryError> {
    registry.register(|it: E, context, _| it.open(context))
}

/// Shared resources of the engines of one run: a ledger, and services that engines of other crates
/// need, such as a device or the policy, by their type.
#[derive(Default)]
pub struct EngineContext {
    ledger: Arc<Ledger>,
    services: BTreeMap<TypeId, Box<dyn Any + Send + Sync>>,
    notes: Mutex<Vec<String>>,
}

impl EngineContext {
    /// Creates a context without services.
    #[must_use]
    pub fn new(ledger: Arc<Ledger>) -> Self {
        Self { ledger, ..Self::default() }
    }

    /// Adds a service, or replaces the one of its type.
    #[must_use]
    pub fn with_service<S: Any + Send + Sync>(mut self, service: S) -> Self {
        self.services.insert(TypeId::of::<S>(), Box::new(service));
        self
    }

    /// The service of a type, where there is one.
    #[must_use]
    pub fn service<S: Any + Send + Sync>(&self) -> Option<&S> {
        self.services.get(&TypeId::of::<S>()).and_then(|it| it.downcast_ref())
    }

    /// Keeps a line for the user about an engine that is being opened, e.g. documents that it leaves
    /// out.
    pub fn note(&self, line: String) {
        self.notes.lock().push(line);
    }

    /// The lines since the last call, in order.
    #[must_use]
    pub fn take_notes(&self) -> Vec<String> {
        std::mem::take(&mut self.notes.lock())
    }

    /// Ledger of all engines.
    #[must_use]
    pub fn ledger(&self) -> &Arc<Ledger> {
        &self.ledger
    }
}

impl fmt::Debug for EngineContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EngineContext").field("ledger", &self.ledger).finish_non_exhaustive()
    }
}

/// Registers the engines of this crate: `bm25`, and those of [`register_others`].
///
/// ```
/// use zs_core::registry::{Registry, Spec};
/// use zs_search::{EngineContext, register_engines};
///
/// let mut registry = Registry::new("search engine");
/// register_engines(&mut registry)?;
/// let spec: Spec = serde_json::from_str(
///     r#"{"kind": "budgeted", "budget": {"max_searches": 1},
///         "engine": {"kind": "fixed", "documents": [{"text": "x"}]}}"#,
/// )?;
/// assert_eq!(registry.build(&spec, &EngineContext::default())?.name(), "fixed");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
///
/// Fails when a name is taken.
pub fn register_engines(registry: &mut EngineRegistry) -> Result<(), RegistryError> {
    register_engine::<Bm25Settings>(registry)?;
    register_others(registry)
}

/// Registers the engines of this crate except for `bm25`, for a crate that registers one which knows
/// further corpora.
///
/// # Errors
///
/// Fails when a name is taken.
pub fn register_others(registry: &mut EngineRegistry) -> Result<(), RegistryError> {
    register_engine::<FixedSettings>(registry)?;
    register_engine::<DenseSettings>(registry)?;
    register_engine::<ReplaySettings>(registry)?;
    #[cfg(feature = "http")]
    register_engine::<crate::RetrieverConfig>(registry)?;
    #[cfg(feature = "http")]
    register_engine::<crate::WebConfig>(registry)?;
    #[cfg(feature = "http")]
    register_engine::<crate::ElasticsearchConfig>(registry)?;
    #[cfg(feature = "http")]
    register_engine::<crate::QdrantConfig>(registry)?;
    #[cfg(feature = "postgres")]
    register_engine::<crate::PostgresConfig>(registry)?;
    registry.register(|it: FusedSettings, context, registry| {
        let engines = it.engines.iter().map(|it| registry.build(it, context));
        let engines = engines.collect::<Result<Vec<_>, _>>()?;
        Ok(Arc::new(FusedEngine::new(engines, it.fusion, Arc::clone(&context.ledger))))
    })?;
    #[cfg(feature = "http")]
    registry.register(|it: RerankedSettings, context, registry| {
        let (engine, ledger) = (registry.build(&it.engine, context)?, Arc::clone(&context.ledger));
        let reranker = crate::RerankServer::new(it.reranker, Arc::clone(&ledger))?;
        Ok(Arc::new(crate::RerankedEngine::new(engine, Arc::new(reranker), it.rerank, ledger)))
    })?;
    registry.register(|it: CachedSettings, context, registry| {
        let version = cache_version(registry, &it)?;
        let engine = registry.build(&it.engine, context)?;
        let ledger = Arc::clone(&context.ledger);
        Ok(Arc::new(CachedEngine::open(engine, &it.dir, &version, ledger)?))
    })?;
    registry.register(|it: RateLimitedSettings, context, registry| {
        Ok(Arc::new(RateLimitedEngine::new(registry.build(&it.engine, context)?, it.limit)?))
    })?;
    registry.register(|it: RetriedSettings, context, registry| {
        Ok(Arc::new(RetryingEngine::new(registry.build(&it.engine, context)?, it.retry)))
    })?;
    registry.register(|it: BudgetedSettings, context, registry| {
        let (engine, ledger) = (registry.build(&it.engine, context)?, Arc::clone(&context.ledger));
        Ok(Arc::new(BudgetedEngine::new(engine, it.budget, ledger)))
    })?;
    registry.register(|it: FaultySettings, context, registry| {
        Ok(Arc::new(FaultInjector::new(registry.build(&it.engine, context)?, it.faults)))
    })
}

/// The version of a cache: answers are kept apart by everything that the settings of their engine
/// say, defaults included, and by what the run file adds.
fn cache_version(registry: &EngineRegistry, it: &CachedSettings) -> Result<String, BoxedError> {
    let resolved: Spec = registry.resolve(&it.engine)?;
    let digest: [u8; 32] = Sha256::digest(serde_json::to_vec(&resolved)?).into();
    let digest: String = digest.iter().take(8).map(|it| format!("{it:02x}")).collect();
    Ok(format!("{digest} {}", it.version))
}

#[cfg(test)]
mod tests;
