//! Every engine of this crate against the contract of `SearchEngine`.

use zs_core::{Document, SearchEngine, SearchRequest, SearchResult};
use zs_search::conformance::{check_engine, check_failure_is_contained, check_own_question};
use zs_search::{Bm25Config, Bm25Engine, FaultyEngine, FixedEngine};

/// Titles and texts that share words with each other and with the suite's queries.
fn documents() -> Vec<Document> {
    (0..600)
        .map(|it| {
            let text = format!("The director of film {} was born in {}.", it % 90, 1900 + it % 70);
            Document { id: it.to_string(), ..Document::new(format!("Film {it}"), text) }
        })
        .collect()
}

#[test]
fn bm25_in_memory() {
    check_engine(&Bm25Engine::from_documents(documents()).unwrap());
}

#[test]
fn bm25_on_disk() {
    let folder = tempfile::tempdir().unwrap();
    let index = folder.path().join("index");
    check_engine(&Bm25Engine::create(&index, &documents(), Bm25Config::default()).unwrap());
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
