//! The thread that searches: queries of all requests, one `search_batch` at a time.

use std::sync::Arc;

use anyhow::Result;
use tokio::sync::oneshot;
use zs_core::{
    Document, DocumentQuality, Question, SearchEngine, SearchError, SearchRequest, SearchResult,
};

use super::batcher::{BatchConfig, Batcher, Job};
use super::metrics::ServerMetrics;

/// One query with all that an engine may ask for.
#[derive(Clone, Debug)]
pub(super) struct ServedQuery {
    pub(super) query: String,
    pub(super) question: Question,
    pub(super) quality: DocumentQuality,
    pub(super) seed: u64,
}

/// An engine behind a batcher.
#[derive(Debug)]
pub(super) struct Retriever {
    batcher: Batcher<RetrieveJob>,
}

#[derive(Debug)]
struct RetrieveJob {
    queries: Vec<ServedQuery>,
    k: usize,
    reply: oneshot::Sender<Vec<SearchResult>>,
}

impl Job for RetrieveJob {
    fn size(&self) -> usize {
        self.queries.len()
    }
}

impl Retriever {
    pub(super) fn start(
        engine: Arc<dyn SearchEngine>,
        config: BatchConfig,
        metrics: Arc<ServerMetrics>,
    ) -> Result<Self> {
        let process = move |jobs: Vec<RetrieveJob>| search(engine.as_ref(), jobs, &metrics);
        Ok(Self { batcher: Batcher::start("retrieve", config, process)? })
    }

    /// One result a query, in order; `None` where the engine broke down.
    pub(super) async fn search(
        &self,
        queries: Vec<ServedQuery>,
        k: usize,
    ) -> Option<Vec<SearchResult>> {
        let (reply, result) = oneshot::channel();
        self.batcher.submit(RetrieveJob { queries, k, reply });
        result.await.ok()
    }
}

/// Searches for the queries of all jobs together and gives each job its own results.
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
        let mine: Vec<SearchResult> = job
            .queries
            .iter()
            .map(|it| {
                results.next().unwrap_or_else(|| {
                    Err(SearchError::Engine {
                        engine: engine.name().to_owned(),
                        query: it.query.clone(),
                        source: "it returned fewer results than it was sent requests".into(),
                    })
                })
            })
            .collect();
        for result in &mine {
            match result {
                Ok(documents) => metrics.documents.inc_by(documents.len() as u64),
                Err(_) => metrics.failed_queries.inc(),
            };
        }
        // Nobody waits any more where the client has gone.
        let _ = job.reply.send(mine);
    }
}
