//! How faithful a search engine is to queries: does it give the answer to good ones, and only then?
//!
//! [`audit`] asks about an embedded world, where it is known what every query should find.
//! [`audit_questions`] takes any questions, derives worse and worse queries from them, and compares
//! what an engine writes with what a real one finds.

mod forms;
mod measures;
mod questions;
mod world;

pub use forms::{QueryForm, derive_queries};
pub use measures::{ReplyMeasures, content_overlap};
pub use questions::{AuditCell, QuestionAudit, QuestionAuditConfig, audit_questions};
pub use world::{AuditKind, AuditQuery, AuditReport, audit, audit_queries};

use zs_core::{Document, DocumentQuality, Question, SearchEngine, SearchRequest, SearchResult};

use crate::tuning::contains_answer;

/// One query that an engine is probed with.
#[derive(Clone, Copy, Debug)]
struct Probe<'a> {
    question: &'a Question,
    query: &'a str,
    quality: DocumentQuality,
    seed: u64,
}

/// One result a probe.
fn search_all(engine: &dyn SearchEngine, probes: &[Probe<'_>], k: usize) -> Vec<SearchResult> {
    let requests: Vec<SearchRequest<'_>> = probes
        .iter()
        .map(|it| SearchRequest {
            query: it.query,
            question: it.question,
            quality: it.quality,
            read: &[],
            k,
            seed: it.seed,
        })
        .collect();
    engine.search_batch(&requests)
}

/// Whether a document holds an answer.
fn hold_answer(documents: &[Document], question: &Question) -> bool {
    documents.iter().any(|it| contains_answer(&it.text, &question.golden_answers))
}
