//! The search thread: batches of queries from all requests, one `search_batch` at a time.

use std::sync::Arc;

use tokio::sync::oneshot;
use zs_core::{
    Document, DocumentQuality, Question, SearchEngine, SearchError, SearchRequest, SearchResult,
};

use crate::ServeError;
use crate::batcher::{BatchConfig, Batcher, Job};
use crate::metrics::ServerMetrics;

/// One query with every input of an engine.
#[derive(Clone, Debug)]
pub(crate) struct ServedQuery {
    pub(crate) query: String,
    pub(crate) question: Question,
    pub(crate) quality: DocumentQuality,
    pub(crate) seed: u64,
}

/// An engine behind a batcher.
#[derive(Debug)]
pub(crate) struct Retriever {
    batcher: Batcher<RetrieveJob>,
}

#[derive(Debug)]
struct RetrieveJob {
    queries: Vec<ServedQuery>,
    k: usize,
    results: oneshot::Sender<Vec<SearchResult>>,
}

impl Job for RetrieveJob {
    fn size(&self) -> usize {
        self.queries.len()
    }
}

impl Retriever {
    pub(crate) fn start(
        engine: Arc<dyn SearchEngine>,
        config: BatchConfig,
        metrics: Arc<ServerMetrics>,
    ) -> Result<Self, ServeError> {
        let process = move |jobs: Vec<RetrieveJob>| search(engine.as_ref(), jobs, &metrics);
        Ok(Self { batcher: Batcher::start("retrieve", config, process)? })
    }

    /// Returns one result per query, in order, or `None` when the engine panicked.
    pub(crate) async fn search(
        &self,
        queries: Vec<ServedQuery>,
        k: usize,
    ) -> Option<Vec<SearchResult>> {
        let (sender, receiver) = oneshot::channel();
        self.batcher.submit(RetrieveJob { queries, k, results: sender });
        receiver.await.ok()
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
    let mut results = engine.search_batch(&requests).into_iter();
    for job in jobs {
        let own: Vec<SearchResult> = job
            .queries
            .iter()
            .map(|it| {
                results.next().unwrap_or_else(|| {
                    Err(SearchError::Engine {
                        engine: engine.name().to_owned(),
                        query: it.query.clone(),
                        source: "it returned fewer results than requests".into(),
                    })
                })
            })
            .collect();
        for result in &own {
            match result {
                Ok(documents) => metrics.documents.inc_by(documents.len() as u64),
                Err(_) => metrics.failed_queries.inc(),
            };
        }
        // Sending fails when the client has disconnected.
        let _ = job.results.send(own);
    }
}
