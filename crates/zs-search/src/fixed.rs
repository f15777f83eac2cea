//! Engines for tests and demonstrations: one with fixed documents, one that always fails.

use std::collections::BTreeMap;

use zs_core::{Document, EngineScope, SearchEngine, SearchError, SearchRequest, SearchResult};

/// Returns the documents set down for a query, or else the same documents for every query.
///
/// ```
/// use zs_core::{Document, DocumentQuality, Question, SearchEngine, SearchRequest};
/// use zs_search::FixedEngine;
///
/// let engine = FixedEngine::new(vec![Document::new("", "nothing to see")])
///     .with("bamboo", vec![Document::new("Bamboo", "A grass.")]);
/// let question = Question::new("q", "What is bamboo?", ["a grass"]);
/// let quality = DocumentQuality::Useful;
/// let request = SearchRequest { query: "bamboo", question: &question, quality, read: &[], k: 3, seed: 0 };
/// assert_eq!(engine.search(request)?[0].text, "A grass.");
/// # Ok::<(), zs_core::SearchError>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct FixedEngine {
    default: Vec<Document>,
    by_query: BTreeMap<String, Vec<Document>>,
}

impl FixedEngine {
    /// An engine that returns these documents for every query.
    #[must_use]
    pub fn new(default: Vec<Document>) -> Self {
        Self { default, by_query: BTreeMap::new() }
    }

    /// The same with other documents for one query.
    #[must_use]
    pub fn with(mut self, query: impl Into<String>, documents: Vec<Document>) -> Self {
        self.by_query.insert(query.into(), documents);
        self
    }
}

impl SearchEngine for FixedEngine {
    fn name(&self) -> &str {
        "fixed"
    }

    fn search_batch(&self, requests: &[SearchRequest<'_>]) -> Vec<SearchResult> {
        let answer = |request: &SearchRequest<'_>| {
            let documents = self.by_query.get(request.query).unwrap_or(&self.default);
            Ok(documents.iter().take(request.k).cloned().collect())
        };
        requests.iter().map(answer).collect()
    }

    fn scope(&self) -> EngineScope {
        EngineScope::Query
    }
}

/// Passes requests on to an engine, except those that it makes fail.
pub struct FaultyEngine<E> {
    engine: E,
    fails: Box<Fails>,
}

type Fails = dyn Fn(&SearchRequest<'_>) -> bool + Send + Sync;

impl<E: SearchEngine> FaultyEngine<E> {
    /// An engine that fails where `fails` says so.
    pub fn new(
        engine: E,
        fails: impl Fn(&SearchRequest<'_>) -> bool + Send + Sync + 'static,
    ) -> Self {
        Self { engine, fails: Box::new(fails) }
    }
}

impl<E: SearchEngine> std::fmt::Debug for FaultyEngine<E> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FaultyEngine").field("engine", &self.engine).finish_non_exhaustive()
    }
}

impl<E: SearchEngine> SearchEngine for FaultyEngine<E> {
    fn name(&self) -> &str {
        "faulty"
    }

    fn search_batch(&self, requests: &[SearchRequest<'_>]) -> Vec<SearchResult> {
        let passed: Vec<SearchRequest<'_>> =
            requests.iter().filter(|it| !(self.fails)(it)).copied().collect();
        let mut results = self.engine.search_batch(&passed).into_iter();
        let answer = |request: &SearchRequest<'_>| {
            if !(self.fails)(request)
                && let Some(result) = results.next()
            {
                return result;
            }
            Err(SearchError::Engine {
                engine: self.name().to_owned(),
                query: request.query.to_owned(),
                source: "it was told to fail".into(),
            })
        };
        requests.iter().map(answer).collect()
    }

    fn is_deterministic(&self) -> bool {
        self.engine.is_deterministic()
    }

    fn exhausted(&self) -> Option<String> {
        self.engine.exhausted()
    }
}
