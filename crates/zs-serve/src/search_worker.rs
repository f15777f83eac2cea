//! The search threads: batches of queries from all requests, one `search_batch` at a time.

use std::sync::Arc;

use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};
use zs_core::{
    Document, DocumentQuality, Question, SearchEngine, SearchError, SearchRequest, SearchResult,
};

use crate::ServeError;
use crate::batcher::{BatchConfig, Batcher, Job, Room, Size, num_fitting};
use crate::metrics::ServerMetrics;

/// Number of queries up to which a request is processed beside the larger ones, in a thread of its own
/// kind.
const FEW_QUERIES: usize = 8;

/// One query with every input of an engine.
#[derive(Clone, Debug)]
pub(crate) struct ServedQuery {
    pub(crate) query: String,
    pub(crate) question: Question,
    pub(crate) quality: DocumentQuality,
    pub(crate) seed: u64,
}

/// An engine behind two batchers: one for requests of few queries, one for the others.
#[derive(Debug)]
pub(crate) struct Retriever {
    few: Batcher<RetrieveJob>,
    many: Batcher<RetrieveJob>,
}

/// Queries of a request, from number `first` on.
#[derive(Debug)]
struct RetrieveJob {
    queries: Vec<ServedQuery>,
    first: usize,
    k: usize,
    results: UnboundedSender<Part>,
}

/// Results of the queries of a request from number `first` on.
#[derive(Debug)]
struct Part {
    first: usize,
    results: Vec<SearchResult>,
}

impl Job for RetrieveJob {
    fn size(&self) -> Size {
        Size { items: self.queries.len(), longest: 0 }
    }

    fn is_abandoned(&self) -> bool {
        self.results.is_closed()
    }

    fn cut(mut self, room: Room) -> (Self, Option<Self>) {
        let at = num_fitting(self.queries.iter().map(|_| 0), room);
        let rest = Self {
            queries: self.queries.split_off(at),
            first: self.first + at,
            k: self.k,
            results: self.results.clone(),
        };
        (self, (!rest.queries.is_empty()).then_some(rest))
    }
}

impl Retriever {
    pub(crate) fn start(
        engine: Arc<dyn SearchEngine>,
        config: BatchConfig,
        metrics: Arc<ServerMetrics>,
    ) -> Result<Self, ServeError> {
        let process: Arc<dyn Fn(Vec<RetrieveJob>) + Send + Sync> =
            Arc::new(move |jobs| search(engine.as_ref(), jobs, &metrics));
        let room = Room { items: config.max_size, tokens: usize::MAX };
        let start = |name| Batcher::start(name, room, config.max_wait, Arc::clone(&process));
        Ok(Self { few: start("retrieve-few")?, many: start("retrieve-many")? })
    }

    /// Returns true for a number of queries that is processed beside requests of few queries.
    pub(crate) fn is_long(num_queries: usize) -> bool {
        num_queries > FEW_QUERIES
    }

    /// Returns one result per query, in order, or `None` when the engine panicked.
    pub(crate) async fn search(
        &self,
        queries: Vec<ServedQuery>,
        k: usize,
    ) -> Option<Vec<SearchResult>> {
        let mut results: Vec<Option<SearchResult>> = queries.iter().map(|_| None).collect();
        if queries.is_empty() {
            return Some(Vec::new());
        }
        let (sender, mut parts) = unbounded_channel();
        let batcher = if Self::is_long(queries.len()) { &self.many } else { &self.few };
        batcher.submit(RetrieveJob { queries, first: 0, k, results: sender });
        while let Some(Part { first, results: part }) = parts.recv().await {
            for (slot, result) in results[first..].iter_mut().zip(part) {
                *slot = Some(result);
            }
        }
        results.into_iter().collect()
    }
}

/// Searches for the queries of all jobs in one batch and sends each job its own results.
fn search(engine: &dyn SearchEngine, jobs: Vec<RetrieveJob>, metrics: &ServerMetrics) {
    const NOTHING_READ: &[Document] = &[];
    let requests: Vec<SearchRequest<'_>> = jobs
        .iter()
        .flat_map(|job| {
            job.queries.iter().map(|it| SearchRequest {
                query: &it.query,
                question: &it.question,
                quality: it.quality,
                read: NOTHING_READ,
                k: job.k,
                seed: it.seed,
            })
        })
        .collect();
    metrics.batch("retrieve", requests.len());
    metrics.queries.inc_by(requests.len() as u64);
    let mut found = engine.search_batch(&requests).into_iter();
    for job in jobs {
        let results: Vec<SearchResult> = job
            .queries
            .iter()
            .map(|it| {
                found.next().unwrap_or_else(|| {
                    Err(SearchError::Engine {
                        engine: engine.name().to_owned(),
                        query: it.query.clone(),
                        source: "it returned fewer results than requests".into(),
                    })
                })
            })
            .collect();
        for result in &results {
            match result {
                Ok(documents) => metrics.documents.inc_by(documents.len() as u64),
                Err(_) => metrics.failed_queries.inc(),
            };
        }
        // Sending fails when the client has left.
        let _ = job.results.send(Part { first: job.first, results });
    }
}
