//! Carries out the searches of one turn, all in one batch.

use tracing::info_span;
use zs_core::{
    Action, Document, DocumentQuality, Domain, SearchEngine, SearchRequest, SearchResult,
    StreamKey, guarded_search, with_causes,
};

use super::row::{Replaced, RolloutRow, TurnReply};
use super::{RolloutConfig, RolloutError, TurnNoise};
use crate::SearchRecord;

/// Sends the queries that are owed documents, and puts what comes back into their turns.
pub(super) fn search(
    rows: &mut [RolloutRow<'_>],
    active: &[usize],
    engine: &dyn SearchEngine,
    noise_probability: &TurnNoise,
    config: &RolloutConfig,
) -> Result<(), RolloutError> {
    let mut searching: Vec<(usize, SearchRecord)> = Vec::new();
    for &index in active {
        let row = &mut rows[index];
        let replaced = row.replaced.take();
        let key = key_of_turn(row);
        let Some(turn) = row.trajectory.turns.last_mut() else { continue };
        if let Some(Replaced::By(record)) = replaced {
            turn.search = Some(record);
        } else if let (TurnReply::Documents, Action::Search(query)) = (&row.reply, &turn.action) {
            let quality = match replaced {
                Some(Replaced::Quality(quality)) => quality,
                _ => draw_quality(key, noise_probability),
            };
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
                let row = &rows[*index];
                SearchRequest {
                    query: &record.query,
                    question: row.episode.question,
                    quality: record.quality,
                    read,
                    k: config.num_documents,
                    seed: key_of_turn(row).derive_seed(Domain::Search),
                }
            })
            .collect();
        let turn = key_of_turn(&rows[searching[0].0]).turn;
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

/// Key of the last turn of an episode.
fn key_of_turn(row: &RolloutRow<'_>) -> StreamKey {
    StreamKey { turn: row.num_turns().saturating_sub(1), ..row.episode.key }
}

/// Useful or noisy, drawn for one query.
fn draw_quality(key: StreamKey, noise_probability: &TurnNoise) -> DocumentQuality {
    let noise_probability = noise_probability.at(key.turn);
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
