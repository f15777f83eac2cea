//! The update on a policy whose every number is in sight.

use burn::module::Module;
use zs_core::{Action, Question};
use zs_model::{Completion, OptimizerConfig, StopReason, TokenId, TokenScores};

use super::*;
use crate::algorithm::{
    Advantages, LossOutput, PolicyBatch, Requirements, RolloutBatch, from_json, kinds,
};
use crate::loss::{AdaptiveKl, ImportanceBound, ImportanceCorrection, ImportanceLevel};
use crate::testing::bigram::{Bigram, BigramValues};
use crate::testing::reference::numbers;
use crate::{LossTokens, Provenance, RewardScore, RewardedTrajectory, Trajectory, Turn};

const VOCAB: usize = 6;

/// Groups of episodes of different lengths, sampled with log-probability `ln(1/6)` a token.
fn groups(rewards: &[&[f32]]) -> Vec<TrajectoryGroup> {
    let mut next: TokenId = 0;
    let mut tokens = |count: usize| -> Vec<TokenId> {
        next += 1;
        (0..count as TokenId).map(|it| (next * 7 + it * it) % VOCAB as TokenId).collect()
    };
    let mut group = |rewards: &&[f32]| {
        let mut member = |(index, &total): (usize, &f32)| {
            let mut trajectory = Trajectory::new("q", vec![1, 2]);
            for _ in 0..=index {
                let written = tokens(1 + (index * 5) % 4);
                trajectory.turns.push(Turn {
                    completion: Completion {
                        log_probs: vec![-(VOCAB as f32).ln(); written.len()],
                        tokens: written,
                        sampling_log_probs: None,
                        stop_reason: StopReason::Stop,
                    },
                    text: String::new(),
                    action: Action::Invalid,
                    observation: tokens(2),
                    observation_text: String::new(),
                    search: None,
                });
            }
            let reward = RewardScore { total, ..RewardScore::default() };
            RewardedTrajectory { trajectory, reward }
        };
        TrajectoryGroup {
            question: Question::new("q", "?", ["a"]),
            trajectories: rewards.iter().enumerate().map(&mut member).collect(),
        }
    };
    rewards.iter().map(&mut group).collect()
}

/// A value model that says something else about each token.
fn values() -> ValueLearner<BigramValues> {
    let model = BigramValues::spread(VOCAB).train();
    let config = OptimizerConfig { learning_rate: 0.1, ..OptimizerConfig::default() };
    let optimizer = Optimizer::new(&config, &model);
    ValueLearner::new(model, optimizer)
}

fn algorithm(json: &str) -> Box<dyn Algorithm> {
    from_json(json).unwrap()
}

fn config(micro_batch_tokens: usize) -> UpdateConfig {
    UpdateConfig { micro_batch_tokens, ..UpdateConfig::default() }
}

fn optimizer(model: &Bigram, learning_rate: f64) -> Optimizer {
    let config = OptimizerConfig { learning_rate, weight_decay: 0.0, ..OptimizerConfig::default() };
    Optimizer::new(&config, model)
}

fn gradient(
    algorithm: &dyn Algorithm,
    rewards: &[&[f32]],
    is_used: fn(&UpdateRow) -> bool,
    config: &UpdateConfig,
) -> (Vec<f32>, BTreeMap<&'static str, f64>) {
    let model = Bigram::spread(VOCAB).train();
    let reference = Bigram::uniform(VOCAB);
    let mut critic = values();
    let mut state = LearningState::default();
    let resources = TrainerResources {
        reference: Some(&reference),
        teacher: None,
        critic: Some(&mut critic),
        ptx: &[],
        state: &mut state,
    };
    let tokens = config.micro_batch_tokens;
    let groups = groups(rewards);
    let rows = prepare(&model, &resources, &groups, algorithm, config, tokens).unwrap().rows;
    let mini_batch = MiniBatch { rows: &rows, ptx: &[], kl_scale: 1.0, algorithm, config };
    let (grads, metrics) = mini_batch.gradients(&model, tokens, is_used).unwrap();
    (numbers(grads.get::<2>(model.logits.id).unwrap()), metrics)
}

#[track_caller]
fn assert_same(a: &[f32], b: &[f32], what: &str) {
    assert!(a.iter().any(|it| it.abs() > 1e-4), "{what}: a gradient that says nothing");
    for (a, b) in a.iter().zip(b) {
        assert!((a - b).abs() < 1e-6, "{what}: {a} {b}");
    }
}

