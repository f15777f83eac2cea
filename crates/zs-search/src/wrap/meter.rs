//! Searches, failures and waiting time, into the books.

use std::sync::Arc;
use std::time::Instant;

use zs_core::{SearchEngine, SearchRequest, SearchResult, guarded_search};

use crate::Ledger;

/// Books every search of an engine under its name; what the engine sends over the wire, it books
/// itself. A panic inside the engine is a failed search.
///
/// ```
/// use std::sync::Arc;
/// use zs_core::{Document, DocumentQuality, Question, SearchEngine, SearchRequest};
/// use zs_search::{FixedEngine, Ledger, MeteredEngine};
///
/// let ledger = Arc::new(Ledger::default());
/// let engine = MeteredEngine::new(FixedEngine::new(vec![Document::new("", "x")]), Arc::clone(&ledger));
/// let question = Question::new("q", "?", ["a"]);
/// let quality = DocumentQuality::Useful;
/// let request = SearchRequest { query: "q", question: &question, quality, read: &[], k: 1, seed: 0 };
/// engine.search_batch(&[request; 3]);
/// assert_eq!(ledger.totals()[0].usage.searches, 3);
/// ```
#[derive(Debug)]
pub struct MeteredEngine<E> {
    engine: E,
    ledger: Arc<Ledger>,
}

impl<E: SearchEngine> MeteredEngine<E> {
    /// An engine whose searches go into these books.
    pub fn new(engine: E, ledger: Arc<Ledger>) -> Self {
        Self { engine, ledger }
    }
}

impl<E: SearchEngine> SearchEngine for MeteredEngine<E> {
    fn name(&self) -> &str {
        self.engine.name()
    }

    fn inner(&self) -> Option<&dyn SearchEngine> {
        Some(&self.engine)
    }

    fn search_batch(&self, requests: &[SearchRequest<'_>]) -> Vec<SearchResult> {
        let start = Instant::now();
        let results = guarded_search(&self.engine, requests);
        let failed = results.iter().filter(|it| it.is_err()).count() as u64;
        self.ledger.record_searches(self.name(), results.len() as u64, failed, start.elapsed());
        self.ledger.end_batch(None);
        results
    }
}
