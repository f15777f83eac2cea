//! The one trait behind `<search>`.

use std::fmt::Debug;
use std::sync::Arc;

use crate::{Document, DocumentQuality, Question, caught, with_causes};

/// One search, with everything that an engine may need.
///
/// Kept as one value, so that a batch is a slice of requests and never parallel slices: a query
/// cannot meet another question's answer.
#[derive(Clone, Copy, Debug)]
pub struct SearchRequest<'a> {
    /// The text between `<search>` and `</search>`.
    pub query: &'a str,
    /// The question being answered; retrieval engines ignore it.
    pub question: &'a Question,
    /// The quality drawn from the curriculum; retrieval engines ignore it.
    pub quality: DocumentQuality,
    /// Documents that the episode was shown before this search, in order; an engine may tell from
    /// them what the policy can know by now.
    pub read: &'a [Document],
    /// Number of documents wanted.
    pub k: usize,
    /// Seed of this request; an engine that draws random numbers draws them from it alone.
    pub seed: u64,
}

impl<'a> SearchRequest<'a> {
    /// Creates the request for useful documents about a question, with its text as the query.
    ///
    /// ```
    /// use zs_core::{Question, SearchRequest};
    ///
    /// let questions = ["Who?", "Where?"].map(|it| Question::new(it, it, ["x"]));
    /// let batch = questions.each_ref().map(|it| SearchRequest::of(it, 3, 0));
    /// assert_eq!(batch[1].query, "Where?");
    /// ```
    #[must_use]
    pub fn of(question: &'a Question, k: usize, seed: u64) -> Self {
        let (query, quality) = (question.text.as_str(), DocumentQuality::Useful);
        Self { query, question, quality, read: &[], k, seed }
    }
}

/// Result of one request: documents, best first, or the reason that there are none.
pub type SearchResult = Result<Vec<Document>, SearchError>;

/// Beginning of the message of [`SearchError::Malformed`]; records keep errors as text.
pub const MALFORMED_REPLY: &str = "no document found in the reply";

/// Failure of a search.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SearchError {
    /// The engine could not be reached.
    #[error("search engine `{engine}` is unreachable")]
    Unreachable {
        /// The engine's name.
        engine: String,
        /// The transport's own error.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The engine answered, but with an error of its own.
    #[error("search engine `{engine}` failed on query `{query}`")]
    Engine {
        /// The engine's name.
        engine: String,
        /// The query that was sent.
        query: String,
        /// The engine's own error.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The simulation LLM's reply held no document.
    #[error("{} to query `{query}`: `{reply}`", MALFORMED_REPLY)]
    Malformed {
        /// The query that was sent.
        query: String,
        /// The reply, shortened.
        reply: String,
    },
    /// The engine may not be asked any more: a budget is used up.
    #[error("search engine `{engine}` is not asked any more: {limit}")]
    Exhausted {
        /// The engine's name.
        engine: String,
        /// Name of the limit.
        limit: String,
    },
}

impl SearchError {
    /// Returns true if the same request may succeed later: the engine was out of reach, and did not
    /// refuse or fail on this very request.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Unreachable { .. })
    }

    /// The same error for another request that shares its fate; its cause is kept as text.
    #[must_use]
    pub fn repeated(&self) -> Self {
        match self {
            Self::Unreachable { engine, source } => Self::Unreachable {
                engine: engine.clone(),
                source: with_causes(source.as_ref()).into(),
            },
            Self::Engine { engine, query, source } => Self::Engine {
                engine: engine.clone(),
                query: query.clone(),
                source: with_causes(source.as_ref()).into(),
            },
            Self::Malformed { query, reply } => {
                Self::Malformed { query: query.clone(), reply: reply.clone() }
            }
            Self::Exhausted { engine, limit } => {
                Self::Exhausted { engine: engine.clone(), limit: limit.clone() }
            }
        }
    }
}

/// Asks an engine whose panic is a failed search, for every request of the batch.
///
/// ```
/// use zs_core::{DocumentQuality, Question, SearchEngine, SearchRequest, SearchResult};
///
/// #[derive(Debug)]
/// struct Broken;
///
/// impl SearchEngine for Broken {
///     fn name(&self) -> &str {
///         "broken"
///     }
///
///     fn search_batch(&self, _: &[SearchRequest<'_>]) -> Vec<SearchResult> {
///         panic!("an index out of bounds")
///     }
/// }
///
/// let question = Question::new("q", "?", ["a"]);
/// let quality = DocumentQuality::Useful;
/// let request = SearchRequest { query: "q", question: &question, quality, read: &[], k: 1, seed: 0 };
/// let results = zs_core::guarded_search(&Broken, &[request; 2]);
/// assert!(results.len() == 2 && results.iter().all(Result::is_err));
/// ```
pub fn guarded_search(
    engine: &dyn SearchEngine,
    requests: &[SearchRequest<'_>],
) -> Vec<SearchResult> {
    caught(|| engine.search_batch(requests)).unwrap_or_else(|message| {
        let failed = |it: &SearchRequest<'_>| {
            let (engine, query) = (engine.name().to_owned(), it.query.to_owned());
            Err(SearchError::Engine { engine, query, source: message.clone().into() })
        };
        requests.iter().map(failed).collect()
    })
}

