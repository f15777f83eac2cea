//! One cache, several processes that write to it at once.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use zs_core::{Document, DocumentQuality, Question, SearchEngine, SearchRequest, SearchResult};
use zs_search::{CachedEngine, Ledger};

/// Environment variable that names the folder of the cache to a child.
const FOLDER: &str = "ZS_TEST_CACHE_FOLDER";
const NUM_PROCESSES: u64 = 4;
const NUM_SEARCHES: u64 = 40;

/// Answers with the request's seed.
#[derive(Debug)]
struct Seeds;

impl SearchEngine for Seeds {
    fn name(&self) -> &str {
        "seeds"
    }

    fn search_batch(&self, requests: &[SearchRequest<'_>]) -> Vec<SearchResult> {
        requests.iter().map(|it| Ok(vec![Document::new("", it.seed.to_string())])).collect()
    }
}

/// Searches for seeds in small batches, half of them the same in every process.
fn search(folder: &Path, first: u64) -> (Vec<String>, Arc<Ledger>) {
    let ledger = Arc::new(Ledger::default());
    let engine = CachedEngine::open(Seeds, folder, "", Arc::clone(&ledger)).unwrap();
    let question = Question::new("q", "?", ["a"]);
    let seeds: Vec<u64> = (first..first + NUM_SEARCHES).collect();
    let mut texts = Vec::new();
    for batch in seeds.chunks(3) {
        let requests: Vec<SearchRequest<'_>> = batch
            .iter()
            .map(|seed| SearchRequest {
                query: "q",
                question: &question,
                quality: DocumentQuality::Useful,
                read: &[],
                k: 1,
                seed: *seed,
            })
            .collect();
        let found = engine.search_batch(&requests).into_iter();
        texts.extend(found.map(|it| it.unwrap().remove(0).text));
    }
    (texts, ledger)
}

#[test]
fn processes_share_a_cache() {
    if let Some(folder) = std::env::var_os(FOLDER) {
        let number: u64 = std::env::var("ZS_TEST_CACHE_CHILD").unwrap().parse().unwrap();
        search(Path::new(&folder), number * NUM_SEARCHES / 2);
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let children: Vec<_> = (0..NUM_PROCESSES)
        .map(|number| {
            Command::new(std::env::current_exe().unwrap())
                .args(["--exact", "processes_share_a_cache"])
                .env(FOLDER, folder.path())
                .env("ZS_TEST_CACHE_CHILD", number.to_string())
                .spawn()
                .unwrap()
        })
        .collect();
    for mut child in children {
        assert!(child.wait().unwrap().success());
    }
    for number in 0..NUM_PROCESSES {
        let first = number * NUM_SEARCHES / 2;
        let (texts, ledger) = search(folder.path(), first);
        let expected: Vec<String> =
            (first..first + NUM_SEARCHES).map(|it| it.to_string()).collect();
        assert_eq!(texts, expected);
        let usage = ledger.totals()[0].usage;
        assert_eq!((usage.cache_hits, usage.cache_failures), (NUM_SEARCHES, 0));
    }
}