#[test]
fn micro_batches_change_nothing() {
    let rewards: &[&[f32]] = &[&[1.0, 0.0, 0.5], &[0.25, 0.75]];
    for kind in kinds() {
        for aggregation in [
            r#""token_mean""#,
            r#""sequence_mean_token_sum""#,
            r#""sequence_mean_token_mean""#,
            r#"{"fixed_length":{"length":16}}"#,
        ] {
            let json = format!(
                r#"{{"kind":"{kind}","aggregation":{aggregation},"kl_coef":0.1,"entropy_coef":0.1}}"#
            );
            let algorithm = algorithm(&json);
            let guarded = |tokens| UpdateConfig { llds_coef: 0.2, ..config(tokens) };
            let gradient =
                |tokens| gradient(algorithm.as_ref(), rewards, |_| true, &guarded(tokens));
            let (whole, whole_metrics) = gradient(10_000);
            for micro_batch_tokens in [1, 16, 40] {
                let (split, metrics) = gradient(micro_batch_tokens);
                assert_same(&whole, &split, &json);
                assert_eq!(metrics.len(), whole_metrics.len());
                for (key, value) in &whole_metrics {
                    assert!((metrics[key] - value).abs() < 1e-6, "{key} of {json}");
                }
            }
        }
    }
}