/// Parts of a request that an engine reads, and so what its answer can depend on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EngineScope {
    /// `query` and `k` only: retrieval.
    Query,
    /// Any of it, e.g. question, golden answers, quality and seed: simulation.
    Request,
}

/// A source of documents: simulated, local index, or live web.
///
/// # Implementing
///
/// Implement [`search_batch`](Self::search_batch), which must return one result a request, in the
/// order of the requests, and must not let one failing request fail the others. An engine that
/// returns fewer documents than `k` is fine; one that returns more is not. Where
/// [`is_deterministic`](Self::is_deterministic) is true, the same request must give the same result
/// whatever else is in the batch. `zs_search::conformance` checks all of this.
///
/// ```
/// use zs_core::{Document, SearchEngine, SearchRequest, SearchResult};
///
/// /// Answers every query with itself.
/// #[derive(Debug)]
/// struct Echo;
///
/// impl SearchEngine for Echo {
///     fn name(&self) -> &str {
///         "echo"
///     }
///
///     fn search_batch(&self, requests: &[SearchRequest<'_>]) -> Vec<SearchResult> {
///         requests.iter().map(|it| Ok(vec![Document::new("echo", it.query)])).collect()
///     }
/// }
/// ```
pub trait SearchEngine: Debug + Send + Sync {
    /// A short name used in logs and metrics, e.g. `"simulated"`.
    fn name(&self) -> &str;

    /// Answers every request, in order, each with its own result.
    fn search_batch(&self, requests: &[SearchRequest<'_>]) -> Vec<SearchResult>;

    /// Answers one request; shorthand for a batch of one.
    ///
    /// # Errors
    ///
    /// As [`search_batch`](Self::search_batch) for that request.
    ///
    /// # Panics
    ///
    /// When the implementation returns no result at all, which the trait forbids.
    fn search(&self, request: SearchRequest<'_>) -> SearchResult {
        self.search_batch(&[request]).pop().expect("one result a request")
    }

    /// The engine inside of a wrapper, whose properties are the wrapper's unless it says otherwise.
    fn inner(&self) -> Option<&dyn SearchEngine> {
        None
    }

    /// Returns true if the same request always gives the same result.
    fn is_deterministic(&self) -> bool {
        self.inner().is_none_or(|it| it.is_deterministic())
    }

    /// Parts of a request that this engine reads; caches take it at its word.
    ///
    /// Everything, unless an engine says otherwise.
    fn scope(&self) -> EngineScope {
        self.inner().map_or(EngineScope::Request, |it| it.scope())
    }

    /// Returns the reason that no further search can succeed, e.g. a budget that is used up; a run
    /// that trains with the engine stops at it. `None` while the engine answers.
    fn exhausted(&self) -> Option<String> {
        self.inner().and_then(|it| it.exhausted())
    }
}

/// A shared engine is an engine.
impl<E: SearchEngine + ?Sized> SearchEngine for Arc<E> {
    fn name(&self) -> &str {
        (**self).name()
    }

    fn search_batch(&self, requests: &[SearchRequest<'_>]) -> Vec<SearchResult> {
        (**self).search_batch(requests)
    }

    fn inner(&self) -> Option<&dyn SearchEngine> {
        (**self).inner()
    }

    fn is_deterministic(&self) -> bool {
        (**self).is_deterministic()
    }

    fn scope(&self) -> EngineScope {
        (**self).scope()
    }

    fn exhausted(&self) -> Option<String> {
        (**self).exhausted()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_malformed_reply_is_told_by_its_message() {
        let error = SearchError::Malformed { query: "q".to_owned(), reply: "?".to_owned() };
        assert_eq!(error.to_string(), "no document found in the reply to query `q`: `?`");
    }

    #[test]
    fn errors_are_repeated_with_their_causes() {
        #[derive(Debug, thiserror::Error)]
        #[error("outer")]
        struct Outer(#[source] std::fmt::Error);

        let engine = || "bm25".to_owned();
        let query = || "q".to_owned();
        for (error, is_transient) in [
            (SearchError::Unreachable { engine: engine(), source: "gone".into() }, true),
            (SearchError::Malformed { query: query(), reply: "?".to_owned() }, false),
            (SearchError::Exhausted { engine: engine(), limit: "spent".to_owned() }, false),
        ] {
            assert_eq!(error.is_transient(), is_transient);
            assert_eq!(format!("{:?}", error.repeated()), format!("{error:?}"));
        }
        let source = Box::new(Outer(std::fmt::Error));
        let error = SearchError::Engine { engine: engine(), query: query(), source };
        let SearchError::Engine { source, .. } = error.repeated() else { panic!("another kind") };
        assert_eq!(source.to_string(), format!("outer: {}", std::fmt::Error));
    }
}
