//! Documents of an engine in the order of a reranker.

#[cfg(feature = "http")]
mod server;

use std::fmt::Debug;
use std::sync::Arc;

use garde::Validate;
use serde::{Deserialize, Serialize};
use zs_core::registry::check;
use zs_core::{Document, EngineScope, SearchEngine, SearchError, SearchRequest, SearchResult};

#[cfg(feature = "http")]
pub use self::server::{RerankProtocol, RerankServer, RerankServerConfig};
use crate::Ledger;
use crate::fused::PartFailure;
use crate::wrap::{deepened, missing};

const NAME: &str = "reranked";

/// Documents of one query, to be scored.
#[derive(Clone, Copy, Debug)]
pub struct RerankRequest<'a> {
    /// Query.
    pub query: &'a str,
    /// Documents, at least one.
    pub documents: &'a [Document],
    /// Seed of the request, for waits between attempts.
    pub seed: u64,
}

/// Scores of one request, one a document, or the reason that there are none.
pub type RerankResult = Result<Vec<f32>, SearchError>;

/// Model that scores documents by the query, e.g. a cross-encoder.
///
/// # Implementing
///
/// [`rerank_batch`](Self::rerank_batch) returns one result a request, in their order, with one finite
/// score a document; higher is better. A request that fails must not fail others.
///
/// ```
/// use std::sync::Arc;
///
/// use zs_core::{Document, Question, SearchEngine, SearchRequest};
/// use zs_search::{FixedEngine, RerankConfig, RerankRequest, RerankResult, RerankedEngine, Reranker};
///
/// /// Prefers long documents.
/// #[derive(Debug)]
/// struct Length;
///
/// impl Reranker for Length {
///     fn rerank_batch(&self, requests: &[RerankRequest<'_>]) -> Vec<RerankResult> {
///         let lengths = |it: &RerankRequest<'_>| it.documents.iter().map(|it| it.text.len() as f32).collect();
///         requests.iter().map(|it| Ok(lengths(it))).collect()
///     }
/// }
///
/// let engine = FixedEngine::new(vec![Document::new("a", "short"), Document::new("b", "longer")]);
/// let config = RerankConfig::default();
/// let engine = RerankedEngine::new(Arc::new(engine), Arc::new(Length), config, Arc::default());
/// let question = Question::new("q", "?", ["x"]);
/// assert_eq!(engine.search(SearchRequest::of(&question, 1, 0))?[0].title, "b");
/// # Ok::<(), zs_core::SearchError>(())
/// ```
pub trait Reranker: Debug + Send + Sync {
    /// Scores the documents of every request.
    fn rerank_batch(&self, requests: &[RerankRequest<'_>]) -> Vec<RerankResult>;

    /// Returns true if the same request always has the same scores.
    fn is_deterministic(&self) -> bool {
        true
    }
}

/// Settings of the reordering.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, Validate)]
#[garde(allow_unvalidated)]
#[serde(default)]
pub struct RerankConfig {
    /// Documents that the engine is asked for, or more where a request wants more.
    #[garde(custom(check::at_least_one))]
    pub depth: usize,
    /// Consequence of a reranker that fails: the search fails, or keeps the order of the engine.
    pub on_failure: PartFailure,
}

impl Default for RerankConfig {
    fn default() -> Self {
        Self { depth: 50, on_failure: PartFailure::default() }
    }
}

/// Search by an engine whose best documents a reranker puts in order.
///
/// Scores are those of the reranker; documents with equal ones keep the order of the engine. Searches
/// that find nothing are not passed to the reranker.
#[derive(Debug)]
pub struct RerankedEngine {
    engine: Arc<dyn SearchEngine>,
    reranker: Arc<dyn Reranker>,
    config: RerankConfig,
    ledger: Arc<Ledger>,
}

impl RerankedEngine {
    /// The engine with its documents reordered.
    #[must_use]
    pub fn new(
        engine: Arc<dyn SearchEngine>,
        reranker: Arc<dyn Reranker>,
        config: RerankConfig,
        ledger: Arc<Ledger>,
    ) -> Self {
        Self { engine, reranker, config, ledger }
    }
}

impl SearchEngine for RerankedEngine {
    fn name(&self) -> &str {
        NAME
    }

    fn search_batch(&self, requests: &[SearchRequest<'_>]) -> Vec<SearchResult> {
        let deep = deepened(requests, self.config.depth);
        let found = self.engine.search_batch(&deep);
        let is_found = |it: &SearchResult| it.as_ref().is_ok_and(|it| !it.is_empty());
        let reranked: Vec<RerankRequest<'_>> = requests
            .iter()
            .zip(&found)
            .filter(|(_, found)| is_found(found))
            .map(|(request, found)| RerankRequest {
                query: request.query,
                documents: found.as_deref().unwrap_or_default(),
                seed: request.seed,
            })
            .collect();
        let scores = match reranked.is_empty() {
            true => Vec::new(),
            false => self.reranker.rerank_batch(&reranked),
        };
        let (mut found, mut scores) = (found.into_iter(), scores.into_iter());
        let mut num_degraded = 0;
        let mut answer = |request: &SearchRequest<'_>| {
            let found = found.next().unwrap_or_else(|| Err(missing(&self.engine, request)));
            if !is_found(&found) {
                return found;
            }
            let mut documents = found?;
            let scores = scores.next().unwrap_or_else(|| Err(missing(self, request)));
            match scores {
                Ok(scores) if scores.len() == documents.len() => reorder(&mut documents, &scores),
                Ok(scores) => return Err(miscounted(request, documents.len(), scores.len())),
                Err(_) if self.config.on_failure == PartFailure::Degrade => num_degraded += 1,
                Err(error) => return Err(error),
            }
            documents.truncate(request.k);
            Ok(documents)
        };
        let results = requests.iter().map(&mut answer).collect();
        self.ledger.record_degraded(NAME, num_degraded);
        results
    }

    fn is_deterministic(&self) -> bool {
        self.engine.is_deterministic() && self.reranker.is_deterministic()
    }

    fn scope(&self) -> EngineScope {
        self.engine.scope()
    }

    fn exhausted(&self) -> Option<String> {
        self.engine.exhausted()
    }
}

/// Sorts documents by new scores; equal ones keep their order.
fn reorder(documents: &mut [Document], scores: &[f32]) {
    for (document, score) in documents.iter_mut().zip(scores) {
        document.score = Some(*score);
    }
    documents.sort_by(|a, b| b.score.unwrap_or(f32::MIN).total_cmp(&a.score.unwrap_or(f32::MIN)));
}

fn miscounted(request: &SearchRequest<'_>, documents: usize, scores: usize) -> SearchError {
    SearchError::Engine {
        engine: NAME.to_owned(),
        query: request.query.to_owned(),
        source: format!("the reranker has {scores} scores for {documents} documents").into(),
    }
}

#[cfg(test)]
mod tests {
    use zs_core::Question;

    use super::*;
    use crate::conformance::{check_engine, check_failure_is_contained, check_own_question};
    use crate::{FaultyEngine, FixedEngine};

    /// Scores a document by the digit in its text; fails on the query `bad`, and has one score too many
    /// for `more`.
    #[derive(Debug)]
    struct Digits;

    impl Reranker for Digits {
        fn rerank_batch(&self, requests: &[RerankRequest<'_>]) -> Vec<RerankResult> {
            let scores = |it: &RerankRequest<'_>| {
                let digit = |it: &Document| it.text.parse().unwrap();
                let more = (it.query == "more").then_some(0.0);
                match it.query {
                    "bad" => Err(SearchError::Unreachable {
                        engine: "digits".to_owned(),
                        source: "away".into(),
                    }),
                    _ => Ok(it.documents.iter().map(digit).chain(more).collect()),
                }
            };
            requests.iter().map(scores).collect()
        }
    }

    fn engine(texts: &[&str], on_failure: PartFailure) -> RerankedEngine {
        let documents =
            texts.iter().zip(0..).map(|(text, id)| Document::new(id.to_string(), *text));
        let engine = FixedEngine::new(documents.collect()).with("nothing", vec![]);
        let engine = FaultyEngine::new(engine, |it| it.query == "no engine");
        let config = RerankConfig { depth: 4, on_failure };
        RerankedEngine::new(Arc::new(engine), Arc::new(Digits), config, Arc::default())
    }

    fn titles(engine: &RerankedEngine, query: &str, k: usize) -> Result<String, String> {
        let question = Question::new("q", query, ["a"]);
        let found = engine.search(SearchRequest::of(&question, k, 0));
        let found = found.map_err(|it| zs_core::with_causes(&it))?;
        Ok(found.iter().map(|it| it.title.as_str()).collect())
    }

    #[test]
    fn scores_decide_and_equal_ones_keep_their_order() {
        let engine = engine(&["1", "3", "3", "2", "9"], PartFailure::Fail);
        // The fifth document is beyond the depth, unless as many are wanted.
        assert_eq!(titles(&engine, "q", 2).unwrap(), "12");
        assert_eq!(titles(&engine, "q", 5).unwrap(), "41230");
        assert_eq!(titles(&engine, "q", 0).unwrap(), "");
        assert_eq!(titles(&engine, "nothing", 3).unwrap(), "");
        assert!(titles(&engine, "more", 3).unwrap_err().contains("5 scores for 4 documents"));
    }

    #[test]
    fn keeps_the_contract() {
        let engine = engine(&["1", "3", "3", "2", "9"], PartFailure::Fail);
        assert!(engine.is_deterministic());
        check_engine(&engine);
        check_own_question(&engine);
        check_failure_is_contained(&engine, "bad");
        check_failure_is_contained(&engine, "no engine");
    }

    #[test]
    fn a_reranker_that_fails_may_be_left_out_and_is_counted() {
        let engine = engine(&["1", "3", "2"], PartFailure::Degrade);
        assert_eq!(titles(&engine, "bad", 2).unwrap(), "01");
        assert_eq!(titles(&engine, "good", 2).unwrap(), "12");
        assert!(titles(&engine, "no engine", 2).is_err());
        assert_eq!(engine.ledger.totals()[0].usage.degraded_searches, 1);
    }
}
