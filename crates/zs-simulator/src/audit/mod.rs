//! Audit of the faithfulness of a search engine to queries: good queries must find the answer, and
//! bad ones must not.
//!
//! [`audit`] runs on an embedded world, where the right result of every query is known.
//! [`audit_questions`] takes any questions, derives queries of decreasing quality from them, and
//! compares the documents of an engine with those of a real one.

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

/// Returns true if a document contains an answer.
fn hold_answer(documents: &[Document], question: &Question) -> bool {
    documents.iter().any(|it| contains_answer(&it.text, &question.golden_answers))
}
