//! Search engines of one run, built from their settings, with one ledger.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use zs_core::registry::{BoxedError, RegistryError, Spec};
use zs_core::{Embedder, SearchEngine};
use zs_data::{FileError, read_json};
use zs_model::{ComputeDtype, Generator};
use zs_search::{
    EmbedderLoader, EngineContext, JournalError, Ledger, MeteredEngine, Price, Usage, WebProvider,
};
use zs_simulator::{ModelLoader, SearchedPolicy};

use crate::components::Components;
use crate::{Console, Metrics, RunContext, source};

/// Opens engines and keeps what they share: a device, the ledger, and the policy that self-search
/// asks.
///
/// ```
/// use zs_core::registry::Spec;
/// use zs_trainer::RunContext;
/// use zs_trainer::engines::Engines;
///
/// let engines = Engines::new(&RunContext::default(), Default::default());
/// let spec: Spec = serde_json::from_str(
///     r#"{"kind": "budgeted", "budget": {"max_searches": 1},
///         "engine": {"kind": "fixed", "documents": [{"text": "x"}]}}"#,
/// )?;
/// let engine = engines.open(&spec)?;
/// assert_eq!(engine.name(), "fixed");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Engines {
    components: Arc<Components>,
    console: Arc<dyn Console>,
    context: EngineContext,
}

impl Engines {
    /// No engine yet, and an empty ledger with these prices; web search has published ones unless
    /// told.
    #[must_use]
    pub fn new(context: &RunContext, mut prices: BTreeMap<String, Price>) -> Self {
        for provider in WebProvider::ALL {
            let published =
                Price { per_1000_calls: provider.dollars_per_1000(), ..Price::default() };
            prices.entry(provider.name().to_owned()).or_insert(published);
        }
        let device = context.devices.simulator().clone();
        let loader = ModelLoader::new(move |dir, compute_dtype| {
            let on = std::slice::from_ref(&device);
            source::load_for_sampling(dir, on, compute_dtype).map_err(BoxedError::from)
        });
        let device = context.devices.simulator().clone();
        let embedders = EmbedderLoader::new(move |dir| {
            // Queries are short: f32 costs little, and is the same on every machine up to rounding.
            let encoder = source::load_encoder(dir, ComputeDtype::F32, &device)?;
            Ok(Arc::new(encoder) as Arc<dyn Embedder>)
        });
        let context_of_engines = EngineContext::new(Arc::new(Ledger::new(prices)));
        Self {
            components: Arc::clone(&context.components),
            console: Arc::clone(&context.console),
            context: context_of_engines.with_service(loader).with_service(embedders),
        }
    }

    /// Sets the policy that self-search samples.
    #[must_use]
    pub fn with_policy(mut self, policy: Arc<dyn Generator>) -> Self {
        self.context = self.context.with_service(SearchedPolicy::new(policy));
        self
    }

    /// Ledger of the engines' usage and costs.
    #[must_use]
    pub fn ledger(&self) -> &Arc<Ledger> {
        self.context.ledger()
    }

    /// Usage of the engines by name, and the number of calls that each budget has passed on.
    #[must_use]
    pub fn counts(&self) -> (BTreeMap<String, Usage>, Vec<u64>) {
        (self.ledger().usage(), self.ledger().passed())
    }

    /// Resumes from the [`counts`](Self::counts) of an earlier process, in which the same engines
    /// were opened in the same order.
    pub fn restore(&self, usage: BTreeMap<String, Usage>, budgets: &[u64]) {
        self.ledger().restore(usage);
        self.ledger().restore_passed(budgets);
    }

    /// Writes down in the directory of a run or evaluation what is spent from here on, and counts what
    /// earlier processes have spent; after [`restore`](Self::restore).
    ///
    /// # Errors
    ///
    /// Fails when the journal cannot be read.
    pub fn keep_journal(&self, dir: &Path) -> Result<(), JournalError> {
        self.ledger().keep_journal(&dir.join(SPENT))
    }

    /// Replaces the policy that self-search samples after an update.
    pub fn follow(&self, policy: &Arc<dyn Generator>) {
        if let Some(searched) = self.context.service::<SearchedPolicy>() {
            searched.follow(policy);
        }
    }

    /// Returns true if any engine samples the policy.
    #[must_use]
    pub fn asks_policy(&self) -> bool {
        self.context.service().is_some_and(SearchedPolicy::is_asked)
    }

    /// Opens an engine, whose searches are recorded in the ledger under its name.
    ///
    /// # Errors
    ///
    /// Fails on an unreadable corpus, index, model or recording, an address that cannot be used, or
    /// a key that the environment does not have.
    pub fn open(&self, spec: &Spec) -> Result<Arc<dyn SearchEngine>, RegistryError> {
        let engine = self.components.engines.build(spec, &self.context)?;
        self.context.take_notes().iter().for_each(|it| self.console.note(it));
        Ok(Arc::new(MeteredEngine::new(engine, Arc::clone(self.ledger()))))
    }
}

/// Usage and costs of a step as metrics, only where they are deterministic: counts that depend on
/// servers or on the cache of an earlier run are left out of a run without them.
pub fn step_metrics(engines: &Engines, metrics: &mut Metrics) -> serde_json::Value {
    let step = engines.ledger().take_step();
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
        step.iter().map(|(engine, usage)| engines.ledger().dollars_of(engine, usage)).sum();
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
            if it.repeated.calls > 0 {
                part.push_str(&format!(", {} calls repeated", it.repeated.calls));
            }
            if it.repeated_dollars > 0.0 {
                part.push_str(&format!(" (${:.2})", it.repeated_dollars));
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
pub fn open_alone(
    spec: &Spec,
    context: &RunContext,
) -> Result<Arc<dyn SearchEngine>, RegistryError> {
    Engines::new(context, BTreeMap::new()).open(spec)
}

/// Ledger of a run directory, as [`COSTS`] holds it.
///
/// # Errors
///
/// Fails when the file is missing or not of this form.
pub fn read_costs(run: &Path) -> Result<Vec<zs_search::EngineCost>, FileError> {
    read_json(&run.join(COSTS))
}

/// The file of a run with what its engines have spent, in all processes; see `docs/runs.md`.
const SPENT: &str = "spent.jsonl";

/// The file of a run with what its engines have done and cost; it holds times, so it is no part of
/// what the same seed reproduces.
pub const COSTS: &str = "costs.json";

#[cfg(test)]
mod tests {
    use zs_core::{DocumentQuality, Question, SearchRequest};

    use super::*;

    fn open(engines: &Engines, text: &str) -> Result<Arc<dyn SearchEngine>, RegistryError> {
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
            let error = zs_core::with_causes(&open(&engines, text).unwrap_err());
            assert!(error.contains(expected), "{error}");
        }
    }
}
