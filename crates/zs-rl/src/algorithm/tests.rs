//! What holds for every algorithm, and what tells them apart.

use burn::tensor::{Device, Tensor};
use zs_core::{Action, Question};
use zs_model::{Completion, StopReason, TokenScores};

use super::*;
use crate::testing::reference::{assert_close, numbers, tensor};
use crate::{RewardScore, RewardedTrajectory, Trajectory, Turn};

/// A group of one-turn episodes: prompt of one token, two tokens written, one observed.
fn group(rewards: &[f32]) -> TrajectoryGroup {
    let member = |&total: &f32| {
        let mut trajectory = Trajectory::new("q", vec![0]);
        trajectory.turns.push(Turn {
            completion: Completion {
                tokens: vec![1, 2],
                log_probs: vec![-1.0, -1.0],
                sampling_log_probs: None,
                stop_reason: StopReason::Stop,
            },
            text: String::new(),
            action: Action::Invalid,
            observation: vec![3],
            observation_text: String::new(),
            search: None,
        });
        let reward = RewardScore { total, ..RewardScore::default() };
        RewardedTrajectory { trajectory, reward }
    };
    TrajectoryGroup {
        question: Question::new("q", "?", ["a"]),
        trajectories: rewards.iter().map(member).collect(),
    }
}

fn both(json: &str) -> [Box<dyn Algorithm>; 2] {
    ["reinforce", "grpo"].map(|kind| {
        let json = json.replacen('{', &format!(r#"{{"kind":"{kind}","#), 1).replace(",}", "}");
        serde_json::from_str::<AlgorithmConfig>(&json).unwrap().build().unwrap()
    })
}

#[test]
fn advantages_by_hand() {
    let groups = [group(&[1.0, 0.0]), group(&[0.5])];
    let check = |algorithm: &dyn Algorithm, expected: [f32; 3]| {
        let advantages = algorithm.advantages(&groups);
        let expected: Vec<f32> = expected.iter().flat_map(|&it| [0.0, it, it, 0.0]).collect();
        for (a, e) in advantages.concat().iter().zip(&expected) {
            assert!((a - e).abs() < 1e-5, "{}: {advantages:?}", algorithm.name());
        }
        assert_eq!(advantages.concat().len(), expected.len());
    };
    let [reinforce, grpo] = both("{}");
    check(reinforce.as_ref(), [1.0, 0.0, 0.5]);
    let h = std::f32::consts::FRAC_1_SQRT_2;
    check(grpo.as_ref(), [h, -h, 0.5]);
    let json = r#"{"kind":"reinforce","baseline":"batch_mean"}"#;
    let config: AlgorithmConfig = serde_json::from_str(json).unwrap();
    check(config.build().unwrap().as_ref(), [0.5, -0.5, 0.0]);
}

/// Two tokens of loss and one without, with log-probabilities as given.
fn loss_and_gradient(
    algorithm: &dyn Algorithm,
    advantage: f32,
    log_probs: [f32; 3],
    ref_log_probs: Option<[f32; 3]>,
) -> (f32, Vec<f32>, LossOutput) {
    let device = Device::flex().autodiff();
    let row = |values: [f32; 3]| tensor(&[values.to_vec()], &device);
    let leaf = row(log_probs).require_grad();
    let scores = TokenScores { log_probs: leaf.clone(), entropy: row([0.5, 1.5, 7.0]) };
    let mask: Tensor<2> = row([1.0, 1.0, 0.0]);
    let batch = PolicyBatch {
        advantages: row([advantage; 3]),
        old_log_probs: row(log_probs),
        ref_log_probs: ref_log_probs.map(row),
        loss_mask: mask.greater_elem(0.5),
        row_weights: tensor(&[vec![0.5]], &device),
        num_loss_tokens: 2,
    };
    let output = algorithm.policy_loss(&scores, &batch);
    let grads = output.loss.backward();
    let gradient = numbers(leaf.grad(&grads).unwrap());
    (numbers(output.loss.clone())[0], gradient, output)
}

#[test]
fn the_first_step_is_the_policy_gradient() {
    for algorithm in both(r#"{"kl_coef":0.0,"entropy_coef":0.0}"#) {
        assert!(!algorithm.needs_reference() && !algorithm.needs_every_episode());
        let (loss, gradient, output) =
            loss_and_gradient(algorithm.as_ref(), 3.0, [-1.0, -2.0, -9.0], None);
        // -A at ratio 1, spread over two tokens.
        assert_eq!(loss, -3.0);
        assert_eq!(gradient, [-1.5, -1.5, 0.0]);
        let expected = [
            ("actor/pg_loss", -3.0),
            ("actor/pg_clipfrac", 0.0),
            ("actor/ppo_kl", 0.0),
            ("actor/entropy", 1.0),
        ];
        for ((key, value), (name, number)) in output.metrics.into_iter().zip(expected) {
            assert_eq!(key, name);
            assert_close(value, &[number], key);
        }
    }
}

#[test]
fn the_kl_term_pulls_towards_the_reference() {
    // Fails with the sign reversed: descent lowers a log-probability whose gradient is positive.
    for estimator in ["abs", "k2", "k3", "low_var_kl"] {
        let json = format!(r#"{{"kl_coef":0.1,"entropy_coef":0.0,"kl_estimator":"{estimator}"}}"#);
        for algorithm in both(&json) {
            assert!(algorithm.needs_reference() && algorithm.needs_every_episode());
            let reference = Some([-2.0, -1.0, 0.0]);
            let (loss, gradient, output) =
                loss_and_gradient(algorithm.as_ref(), 0.0, [-1.0, -2.0, -9.0], reference);
            assert!(loss > 0.0, "{estimator}: being away from the reference must cost");
            assert!(gradient[0] > 0.0, "{estimator}: too likely a token must become less likely");
            assert!(gradient[1] < 0.0, "{estimator}: too unlikely a token must become more likely");
            assert_eq!(gradient[2], 0.0);
            let (key, value) = output.metrics.into_iter().last().unwrap();
            assert_eq!(key, "actor/kl");
            assert!(numbers(value)[0] > 0.0);
        }
    }
}

#[test]
fn the_entropy_term_rewards_entropy() {
    for algorithm in both(r#"{"kl_coef":0.0,"entropy_coef":0.5}"#) {
        assert!(algorithm.needs_every_episode() && !algorithm.needs_reference());
        let (loss, ..) = loss_and_gradient(algorithm.as_ref(), 0.0, [-1.0; 3], None);
        assert_eq!(loss, -0.5);
    }
}

#[track_caller]
fn check_refused(json: &str, expected: &str) {
    let message = match serde_json::from_str::<AlgorithmConfig>(json) {
        Ok(config) => config.build().unwrap_err().to_string(),
        Err(error) => error.to_string(),
    };
    assert!(message.contains(expected), "{message}");
}

#[test]
fn impossible_settings_are_refused() {
    check_refused(r#"{"kind":"ppo"}"#, "ppo");
    check_refused(r#"{"kind":"grpo","baseline":"none"}"#, "baseline");
    check_refused(r#"{"kind":"grpo","clip":{"lo":0.1}}"#, "lo");
    check_refused(r#"{"kind":"grpo","kl_coef":-1}"#, "`kl_coef` of algorithm `grpo` is -1");
    check_refused(r#"{"kind":"reinforce","clip":{"low":1.5}}"#, "`clip.low`");
    check_refused(r#"{"kind":"reinforce","clip":{"dual":0.5}}"#, "`clip.dual`");
    check_refused(r#"{"kind":"grpo","std_epsilon":-1}"#, "`std_epsilon`");
}
