//! The search engines of one run: opened from their descriptions, wrapped as those say, and with one
//! set of books.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result, bail};
use burn::tensor::Device;
use sha2::{Digest, Sha256};
use zs_core::SearchEngine;
use zs_model::Generator;
use zs_search::{
    Bm25Engine, BudgetedEngine, CachedEngine, FaultInjector, FixedEngine, Ledger, MeteredEngine,
    Price, RateLimitedEngine, ReplayEngine, RetrieverEngine, RetryingEngine, Usage, WebEngine,
    WebProvider,
};
use zs_simulator::{RemoteEngine, SelfSearchEngine};

use crate::Metrics;
use crate::config::EngineConfig;
use crate::{RunContext, source};

/// Opens engines and keeps what they share: a device, the books, and the policy that self-search
/// asks.
///
/// ```
/// use zs_trainer::config::EngineConfig;
/// use zs_trainer::engines::Engines;
///
/// let engines = Engines::new(zs_trainer::device::select()?, Default::default());
/// let config: EngineConfig = toml::from_str(
///     "kind = \"budgeted\"\nbudget = { max_searches = 1 }\n\
///      engine = { kind = \"fixed\", documents = [{ text = \"x\" }] }",
/// )?;
/// let engine = engines.open(&config)?;
/// assert_eq!(engine.name(), "fixed");
/// # Ok::<(), anyhow::Error>(())
/// ```
#[derive(Debug)]
pub struct Engines {
    simulator_device: Device,
    ledger: Arc<Ledger>,
    policy: Option<Arc<dyn Generator>>,
    self_search: Mutex<Vec<Arc<SelfSearchEngine>>>,
    /// What each budget has passed on, in the order of opening.
    budgets: Mutex<Vec<Arc<AtomicU64>>>,
}

impl Engines {
    /// No engine yet, and empty books with these prices; web search has published ones unless told.
    #[must_use]
    pub fn new(context: &RunContext, mut prices: BTreeMap<String, Price>) -> Self {
        for provider in WebProvider::ALL {
            let published =
                Price { per_1000_calls: provider.dollars_per_1000(), ..Price::default() };
            prices.entry(provider.name().to_owned()).or_insert(published);
        }
        let ledger = Arc::new(Ledger::new(prices));
        Self {
            simulator_device: context.devices.simulator().clone(),
            ledger,
            policy: None,
            self_search: Mutex::default(),
            budgets: Mutex::default(),
        }
    }

    /// The same with a policy, which self-search asks.
    #[must_use]
    pub fn with_policy(mut self, policy: Arc<dyn Generator>) -> Self {
        self.policy = Some(policy);
        self
    }

    /// What the engines have done and cost.
    #[must_use]
    pub fn ledger(&self) -> &Arc<Ledger> {
        &self.ledger
    }

    /// What the engines have done, by name, and what each budget has passed on.
    #[must_use]
    pub fn counts(&self) -> (BTreeMap<String, Usage>, Vec<u64>) {
        let budgets = self.budgets.lock().unwrap_or_else(PoisonError::into_inner);
        let passed = budgets.iter().map(|it| it.load(Ordering::SeqCst)).collect();
        (self.ledger.usage(), passed)
    }

    /// Goes on from the [`counts`](Self::counts) of an earlier process, in which the same engines
    /// were opened in the same order.
    pub fn restore(&self, usage: BTreeMap<String, Usage>, budgets: &[u64]) {
        self.ledger.restore(usage);
        let counters = self.budgets.lock().unwrap_or_else(PoisonError::into_inner);
        for (counter, passed) in counters.iter().zip(budgets) {
            counter.store(*passed, Ordering::SeqCst);
        }
    }

    /// Tells self-search that the policy has learned.
    pub fn follow(&self, policy: &Arc<dyn Generator>) {
        let engines = self.self_search.lock().unwrap_or_else(PoisonError::into_inner);
        for engine in engines.iter() {
            engine.set_policy(Arc::clone(policy));
        }
    }

    /// Whether any engine asks the policy.
    #[must_use]
    pub fn asks_policy(&self) -> bool {
        !self.self_search.lock().unwrap_or_else(PoisonError::into_inner).is_empty()
    }

    /// Opens an engine, whose searches are booked under its name.
    ///
    /// # Errors
    ///
    /// Fails on an unreadable corpus, index, model or recording, an address that cannot be used, or
    /// a key that the environment does not have.
    pub fn open(&self, config: &EngineConfig) -> Result<Arc<dyn SearchEngine>> {
        let engine = self.open_inner(config)?;
        Ok(Arc::new(MeteredEngine::new(engine, Arc::clone(&self.ledger))))
    }

