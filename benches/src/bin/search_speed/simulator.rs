//! The simulation LLM: documents and tokens a second.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use burn::tensor::Device;
use serde_json::{Value, json};
use zs_core::{DocumentQuality, Question, SearchEngine, SearchRequest};
use zs_model::LanguageModel;
use zs_search::Ledger;
use zs_simulator::{SimulatedConfig, SimulatedEngine, SimulationTemplates};
use zs_world::{Split, World};

use crate::Result;
use crate::rates::Rates;

/// Searches that are answered together.
const BATCH: usize = 64;

pub(crate) fn bench(model: &Path, tries: usize) -> Result<Value> {
    let model = Arc::new(LanguageModel::load(model, &Device::default())?);
    let ledger = Arc::new(Ledger::default());
    let config = SimulatedConfig { max_new_tokens: 100, ..SimulatedConfig::default() };
    let engine = SimulatedEngine::new(model, SimulationTemplates::tiny(), config)
        .with_ledger(Arc::clone(&ledger));
    let questions: Vec<Question> = World::generate(1, Split::Validation)
        .questions(1, 1, BATCH)
        .into_iter()
        .map(|it| it.question)
        .collect();
    let (mut documents, mut tokens) = (Rates::default(), Rates::default());
    // The first round warms up.
    for round in 0..=tries as u64 {
        let requests: Vec<SearchRequest<'_>> = (0..)
            .zip(&questions)
            .map(|(index, question)| SearchRequest {
                query: &question.text,
                question,
                quality: DocumentQuality::Useful,
                read: &[],
                k: 3,
                seed: round << 32 | index,
            })
            .collect();
        ledger.take_step();
        let start = Instant::now();
        let results = engine.search_batch(&requests);
        let seconds = start.elapsed().as_secs_f64();
        let step = ledger.take_step();
        if round > 0 {
            documents.push(results.iter().flatten().map(Vec::len).sum(), seconds);
            tokens.push(step["simulated"].completion_tokens as usize, seconds);
        }
    }
    println!("  {documents} documents/s, {tokens} sampled tokens/s, {BATCH} searches at once");
    Ok(json!({ "documents_per_s": documents.json(), "tokens_per_s": tokens.json() }))
}
