//! BM25 over an embedded world: building the index, one query, a batch.
#![expect(clippy::unwrap_used, reason = "a bench may stop at the first surprise")]

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use zs_core::{DocumentQuality, SearchEngine, SearchRequest};
use zs_simulator::Bm25Engine;
use zs_simulator::world::{Split, World};

fn bm25(c: &mut Criterion) {
    let world = World::generate(1, Split::Train);
    let passages = world.passages();
    let questions = world.questions(1, 1, 200);
    let engine = Bm25Engine::from_documents(passages.clone()).unwrap();
    let requests: Vec<SearchRequest<'_>> = questions
        .iter()
        .map(|it| SearchRequest {
            query: &it.question.text,
            question: &it.question,
            quality: DocumentQuality::Useful,
            read: &[],
            k: 3,
            seed: 0,
        })
        .collect();

    let mut group = c.benchmark_group("bm25");
    group.sample_size(10);
    group.throughput(Throughput::Elements(passages.len() as u64));
    group.bench_function("build", |b| {
        b.iter(|| Bm25Engine::from_documents(passages.clone()).unwrap());
    });
    group.throughput(Throughput::Elements(1));
    group.bench_function("one query", |b| b.iter(|| engine.search(requests[0])));
    group.throughput(Throughput::Elements(requests.len() as u64));
    group.bench_function("a batch of 200", |b| b.iter(|| engine.search_batch(&requests)));
}

criterion_group!(benches, bm25);
criterion_main!(benches);