    fn open_inner(&self, config: &EngineConfig) -> Result<Arc<dyn SearchEngine>> {
        let ledger = || Arc::clone(&self.ledger);
        Ok(match config {
            EngineConfig::Bm25 { corpus, index, world } => match (corpus, index, world) {
                (Some(path), ..) => Arc::new(source::corpus_engine(path)?),
                (_, Some(dir), _) => Arc::new(Bm25Engine::open(dir)?),
                (.., Some(world)) => Arc::clone(source::generate_world(*world).engine()) as _,
                (None, None, None) => bail!("a `bm25` engine needs `corpus`, `index` or `world`"),
            },
            EngineConfig::Simulated { model, templates, sampling } => {
                // Beside the policy, where they share a device.
                let load = || source::load_model(model, &self.simulator_device);
                let model = Arc::new(zs_model::beside_sampling(load)?);
                Arc::new(source::simulated(model, templates, sampling)?.with_ledger(ledger()))
            }
            EngineConfig::Remote { servers, templates } => {
                let templates = source::simulation_templates(templates, None)?;
                Arc::new(RemoteEngine::new(servers.clone(), templates, ledger())?)
            }
            EngineConfig::SelfSearch { template, sampling } => {
                let Some(policy) = &self.policy else {
                    bail!("a `self_search` engine asks the policy, and there is none here");
                };
                let templates = match template {
                    Some(text) => SelfSearchEngine::templates(text)?,
                    None => SelfSearchEngine::default_templates(),
                };
                let engine = SelfSearchEngine::new(Arc::clone(policy), templates, sampling.clone());
                let engine = Arc::new(engine.with_ledger(ledger()));
                let mut engines = self.self_search.lock().unwrap_or_else(PoisonError::into_inner);
                engines.push(Arc::clone(&engine));
                engine
            }
            EngineConfig::Retriever(config) => {
                Arc::new(RetrieverEngine::new(config.clone(), ledger())?)
            }
            EngineConfig::Web(config) => Arc::new(WebEngine::new(config, ledger())?),
            EngineConfig::Replay { turns } => Arc::new(ReplayEngine::read(turns)?),
            EngineConfig::Fixed { documents } => Arc::new(FixedEngine::new(documents.clone())),
            EngineConfig::Cached { engine, dir, version } => {
                let version = cache_version(engine, version)?;
                Arc::new(CachedEngine::open(self.open_inner(engine)?, dir, &version, ledger())?)
            }
            EngineConfig::RateLimited { engine, limit } => {
                Arc::new(RateLimitedEngine::new(self.open_inner(engine)?, *limit)?)
            }
            EngineConfig::Retried { engine, retry } => {
                Arc::new(RetryingEngine::new(self.open_inner(engine)?, *retry))
            }
            EngineConfig::Budgeted { engine, budget } => {
                let engine = BudgetedEngine::new(self.open_inner(engine)?, *budget, ledger());
                let mut budgets = self.budgets.lock().unwrap_or_else(PoisonError::into_inner);
                budgets.push(engine.num_passed());
                Arc::new(engine)
            }
            EngineConfig::Faulty { engine, faults } => {
                Arc::new(FaultInjector::new(self.open_inner(engine)?, *faults))
            }
        })
    }
}

/// Answers are kept apart by everything that the description of their engine says, and by what the
/// run file adds.
fn cache_version(engine: &EngineConfig, version: &str) -> Result<String> {
    let description = serde_json::to_vec(engine)?;
    let digest: [u8; 32] = Sha256::digest(&description).into();
    let digest: String = digest.iter().take(8).map(|it| format!("{it:02x}")).collect();
    Ok(format!("{digest} {version}"))
}

/// What a step has cost, as metrics, and only where there is something to tell: counts that depend
/// on servers or an earlier run's cache are no part of a run without them.
pub fn step_metrics(engines: &Engines, metrics: &mut Metrics) -> serde_json::Value {
    let step = engines.ledger.take_step();
    let total = step.values().fold(Usage::default(), |sum, it| sum.plus(*it));
    if total.cache_lookups > 0 {
        let share = total.cache_hits as f64 / total.cache_lookups as f64;
        metrics.set("search/cache_hit_frac", share);
    }
    if total.calls > 0 {
        metrics.set("search/calls", total.calls as f64);
        metrics.set("search/retries", total.retries as f64);
    }
    let dollars: f64 =
        step.iter().map(|(engine, usage)| engines.ledger.dollars_of(engine, usage)).sum();
    if dollars > 0.0 {
        metrics.set("search/dollars", dollars);
    }
    serde_json::json!(step)
}

/// One line for the console; `None` where nothing was called or remembered.
pub fn summary_line(ledger: &Ledger) -> Option<String> {
    let parts: Vec<String> = ledger
        .totals()
        .iter()
        .filter(|it| it.usage.calls + it.usage.cache_lookups > 0)
        .map(|it| {
            let usage = it.usage;
            let mut part = format!(
                "{}: {} searches, {} calls ({} retries)",
                it.engine, usage.searches, usage.calls, usage.retries
            );
            if usage.cache_lookups > 0 {
                let share = 100.0 * usage.cache_hits as f64 / usage.cache_lookups as f64;
                part.push_str(&format!(", {share:.0} % from the cache"));
            }
            if it.dollars > 0.0 {
                part.push_str(&format!(", ${:.2}", it.dollars));
            }
            part
        })
        .collect();
    (!parts.is_empty()).then(|| parts.join("; "))
}

