//! Engines by name: typed settings of every kind, and the registry that run files choose from.

mod settings;

use std::any::{Any, TypeId};
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use sha2::{Digest, Sha256};
use zs_core::SearchEngine;
use zs_core::registry::{BoxedError, Registry, RegistryError, Spec};

pub use self::settings::{
    Bm25Settings, BudgetedSettings, CachedSettings, FaultySettings, FixedSettings,
    RateLimitedSettings, ReplaySettings, RetriedSettings,
};
use crate::{
    BudgetedEngine, CachedEngine, FaultInjector, FixedEngine, Ledger, RateLimitedEngine,
    ReplayEngine, RetryingEngine,
};

/// Constructors of engines by name.
pub type EngineRegistry = Registry<Arc<dyn SearchEngine>, EngineContext>;

/// Shared resources of the engines of one run: a ledger, the counters of budgets, and services that
/// engines of other crates need, such as a device or the policy, by their type.
#[derive(Default)]
pub struct EngineContext {
    ledger: Arc<Ledger>,
    budgets: Mutex<Vec<Arc<AtomicU64>>>,
    services: BTreeMap<TypeId, Box<dyn Any + Send + Sync>>,
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

    /// Ledger of all engines.
    #[must_use]
    pub fn ledger(&self) -> &Arc<Ledger> {
        &self.ledger
    }

    /// Searches that each budget has passed on, in the order in which they were built.
    #[must_use]
    pub fn passed(&self) -> Vec<u64> {
        self.budgets.lock().iter().map(|it| it.load(Ordering::SeqCst)).collect()
    }

    /// Sets the counters of budgets to the [`passed`](Self::passed) of an earlier process, in which
    /// the same engines were built in the same order.
    pub fn restore_passed(&self, passed: &[u64]) {
        for (counter, passed) in self.budgets.lock().iter().zip(passed) {
            counter.store(*passed, Ordering::SeqCst);
        }
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
    registry.register(|it: Bm25Settings, _, _| Ok(Arc::new(it.open()?)))?;
    register_others(registry)
}

/// Registers the engines of this crate except for `bm25`, for a crate that registers one which knows
/// further corpora.
///
/// # Errors
///
/// Fails when a name is taken.
pub fn register_others(registry: &mut EngineRegistry) -> Result<(), RegistryError> {
    registry.register(|it: FixedSettings, _, _| Ok(Arc::new(FixedEngine::new(it.documents))))?;
    registry.register(|it: ReplaySettings, _, _| Ok(Arc::new(ReplayEngine::read(&it.turns)?)))?;
    #[cfg(feature = "http")]
    registry.register(|it: crate::RetrieverConfig, context, _| {
        Ok(Arc::new(crate::RetrieverEngine::new(it, Arc::clone(&context.ledger))?))
    })?;
    #[cfg(feature = "http")]
    registry.register(|it: crate::WebConfig, context, _| {
        Ok(Arc::new(crate::WebEngine::new(&it, Arc::clone(&context.ledger))?))
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
        let engine = BudgetedEngine::new(engine, it.budget, ledger);
        context.budgets.lock().push(engine.num_passed());
        Ok(Arc::new(engine))
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
