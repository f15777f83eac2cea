//! Distillation: values and gradients against closed forms in f64, with every algorithm.

use serde_json::json;

use super::resources::arms;
use super::*;

const PLACEMENTS: [&str; 3] = ["advantage", "reward", "loss"];

fn distillation(json: serde_json::Value) -> UpdateConfig {
    let distillation = Some(serde_json::from_value(json).unwrap());
    UpdateConfig { distillation, ..config(99) }
}

/// An algorithm without terms of its own besides the surrogate.
fn bare(kind: &str) -> Box<dyn Algorithm> {
    algorithm(&format!(r#"{{"kind":"{kind}","kl_coef":0.0,"entropy_coef":0.0}}"#))
}

fn log_probs_of(model: &Bigram) -> Vec<Vec<f64>> {
    let logits: Vec<f64> = numbers(model.logits.val()).into_iter().map(f64::from).collect();
    let log_softmax = |row: &[f64]| {
        let sum: f64 = row.iter().map(|it| it.exp()).sum();
        row.iter().map(|it| it - sum.ln()).collect()
    };
    logits.chunks(VOCAB).map(log_softmax).collect()
}

/// One update of a uniform policy, which has sampled the groups, with the teacher `spread`.
fn update_once(
    algorithm: &dyn Algorithm,
    groups: &[TrajectoryGroup],
    config: &UpdateConfig,
) -> Result<(Bigram, UpdateMetrics), UpdateError> {
    let teacher = Bigram::spread(VOCAB);
    update_with_teacher(algorithm, groups, config, Some(Teacher::Model(&teacher)))
}

fn update_with_teacher(
    algorithm: &dyn Algorithm,
    groups: &[TrajectoryGroup],
    config: &UpdateConfig,
    teacher: Option<Teacher<'_, Bigram>>,
) -> Result<(Bigram, UpdateMetrics), UpdateError> {
    let model = Bigram::uniform(VOCAB).train();
    let mut optimizer = optimizer(&model, 0.1);
    let mut critic = values();
    let resources = TrainerResources {
        reference: None,
        teacher,
        critic: Some(&mut critic),
        ptx: &[],
        state: &mut LearningState::default(),
    };
    update_with(model, &mut optimizer, resources, groups, algorithm, config)
}

/// Gradient of the loss on groups that a uniform policy has sampled, and the teacher is `spread`.
fn gradient_of(
    algorithm: &dyn Algorithm,
    groups: &[TrajectoryGroup],
    config: &UpdateConfig,
) -> Vec<f32> {
    let model = Bigram::uniform(VOCAB).train();
    let teacher = Bigram::spread(VOCAB);
    let mut critic = values();
    let resources = TrainerResources {
        reference: None,
        teacher: Some(Teacher::Model(&teacher)),
        critic: Some(&mut critic),
        ptx: &[],
        state: &mut LearningState::default(),
    };
    let tokens = config.micro_batch_tokens;
    let rows = prepare(&model, &resources, groups, algorithm, config, tokens).unwrap().rows;
    let mini_batch = MiniBatch { rows: &rows, ptx: &[], kl_scale: 1.0, algorithm, config };
    let (grads, _) = mini_batch.gradients(&model, tokens, |_| true).unwrap();
    numbers(grads.get::<2>(model.logits.id).unwrap())
}

#[test]
fn the_expected_gradient_is_that_of_the_divergence() {
    // Each arm once is the expectation under the uniform policy: dKL/dz_k = p_k (d_k - KL).
    let groups = [arms(&[0.0, 0.25, 1.0, 0.5, 0.125, 0.75])];
    let teacher = log_probs_of(&Bigram::spread(VOCAB));
    let p = 1.0 / VOCAB as f64;
    let d: Vec<f64> = teacher[1].iter().map(|q| p.ln() - q).collect();
    let kl = d.iter().map(|it| p * it).sum::<f64>();
    for placement in ["advantage", "loss"] {
        let config =
            distillation(json!({"kl_placement": placement, "kl_coef": 0.5, "reward_coef": 0.0}));
        let gradient = gradient_of(bare("reinforce").as_ref(), &groups, &config);
        for (arm, d) in d.iter().enumerate() {
            let expected = 0.5 * p * (d - kl);
            let actual = f64::from(gradient[VOCAB + arm]);
            assert!((actual - expected).abs() < 1e-6, "{placement} {arm}: {actual} {expected}");
        }
        let (_, metrics) = update_once(bare("reinforce").as_ref(), &groups, &config).unwrap();
        let k3: f64 = d.iter().map(|it| p * ((-it).exp() - 1.0 + it)).sum();
        assert!((metrics.values["teacher/kl"] - kl).abs() < 1e-6);
        assert!((metrics.values["teacher/kl_k3"] - k3).abs() < 1e-6);
        assert!(!metrics.values.contains_key("teacher/distilled_frac"));
        let now = metrics.values.get("actor/teacher_kl").copied();
        assert_eq!(now.is_some(), placement == "loss");
        assert!(now.is_none_or(|now| (now - kl).abs() < 1e-6), "{now:?}");
    }
}

/// Numbers of two episodes with one and three tokens (one turn and two turns); log-ratios are ln 2 but
/// for the last token, whose teacher has the policy's own probability.
#[test]
fn advantages_by_hand() {
    let groups = groups(&[&[1.0, 0.0]]);
    let own = -(VOCAB as f32).ln();
    let ln_2 = std::f32::consts::LN_2;
    let masks: Vec<Vec<bool>> =
        groups[0].trajectories.iter().map(|it| it.trajectory.loss_mask()).collect();
    let counts: Vec<usize> =
        masks.iter().map(|it| it.iter().filter(|mask| **mask).count()).collect();
    let mut scores: Vec<Vec<f32>> = masks.iter().map(|it| vec![own - ln_2; it.len()]).collect();
    let last = masks[1].iter().rposition(|it| *it).unwrap();
    scores[1][last] = own;
    // A number that no token of the policy has is ignored.
    scores[0][0] = f32::NAN;
    let check = |settings: serde_json::Value, expected: [f32; 3]| {
        let config = distillation(settings.clone());
        let teacher = Some(Teacher::LogProbs(&scores));
        let reinforce = bare("reinforce");
        let (_, metrics) =
            update_with_teacher(reinforce.as_ref(), &groups, &config, teacher).unwrap();
        let rows = &metrics.advantages;
        let first = masks[0].iter().position(|it| *it).unwrap();
        let found =
            [rows[0][first], rows[1][masks[1].iter().position(|it| *it).unwrap()], rows[1][last]];
        for (found, expected) in found.iter().zip(expected) {
            assert!((found - expected).abs() < 1e-5, "{settings}: {found} {expected}");
        }
        let n = (counts[0] + counts[1]) as f64;
        let kl = (n - 1.0) / n * f64::from(ln_2);
        assert!((metrics.values["teacher/kl"] - kl).abs() < 1e-6);
    };
    check(json!({"kl_coef": 0.0}), [1.0, 0.0, 0.0]);
    check(json!({}), [1.0 - ln_2, -ln_2, 0.0]);
    check(json!({"kl_coef": 0.5, "reward_coef": 2.0}), [2.0 - 0.5 * ln_2, -0.5 * ln_2, 0.0]);
    check(json!({"kl_estimator": "k2"}), [1.0 - 0.5 * ln_2 * ln_2, -0.5 * ln_2 * ln_2, 0.0]);
    // In the reward the whole episode pays.
    let paid = |index: usize, tokens: usize| [1.0, 0.0][index] - 0.1 * tokens as f32 * ln_2;
    let [a, b] = [paid(0, counts[0]), paid(1, counts[1] - 1)];
    check(json!({"kl_coef": 0.1, "kl_placement": "reward"}), [a, b, b]);
    let a = a - 1.0;
    check(json!({"kl_coef": 0.1, "kl_placement": "reward", "reward_coef": 0.0}), [a, b, b]);
    check(json!({"kl_placement": "loss", "reward_coef": 0.5}), [0.5, 0.0, 0.0]);
}

#[test]
fn right_answers_are_spared_in_the_selective_form() {
    let mut groups = groups(&[&[1.0, 0.0]]);
    let last = groups[0].trajectories[0].trajectory.turns.last_mut().unwrap();
    (last.action, last.text) = (Action::Answer("a".into()), "<answer> a </answer>".into());
    assert!(groups[0].trajectories[0].trajectory.is_right(&groups[0].question));
    let scores: Vec<Vec<f32>> = groups[0]
        .trajectories
        .iter()
        .map(|it| vec![-(VOCAB as f32).ln() - 1.0; it.trajectory.num_tokens()])
        .collect();
    let wrong = groups[0].trajectories[1].trajectory.num_policy_tokens() as f32;
    for (placement, expected) in [("reward", [1.0, -0.01 * wrong]), ("advantage", [1.0, -0.01])] {
        let config =
            distillation(json!({"kl_placement": placement, "kl_coef": 0.01, "episodes": "wrong"}));
        let teacher = Some(Teacher::LogProbs(&scores));
        let (_, metrics) =
            update_with_teacher(bare("reinforce").as_ref(), &groups, &config, teacher).unwrap();
        for (row, expected) in metrics.advantages.iter().zip(expected) {
            // The first token after the prompt.
            assert!((row[2] - expected).abs() < 1e-6, "{placement}: {row:?} {expected}");
        }
        assert_eq!(metrics.values["teacher/distilled_frac"], 0.5);
        // Measured on every episode.
        assert!((metrics.values["teacher/kl"] - 1.0).abs() < 1e-6);
    }
    let in_loss = |episodes: &str| {
        let config =
            distillation(json!({"kl_placement": "loss", "episodes": episodes, "reward_coef": 0.0}));
        gradient_of(bare("reinforce").as_ref(), &groups, &config)
    };
    let (all, only_wrong) = (in_loss("all"), in_loss("wrong"));
    assert_ne!(all, only_wrong);
    groups[0].question = Question::new("q", "?", ["b"]);
    let config =
        distillation(json!({"kl_placement": "loss", "episodes": "wrong", "reward_coef": 0.0}));
    assert_eq!(gradient_of(bare("reinforce").as_ref(), &groups, &config), all);
}

#[test]
fn every_algorithm_adds_its_own_gradient_and_the_teachers() {
    let groups = groups(&[&[1.0, 0.0, 0.5], &[0.25, 0.75]]);
    for kind in kinds() {
        let algorithm = bare(kind);
        let reward = gradient_of(algorithm.as_ref(), &groups, &config(99));
        for placement in ["advantage", "loss"] {
            let gradient = |coef: f64, micro_batch_tokens: usize| {
                let json = json!({"kl_placement": placement, "reward_coef": coef});
                let config = UpdateConfig { micro_batch_tokens, ..distillation(json) };
                gradient_of(algorithm.as_ref(), &groups, &config)
            };
            let (alone, both) = (gradient(0.0, 99), gradient(1.0, 99));
            let sum: Vec<f32> = reward.iter().zip(&alone).map(|(a, b)| a + b).collect();
            assert_same(&sum, &both, &format!("{kind}, {placement}"));
            assert!(alone.iter().any(|it| it.abs() > 1e-4), "{kind}, {placement}");
            assert_same(&both, &gradient(1.0, 16), &format!("{kind}, {placement}, split"));
        }
    }
}

#[test]
fn every_algorithm_brings_the_policy_nearer_to_the_teacher() {
    let teacher = log_probs_of(&Bigram::spread(VOCAB));
    let divergence = |model: &Bigram| -> f64 {
        let own = log_probs_of(model);
        own[1].iter().zip(&teacher[1]).map(|(p, q)| p.exp() * (p - q)).sum()
    };
    let before = divergence(&Bigram::uniform(VOCAB));
    let groups = [arms(&[0.0; 6])];
    for kind in kinds() {
        for placement in PLACEMENTS {
            let update = |kl_coef: f64| {
                let json =
                    json!({"kl_placement": placement, "kl_coef": kl_coef, "reward_coef": 0.0});
                update_once(bare(kind).as_ref(), &groups, &distillation(json)).unwrap()
            };
            let (model, _) = update(1.0);
            let after = divergence(&model);
            assert!(after < before - 0.01, "{kind}, {placement}: {before} to {after}");
            let (model, _) = update(0.0);
            assert!(
                (divergence(&model) - before).abs() < 1e-6,
                "{kind}, {placement} without weight"
            );
        }
    }
}

#[test]
fn distillation_needs_a_teacher_of_these_episodes() {
    let check =
        |settings: serde_json::Value, teacher: Option<Teacher<'_, Bigram>>, expected: &str| {
            let groups = groups(&[&[1.0]]);
            let config = distillation(settings);
            let result = update_with_teacher(bare("grpo").as_ref(), &groups, &config, teacher);
            let message = result.unwrap_err().to_string();
            assert!(message.contains(expected), "{message}");
        };
    check(json!({}), None, "there is no teacher");
    let short = [vec![0.0; 2]];
    check(json!({}), Some(Teacher::LogProbs(&short)), "has 2 log-probabilities for the 5 tokens");
    check(json!({}), Some(Teacher::LogProbs(&[])), "has 0 log-probabilities");
    check(json!({"kl_coef": -1.0}), None, "`distillation.kl_coef` of the update config is -1");
    check(json!({"reward_coef": -0.5}), None, "`distillation.reward_coef`");
}
