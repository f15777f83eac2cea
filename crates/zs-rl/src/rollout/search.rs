//! Carries out the searches of one turn, all in one batch.

use tracing::info_span;
use zs_core::{
    Action, Document, DocumentQuality, Domain, SearchEngine, SearchRequest, SearchResult,
    StreamKey, guarded_search, with_causes,
};

use super::row::{RolloutRow, TurnReply};
use super::{Episode, RolloutConfig, RolloutError};
use crate::SearchRecord;

/// Sends the queries that are owed documents, and puts what comes back into their turns.
pub(super) fn search(
    rows: &mut [RolloutRow<'_>],
    active: &[usize],
    engine: &dyn SearchEngine,
    turn: u32,
    noise_probability: f64,
    config: &RolloutConfig,
) -> Result<(), RolloutError> {
    let mut searching: Vec<(usize, SearchRecord)> = Vec::new();
    for &index in active {
        let row = &rows[index];
        let action = row.trajectory.turns.last().map(|it| &it.action);
        if let (TurnReply::Documents, Some(Action::Search(query))) = (&row.reply, action) {
            let key = StreamKey { turn, ..row.episode.key };
            let quality = draw_quality(key, noise_probability);
            let query = query.clone();
            searching
                .push((index, SearchRecord { query, quality, documents: Vec::new(), error: None }));
        }
    }
    if searching.is_empty() {
        return Ok(());
    }
    let results = {
        let read: Vec<Vec<Document>> =
            searching.iter().map(|(index, _)| rows[*index].documents_read()).collect();
        let requests: Vec<SearchRequest<'_>> = searching
            .iter()
            .zip(&read)
            .map(|((index, record), read)| {
                let Episode { question, key } = rows[*index].episode;
                SearchRequest {
                    query: &record.query,
                    question,
                    quality: record.quality,
                    read,
                    k: config.num_documents,
                    seed: StreamKey { turn, ..key }.derive_seed(Domain::Search),
                }
            })
            .collect();
        let _span = info_span!("search", turn, searches = requests.len()).entered();
        guarded_search(engine, &requests)
    };
    if results.len() != searching.len() {
        return Err(RolloutError::EngineContract {
            engine: engine.name().to_owned(),
            requests: searching.len(),
            results: results.len(),
        });
    }
    for ((index, mut record), result) in searching.into_iter().zip(results) {
        fill(&mut record, result, config.num_documents);
        if let Some(turn) = rows[index].trajectory.turns.last_mut() {
            turn.search = Some(record);
        }
    }
    Ok(())
}

/// Useful or noisy, drawn for one query.
fn draw_quality(key: StreamKey, noise_probability: f64) -> DocumentQuality {
    let draw: f64 = rand::RngExt::random(&mut key.rng(Domain::Quality));
    if draw < noise_probability { DocumentQuality::Noisy } else { DocumentQuality::Useful }
}

fn fill(record: &mut SearchRecord, result: SearchResult, k: usize) {
    match result {
        Ok(documents) => {
            record.documents = documents;
            record.documents.truncate(k);
        }
        Err(error) => record.error = Some(with_causes(&error)),
    }
}
