//! Cost of estimators and losses, beside the update that they are part of.
#![expect(clippy::unwrap_used, reason = "a bench may stop at the first surprise")]

use burn::module::Module;
use burn::tensor::{Device, Int, Tensor, TensorData};
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use zs_benches::{episodes, tiny_model};
use zs_model::{Optimizer, OptimizerConfig, TokenScores};
use zs_rl::algorithm::builtin;
use zs_rl::{Algorithm, PolicyBatch, RolloutBatch, TrajectoryGroup, UpdateConfig, update};

const GROUPS: usize = 8;
const GROUP_SIZE: usize = 8;
const KINDS: [&str; 23] = [
    "reinforce",
    "reinforce_plus_plus",
    "rloo",
    "grpo",
    "dr_grpo",
    "dapo",
    "gspo",
    "cispo",
    "ppo",
    "gigpo",
    "squared_regret",
    "sapo",
    "gmpo",
    "dppo",
    "gpg",
    "opo",
    "lite_ppo",
    "topr",
    "raft_plus_plus",
    "max_rl",
    "pass_at_k",
    "gdpo",
    "clip_cov",
];

fn algorithm(kind: &str) -> Box<dyn Algorithm> {
    let json = serde_json::json!({ "kind": kind, "kl_coef": 0.0 });
    builtin().build(&serde_json::from_value(json).unwrap(), &()).unwrap()
}

fn num_tokens(groups: &[TrajectoryGroup]) -> u64 {
    let trajectories = groups.iter().flat_map(|it| &it.trajectories);
    trajectories.map(|it| it.trajectory.num_tokens() as u64).sum()
}

/// Rewards to advantages, over a whole batch.
fn advantages(c: &mut Criterion) {
    let groups = episodes(GROUPS, GROUP_SIZE);
    let mut batch = RolloutBatch::new(&groups);
    batch.values = batch.token_rewards.iter().map(|it| vec![0.5; it.len()]).collect();
    let mut group = c.benchmark_group("advantages");
    group.sample_size(10).throughput(Throughput::Elements(num_tokens(&groups)));
    for kind in KINDS {
        let algorithm = algorithm(kind);
        group.bench_function(kind, |b| b.iter(|| algorithm.advantages(&batch)));
    }
}

/// Log-probabilities to the gradient with respect to them, over a whole batch at once.
fn losses(c: &mut Criterion) {
    let groups = episodes(GROUPS, GROUP_SIZE);
    let rows = GROUPS * GROUP_SIZE;
    let width = num_tokens(&groups) as usize / rows;
    let device = Device::flex().autodiff();
    let full = |value: f32| Tensor::<2>::full([rows, width], value, &device);
    let ids = TensorData::new(vec![1_i32; rows * width], [rows, width]);
    let batch = PolicyBatch {
        advantages: full(0.5),
        old_log_probs: full(-1.0),
        ref_log_probs: None,
        loss_mask: full(1.0).greater_elem(0.5),
        agent_mask: None,
        turn_ids: Tensor::<2, Int>::from_data(ids, &device),
        num_turns: 1,
        row_weights: Tensor::full([rows, 1], 1.0 / (rows * width) as f32, &device),
        num_loss_tokens: rows * width,
        kl_scale: 1.0,
    };
    let mut group = c.benchmark_group("loss and gradient");
    group.sample_size(10).throughput(Throughput::Elements((rows * width) as u64));
    for kind in KINDS {
        let algorithm = algorithm(kind);
        group.bench_function(kind, |b| {
            b.iter(|| {
                let scores =
                    TokenScores { log_probs: full(-1.1).require_grad(), entropy: full(1.0) };
                algorithm.policy_loss(&scores, &batch).loss.backward()
            });
        });
    }
}

/// The whole update of a model of the shipped shape on the same batch.
fn updates(c: &mut Criterion) {
    let model = tiny_model();
    let groups = episodes(GROUPS, GROUP_SIZE);
    let network = model.network().clone().train();
    let optimizer = Optimizer::new(&OptimizerConfig::default(), &network);
    let config = UpdateConfig { micro_batch_tokens: 1500, ..UpdateConfig::default() };
    let mut group = c.benchmark_group("update");
    group.sample_size(10).throughput(Throughput::Elements(num_tokens(&groups)));
    for kind in ["grpo", "gigpo"] {
        let algorithm = algorithm(kind);
        group.bench_function(kind, |b| {
            b.iter_batched(
                || (network.clone(), optimizer.clone()),
                |(network, mut optimizer)| {
                    update(network, &mut optimizer, None, &groups, algorithm.as_ref(), &config)
                        .unwrap()
                },
                BatchSize::PerIteration,
            );
        });
    }
}

criterion_group!(benches, advantages, losses, updates);
criterion_main!(benches);
