//! BM25: building an index in memory and on disk, one query, a batch; over an embedded world, or over
//! the corpus that `ZS_BENCH_CORPUS` names.
#![expect(clippy::unwrap_used, reason = "a bench may stop at the first surprise")]

use std::path::PathBuf;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use zs_core::{Document, DocumentQuality, Question, SearchEngine, SearchRequest};
use zs_simulator::world::{Split, World};
use zs_simulator::{Bm25Engine, IndexBuild, read_corpus};

/// Passages and queries: the world's own, or those of a corpus, asked for by their titles.
fn workload() -> (Vec<Document>, Vec<String>) {
    if let Some(path) = std::env::var_os("ZS_BENCH_CORPUS") {
        let passages = read_corpus(&PathBuf::from(path)).unwrap();
        let words = |it: &Document| it.text.split(' ').take(6).collect::<Vec<_>>().join(" ");
        let queries = passages.iter().step_by(passages.len().div_ceil(200).max(1));
        let queries = queries.map(|it| format!("{} {}", it.title, words(it))).collect();
        return (passages, queries);
    }
    let world = World::generate(1, Split::Train);
    let questions = world.questions(1, 1, 200);
    (world.passages(), questions.into_iter().map(|it| it.question.text).collect())
}

fn bm25(c: &mut Criterion) {
    let (passages, queries) = workload();
    let engine = Bm25Engine::from_documents(passages.clone()).unwrap();
    let question = Question::new("", "", Vec::<String>::new());
    let requests: Vec<SearchRequest<'_>> = queries
        .iter()
        .map(|query| SearchRequest {
            query,
            question: &question,
            quality: DocumentQuality::Useful,
            read: &[],
            k: 5,
            seed: 0,
        })
        .collect();
    let folder = tempfile::tempdir().unwrap();
    let corpus = folder.path().join("corpus.jsonl");
    let rows = passages.iter().map(|it| serde_json::to_string(it).unwrap() + "\n");
    std::fs::write(&corpus, rows.collect::<String>()).unwrap();
    let index = folder.path().join("index");
    IndexBuild::new(&corpus, &index).run(&mut |_| {}).unwrap();
    let on_disk = Bm25Engine::open(&index).unwrap();

    let mut group = c.benchmark_group("bm25");
    group.sample_size(10);
    group.throughput(Throughput::Elements(passages.len() as u64));
    group.bench_function("build in memory", |b| {
        b.iter_batched(
            || passages.clone(),
            |it| Bm25Engine::from_documents(it).unwrap(),
            BatchSize::LargeInput,
        );
    });
    let mut number = 0;
    group.bench_function("build on disk", |b| {
        b.iter(|| {
            number += 1;
            let out = folder.path().join(format!("built-{number}"));
            IndexBuild::new(&corpus, &out).run(&mut |_| {}).unwrap()
        });
    });
    group.throughput(Throughput::Elements(1));
    group.bench_function("one query", |b| b.iter(|| engine.search(requests[0])));
    group.throughput(Throughput::Elements(requests.len() as u64));
    group.bench_function("a batch", |b| b.iter(|| engine.search_batch(&requests)));
    group.bench_function("a batch on disk", |b| b.iter(|| on_disk.search_batch(&requests)));
}

criterion_group!(benches, bm25);
criterion_main!(benches);
