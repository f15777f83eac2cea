//! Every engine of this crate against the contract of `SearchEngine`.

use std::sync::Arc;

use zs_core::{Document, SearchEngine, SearchRequest, SearchResult};
use zs_model::testing::ScriptedGenerator;
use zs_simulator::conformance::{check_engine, check_failure_is_contained, check_own_question};
use zs_simulator::world::{Split, World};
use zs_simulator::{
    Bm25Engine, Bm25Fields, FaultyEngine, FixedEngine, SimulatedConfig, SimulatedEngine,
    SimulationTemplates,
};

#[test]
fn bm25_in_memory() {
    check_engine(World::generate(0, Split::Train).engine().as_ref());
}

#[test]
fn bm25_on_disk() {
    let folder = tempfile::tempdir().unwrap();
    let documents = World::generate(0, Split::Train).passages();
    check_engine(
        &Bm25Engine::create(&folder.path().join("index"), &documents, Bm25Fields::default())
            .unwrap(),
    );
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
    check_engine(&FaultyEngine::new(engine.clone(), |request| request.seed % 3 == 1));
    check_failure_is_contained(&FaultyEngine::new(engine, |it| it.query == "bad"), "bad");
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

#[test]
#[should_panic(expected = "got the answer of")]
fn an_engine_that_mixes_questions_up_is_found_out() {
    /// Pairs queries with the answers of the batch's rows, one place off.
    #[derive(Debug)]
    struct Shifted;

    impl SearchEngine for Shifted {
        fn name(&self) -> &str {
            "shifted"
        }

        fn search_batch(&self, requests: &[SearchRequest<'_>]) -> Vec<SearchResult> {
            let shifted = requests.iter().cycle().skip(1);
            requests
                .iter()
                .zip(shifted)
                .map(|(_, other)| {
                    Ok(vec![Document::new("", other.question.golden_answers[0].as_str())])
                })
                .collect()
        }
    }

    check_own_question(&Shifted);
}
