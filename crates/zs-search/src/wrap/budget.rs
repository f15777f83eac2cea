//! A limit on what searching may cost.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use serde::{Deserialize, Serialize};
use zs_core::{SearchEngine, SearchError, SearchRequest, SearchResult};

use super::search_some;
use crate::{JournalError, Ledger};

/// Limits of spending.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct BudgetConfig {
    /// Searches that are passed on, at most.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_searches: Option<u64>,
    /// Dollars at the prices of the books, over all engines; checked before every batch, so the
    /// last batch may exceed it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_dollars: Option<f64>,
}

/// Passes searches on while there is budget, and refuses them after that with
/// [`SearchError::Exhausted`]; [`SearchEngine::exhausted`] then tells a run to stop.
///
/// A budget of `n` searches answers exactly `n`, the first ones in the order of the requests. Where
/// the ledger [keeps a journal](Ledger::keep_journal), that holds over all processes of a run: each
/// batch is written down before it is passed on.
#[derive(Debug)]
pub struct BudgetedEngine<E> {
    engine: E,
    config: BudgetConfig,
    ledger: Arc<Ledger>,
    /// Number of the budget in the ledger.
    budget: usize,
    num_passed: Arc<AtomicU64>,
}

impl<E: SearchEngine> BudgetedEngine<E> {
    /// An engine with a budget; `ledger` says what has been spent.
    pub fn new(engine: E, config: BudgetConfig, ledger: Arc<Ledger>) -> Self {
        let (budget, num_passed) = ledger.open_budget();
        Self { engine, config, ledger, budget, num_passed }
    }

    fn dollars_spent(&self) -> Option<String> {
        let max = self.config.max_dollars?;
        let spent = self.ledger.dollars_paid();
        (spent >= max).then(|| format!("the budget of ${max:.2} is spent (${spent:.2})"))
    }

    fn searches_spent(&self) -> Option<String> {
        let max = self.config.max_searches?;
        let is_spent = self.num_passed.load(Ordering::SeqCst) >= max;
        is_spent.then(|| format!("the budget of {max} searches is spent"))
    }

    /// Takes up to `wanted` searches out of the budget.
    fn take(&self, wanted: u64) -> u64 {
        let Some(max) = self.config.max_searches else { return wanted };
        let mut granted = 0;
        // The closure always returns a value, so the update cannot fail.
        let _ = self.num_passed.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |passed| {
            granted = wanted.min(max.saturating_sub(passed));
            Some(passed + granted)
        });
        granted
    }
}

impl<E: SearchEngine> SearchEngine for BudgetedEngine<E> {
    fn name(&self) -> &str {
        self.engine.name()
    }

    fn inner(&self) -> Option<&dyn SearchEngine> {
        Some(&self.engine)
    }

    fn search_batch(&self, requests: &[SearchRequest<'_>]) -> Vec<SearchResult> {
        let spent = self.dollars_spent();
        let granted = if spent.is_some() { 0 } else { self.take(requests.len() as u64) as usize };
        let refuse = |_| {
            let limit = spent.clone().or_else(|| self.searches_spent()).unwrap_or_default();
            Err(SearchError::Exhausted { engine: self.name().to_owned(), limit })
        };
        if granted == 0 {
            return (0..requests.len()).map(refuse).collect();
        }
        let batch = match self.ledger.begin_batch(self.budget, self.name(), granted as u64) {
            Ok(batch) => batch,
            Err(error) => return refuse_unwritten(self.name(), requests, &error),
        };
        let results = search_some(&self.engine, requests, |index| index < granted, refuse);
        self.ledger.end_batch(batch);
        results
    }

    /// Returns false: the result of a request depends on the requests before it.
    fn is_deterministic(&self) -> bool {
        false
    }

    fn exhausted(&self) -> Option<String> {
        self.searches_spent().or_else(|| self.dollars_spent()).or_else(|| self.engine.exhausted())
    }
}

/// Fails searches that cannot be accounted for: they are not sent.
fn refuse_unwritten(
    engine: &str,
    requests: &[SearchRequest<'_>],
    error: &JournalError,
) -> Vec<SearchResult> {
    let failed = |it: &SearchRequest<'_>| {
        let (engine, query) = (engine.to_owned(), it.query.to_owned());
        Err(SearchError::Engine { engine, query, source: error.to_string().into() })
    };
    requests.iter().map(failed).collect()
}

#[cfg(test)]
mod tests {
    use zs_core::{Document, DocumentQuality, Question};

    use super::*;
    use crate::conformance::check_engine;
    use crate::{FixedEngine, MeteredEngine, Price};

    fn fixed() -> FixedEngine {
        FixedEngine::new(vec![Document::new("", "x")])
    }

    fn num_answered(engine: &dyn SearchEngine, count: usize) -> usize {
        let question = Question::new("q", "?", ["a"]);
        let quality = DocumentQuality::Useful;
        let request =
            SearchRequest { query: "q", question: &question, quality, read: &[], k: 1, seed: 0 };
        let results = engine.search_batch(&vec![request; count]);
        let answered = results.iter().take_while(|it| it.is_ok()).count();
        let refused = |it: &SearchResult| matches!(it, Err(SearchError::Exhausted { .. }));
        assert!(results[answered..].iter().all(refused), "{results:?}");
        answered
    }

    #[test]
    fn stops_after_so_many_searches() {
        let config = BudgetConfig { max_searches: Some(7), ..BudgetConfig::default() };
        let engine = BudgetedEngine::new(fixed(), config, Arc::default());
        check_engine(&BudgetedEngine::new(fixed(), config, Arc::default()));
        assert_eq!(num_answered(&engine, 5), 5);
        assert_eq!(engine.exhausted(), None);
        assert_eq!(num_answered(&engine, 5), 2);
        assert_eq!(engine.exhausted().unwrap(), "the budget of 7 searches is spent");
        assert_eq!(num_answered(&engine, 5), 0);
    }

    #[test]
    fn stops_after_so_many_dollars() {
        let price = Price { per_1000_calls: 100.0, ..Price::default() };
        let ledger = Arc::new(Ledger::new([("fixed".to_owned(), price)].into()));
        let config = BudgetConfig { max_dollars: Some(0.25), ..BudgetConfig::default() };
        let metered = MeteredEngine::new(fixed(), Arc::clone(&ledger));
        let engine = BudgetedEngine::new(metered, config, Arc::clone(&ledger));
        for spent in [0.0, 0.1, 0.2] {
            assert!((ledger.dollars() - spent).abs() < 1e-9 && engine.exhausted().is_none());
            assert_eq!(num_answered(&engine, 1), 1);
            ledger.record("fixed", |usage| usage.calls += 1);
        }
        assert!(engine.exhausted().unwrap().contains("$0.25"));
        assert_eq!(num_answered(&engine, 2), 0);
    }
}