#[test]
fn episodes_without_advantage_cost_nothing_and_change_nothing() {
    // The second group has equal rewards: advantages of zero.
    let rewards: &[&[f32]] = &[&[1.0, 0.0, 0.5], &[0.5, 0.5, 0.5]];
    let algorithm = algorithm(r#"{"kind":"grpo","kl_coef":0.0,"entropy_coef":0.0}"#);
    let (skipping, _) =
        gradient(algorithm.as_ref(), rewards, UpdateRow::has_advantage, &config(40));
    let (whole, _) = gradient(algorithm.as_ref(), rewards, |_| true, &config(40));
    assert_same(&whole, &skipping, "skipping");

    let model = Bigram::spread(VOCAB).train();
    let mut optimizer = optimizer(&model, 0.1);
    let before = numbers(model.logits.val());
    let groups = groups(&[&[0.5, 0.5]]);
    let (model, metrics) =
        update(model, &mut optimizer, None, &groups, algorithm.as_ref(), &config(99)).unwrap();
    assert_eq!(numbers(model.logits.val()), before);
    assert_eq!((metrics.num_steps, metrics.num_skipped_episodes), (0, 2));
}

#[test]
fn metrics_of_an_on_policy_step() {
    let algorithm = algorithm(r#"{"kind":"grpo"}"#);
    let model = Bigram::uniform(VOCAB).train();
    let mut optimizer = optimizer(&model, 0.1);
    let config = UpdateConfig { mini_batches: 2, epochs: 3, ..config(20) };
    let groups = groups(&[&[1.0, 0.0], &[0.0, 1.0]]);
    let reference = Bigram::uniform(VOCAB);
    let (_, metrics) =
        update(model, &mut optimizer, Some(&reference), &groups, algorithm.as_ref(), &config)
            .unwrap();
    assert_eq!((metrics.num_steps, metrics.num_skipped_episodes), (6, 0));
    let keys: Vec<&str> = metrics.values.keys().copied().collect();
    let expected = [
        "actor/entropy",
        "actor/grad_norm",
        "actor/kl",
        "actor/lr",
        "actor/pg_clipfrac",
        "actor/pg_loss",
        "actor/ppo_kl",
        "rollout/effective_sample_frac",
        "rollout/log_prob_diff",
        "rollout/log_prob_k3",
        "rollout/log_prob_max_ratio",
    ];
    assert_eq!(keys, expected);
    // Sampled from the very weights that are trained, and only the first step is compared.
    assert!(metrics.values["rollout/log_prob_diff"].abs() < 1e-6);
    assert!(metrics.values["rollout/log_prob_k3"].abs() < 1e-6);
    assert!((metrics.values["rollout/log_prob_max_ratio"] - 1.0).abs() < 1e-5);
    assert!((metrics.values["rollout/effective_sample_frac"] - 1.0).abs() < 1e-5);
    assert!(metrics.values["actor/kl"] > 0.0 && metrics.values["actor/pg_clipfrac"] > 0.0);
    assert!((metrics.values["actor/lr"] - 0.1).abs() < 1e-12);
}

#[test]
fn the_kl_term_brings_the_policy_back() {
    let algorithm = algorithm(r#"{"kind":"reinforce","kl_coef":1.0,"entropy_coef":0.0}"#);
    let mut model = Bigram::spread(VOCAB).train();
    let reference = Bigram::uniform(VOCAB);
    let mut optimizer = optimizer(&model, 0.05);
    // No reward at all: only the divergence is left.
    let groups = groups(&[&[0.0; 4]]);
    let mut kl = Vec::new();
    for _ in 0..20 {
        let algorithm = algorithm.as_ref();
        let (next, metrics) =
            update(model, &mut optimizer, Some(&reference), &groups, algorithm, &config(99))
                .unwrap();
        kl.push(metrics.values["actor/kl"]);
        model = next;
    }
    assert!(kl[19] < kl[0] / 4.0, "{kl:?}");
}

#[track_caller]
fn check_error(rewards: &[&[f32]], json: &str, config: &UpdateConfig, expected: &str) {
    let model = Bigram::uniform(VOCAB).train();
    let mut optimizer = optimizer(&model, 0.1);
    let algorithm = algorithm(json);
    let result = update(model, &mut optimizer, None, &groups(rewards), algorithm.as_ref(), config);
    let message = result.unwrap_err().to_string();
    assert!(message.contains(expected), "{message}");
}

#[test]
fn errors_name_their_cause() {
    const PLAIN: &str = r#"{"kind":"reinforce","kl_coef":0.0}"#;
    check_error(&[&[1.0]], r#"{"kind":"grpo"}"#, &config(9), "`grpo` needs a reference model");
    check_error(&[], PLAIN, &config(9), "no token");
    check_error(&[&[1.0]], PLAIN, &config(0), "`micro_batch_tokens`");
    let ppo = r#"{"kind":"ppo","kl_coef":0.0}"#;
    check_error(&[&[1.0]], ppo, &config(9), "`ppo` needs a value model");
    let edited = |edit: fn(&mut UpdateConfig)| {
        let mut config = config(9);
        edit(&mut config);
        config
    };
    let adaptive = edited(|it| it.adaptive_kl = Some(AdaptiveKl { target: 0.1, horizon: 9.0 }));
    check_error(&[&[1.0]], PLAIN, &adaptive, "`adaptive_kl` is set but algorithm `reinforce`");
    let texts = edited(|it| it.ptx_coef = 0.1);
    check_error(&[&[1.0]], PLAIN, &texts, "no curated texts");
    let negative = edited(|it| it.llds_coef = -1.0);
    check_error(&[&[1.0]], PLAIN, &negative, "`llds_coef` of the update config is -1");
    let correction = ImportanceCorrection {
        bound: ImportanceBound::Truncate { max: 2.0 },
        level: ImportanceLevel::Token,
    };
    let mut corrected = config(9);
    corrected.importance = Some(correction);
    let regret = r#"{"kind":"squared_regret"}"#;
    check_error(&[&[1.0]], regret, &corrected, "cannot be used with algorithm `squared_regret`");
}

#[test]
fn mini_batches_are_even() {
    let lengths = |len, count| mini_batches(len, count).map(|it| it.len()).collect::<Vec<_>>();
    assert_eq!(lengths(320, 2), [160, 160]);
    assert_eq!(lengths(7, 3), [2, 2, 3]);
    assert_eq!(lengths(2, 3), [1, 1]);
}

/// A custom algorithm needs only the trait.
#[test]
fn algorithms_are_object_safe_and_open() {
    #[derive(Debug)]
    struct LogLikelihood;
    impl Algorithm for LogLikelihood {
        fn name(&self) -> &'static str {
            "log_likelihood"
        }
        fn requirements(&self) -> Requirements {
            Requirements { needs_every_episode: true, ..Requirements::default() }
        }
        fn advantages(&self, batch: &RolloutBatch<'_>) -> Advantages {
            batch.broadcast(&vec![0.0; batch.returns.len()]).into()
        }
        fn policy_loss(&self, scores: &TokenScores, batch: &PolicyBatch) -> LossOutput {
            let loss = batch.aggregate(-scores.log_probs.clone());
            LossOutput { metrics: vec![("actor/nll", loss.clone().detach())], loss }
        }
    }
    let model = Bigram::uniform(VOCAB).train();
    let mut optimizer = optimizer(&model, 0.1);
    let groups = groups(&[&[1.0]]);
    let (_, metrics) =
        update(model, &mut optimizer, None, &groups, &LogLikelihood, &config(9)).unwrap();
    assert!((metrics.values["actor/nll"] - (VOCAB as f64).ln()).abs() < 1e-5);
}

mod distillation;
mod faults;
mod resources;
