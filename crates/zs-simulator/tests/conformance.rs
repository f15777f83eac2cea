//! Every engine of this crate against the contract of `SearchEngine`.

use std::sync::Arc;

use zs_model::testing::ScriptedGenerator;
use zs_search::conformance::{check_engine, check_own_question};
use zs_simulator::{SimulatedConfig, SimulatedEngine, SimulationTemplates};

/// Some replies are malformed, some are cut, and long queries do not fit the context.
#[test]
fn simulated() {
    for (templates, batch_size) in
        [(SimulationTemplates::tiny(), 64), (SimulationTemplates::zerosearch_sft(), 5)]
    {
        let generator = ScriptedGenerator::new(|prompt, key| match key.seed % 4 {
            0 => String::new(),
            1 => format!("Doc 1: {} Doc 2: {}", prompt.len(), key.seed),
            _ => "Doc 1: a\nDoc 2: b\nDoc 3: c\nDoc 4: d\n".repeat(9),
        });
        let generator = Arc::new(generator.with_context_length(2000));
        let config = SimulatedConfig { batch_size, max_new_tokens: 100, ..Default::default() };
        let engine = SimulatedEngine::new(generator, templates, config);
        check_engine(&engine);
        let stats = engine.stats();
        assert!(stats.num_malformed > 0 && stats.num_failed > 0 && stats.num_cut > 0, "{stats:?}");
    }
}

/// The prompt holds question and answer; a reply that repeats it would show another question's.
#[test]
fn simulated_documents_are_about_their_own_question() {
    for (templates, batch_size) in
        [(SimulationTemplates::tiny(), 64), (SimulationTemplates::zerosearch_sft(), 5)]
    {
        let generator = ScriptedGenerator::new(|prompt, _| match prompt.len() % 3 {
            0 => "***".to_owned(),
            _ => format!("Doc 1: {}", prompt.replace('\n', " ")),
        });
        let config = SimulatedConfig { batch_size, ..Default::default() };
        let engine = SimulatedEngine::new(Arc::new(generator), templates, config);
        check_own_question(&engine);
        assert!(engine.stats().num_documents > 0);
    }
}