/// Opens one engine that nothing is shared with.
///
/// # Errors
///
/// As [`Engines::open`].
pub fn open_alone(config: &EngineConfig, context: &RunContext) -> Result<Arc<dyn SearchEngine>> {
    Engines::new(context, BTreeMap::new()).open(config)
}

/// The books of a run directory, as [`COSTS`] holds them.
///
/// # Errors
///
/// Fails when the file is missing or not of this form.
pub fn read_costs(run: &Path) -> Result<Vec<zs_search::EngineCost>> {
    let path = run.join(COSTS);
    let text =
        std::fs::read(&path).with_context(|| format!("{}: cannot be read", path.display()))?;
    serde_json::from_slice(&text)
        .with_context(|| format!("{}: not the costs of a run", path.display()))
}

/// The file of a run with what its engines have done and cost; it holds times, so it is no part of
/// what the same seed reproduces.
pub const COSTS: &str = "costs.json";

#[cfg(test)]
mod tests {
    use zs_core::{DocumentQuality, Question, SearchRequest};

    use super::*;

    fn open(engines: &Engines, text: &str) -> Result<Arc<dyn SearchEngine>> {
        engines.open(&toml::from_str(text).unwrap())
    }

    fn num_answered(engine: &dyn SearchEngine, count: usize) -> usize {
        let question = Question::new("q", "?", ["a"]);
        let quality = DocumentQuality::Useful;
        let request =
            SearchRequest { query: "q", question: &question, quality, read: &[], k: 1, seed: 0 };
        engine.search_batch(&vec![request; count]).iter().filter(|it| it.is_ok()).count()
    }

    #[test]
    fn wrappers_compose_and_share_the_books() {
        let folder = tempfile::tempdir().unwrap();
        let engines = Engines::new(&RunContext::default(), BTreeMap::new());
        let text = format!(
            r#"
kind = "cached"
dir = '{}'
[engine]
kind = "rate_limited"
limit = {{ per_second = 1000.0, burst = 100 }}
[engine.engine]
kind = "retried"
retry = {{ max_attempts = 2, backoff_s = 0.0 }}
[engine.engine.engine]
kind = "budgeted"
budget = {{ max_searches = 1 }}
[engine.engine.engine.engine]
kind = "faulty"
faults = {{ error_rate = 0.0 }}
[engine.engine.engine.engine.engine]
kind = "fixed"
documents = [{{ text = "x" }}]
"#,
            folder.path().display()
        );
        let engine = open(&engines, &text).unwrap();
        // One search of five is passed on; the others know its answer.
        assert_eq!(num_answered(engine.as_ref(), 5), 5);
        assert!(engine.exhausted().is_some());
        let mut metrics = Metrics::of_step(1);
        let step = step_metrics(&engines, &mut metrics);
        assert_eq!(step["fixed"]["searches"], 5);
        assert_eq!(metrics.get("search/cache_hit_frac"), Some(0.0));
        assert_eq!(num_answered(engine.as_ref(), 2), 2);
        step_metrics(&engines, &mut metrics);
        assert_eq!(metrics.get("search/cache_hit_frac"), Some(1.0));
        assert!(summary_line(engines.ledger()).unwrap().contains("29 % from the cache"));
    }

    #[test]
    fn a_run_without_calls_has_no_metrics_of_them() {
        let engines = Engines::new(&RunContext::default(), BTreeMap::new());
        let engine = open(&engines, "kind = \"fixed\"\ndocuments = [{ text = \"x\" }]").unwrap();
        num_answered(engine.as_ref(), 3);
        let mut metrics = Metrics::of_step(1);
        step_metrics(&engines, &mut metrics);
        assert_eq!(metrics, Metrics::of_step(1));
        assert_eq!(summary_line(engines.ledger()), None);
    }

    #[test]
    fn what_is_missing_is_named() {
        let engines = Engines::new(&RunContext::default(), BTreeMap::new());
        for (text, expected) in [
            ("kind = \"self_search\"", "asks the policy"),
            ("kind = \"replay\"\nturns = \"no-such-turns.jsonl\"", "no-such-turns.jsonl"),
            ("kind = \"web\"\nprovider = \"serper\"\nkey_variable = \"ZS_NO_SUCH\"", "ZS_NO_SUCH"),
            ("kind = \"retriever\"\nendpoints = [\"nowhere\"]", "nowhere"),
            ("kind = \"remote\"\nservers = { endpoints = [] }", "at least one address"),
        ] {
            let error = format!("{:#}", open(&engines, text).unwrap_err());
            assert!(error.contains(expected), "{error}");
        }
    }
}
