//! Every engine of this crate against the contract of `SearchEngine`.

use std::sync::Arc;

use zs_core::Document;
use zs_model::testing::ScriptedGenerator;
use zs_simulator::conformance::check_engine;
use zs_simulator::world::{Split, World};
use zs_simulator::{
    Bm25Engine, Bm25Fields, FaultyEngine, FixedEngine, SimulatedConfig, SimulatedEngine, SimulationTemplates,
};

#[test]
fn bm25_in_memory() {
    check_engine(World::generate(0, Split::Train).engine().as_ref());
}

#[test]
fn bm25_on_disk() {
    let folder = tempfile::tempdir().unwrap();
    let documents = World::generate(0, Split::Train).passages();
    check_engine(&Bm25Engine::create(&folder.path().join("index"), &documents, Bm25Fields::default()).unwrap());
}

#[test]
fn fixed() {
    check_engine(&FixedEngine::default());
    let documents = vec![Document::new("a", "b"), Document::new("c", "d")];
    check_engine(&FixedEngine::new(documents).with("?", vec![]));
}

#[test]
fn faulty() {
    let engine = FixedEngine::new(vec![Document::new("a", "b")]);
    check_engine(&FaultyEngine::new(engine, |request| request.seed % 3 == 1));
}

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
