//! Training, prefill and decoding at the shape of the shipped model.
#![expect(clippy::unwrap_used, reason = "a bench may stop at the first surprise")]

use burn::module::Module;
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use zs_benches::{tiny_model, transcripts};
use zs_core::StreamKey;
use zs_model::{Generator, Optimizer, OptimizerConfig, SamplingParams, TokenId, supervised_step};

fn supervised(c: &mut Criterion) {
    let model = tiny_model();
    let rows = transcripts(6_000).unwrap();
    let tokens: usize = rows.iter().map(|it| it.tokens.len()).sum();
    let mut group = c.benchmark_group("supervised_step");
    group.sample_size(10).throughput(Throughput::Elements(tokens as u64));
    for micro_batch in [1_000, 2_000, 4_000] {
        group.bench_function(format!("{tokens} tokens, micro-batch {micro_batch}"), |b| {
            let network = model.network().clone().train();
            let optimizer = Optimizer::new(&OptimizerConfig::default(), &network);
            b.iter_batched(
                || (network.clone(), optimizer.clone()),
                |(network, mut optimizer)| {
                    supervised_step(network, &mut optimizer, &rows, micro_batch)
                },
                BatchSize::PerIteration,
            );
        });
    }
}

fn sampling(c: &mut Criterion) {
    let model = tiny_model();
    let rows = transcripts(6_000).unwrap();
    let prompts: Vec<(Vec<TokenId>, StreamKey)> = (0..64)
        .map(|it| {
            let tokens = &rows[it % rows.len()].tokens;
            (tokens[..tokens.len().min(60)].to_vec(), StreamKey::new(it as u64))
        })
        .collect();
    let mut group = c.benchmark_group("sampling");
    group.sample_size(10);
    for new in [1, 32] {
        let params = SamplingParams {
            max_new_tokens: new,
            stop: vec!["</search>".into(), "</answer>".into()],
            ..SamplingParams::default()
        };
        group.throughput(Throughput::Elements(64 * new as u64));
        group.bench_function(format!("64 prompts of 60 tokens, {new} new"), |b| {
            b.iter(|| model.generate(&prompts, &params).unwrap());
        });
    }
}

criterion_group!(benches, supervised, sampling);
criterion_main!(benches);
