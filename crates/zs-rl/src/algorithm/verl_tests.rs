//! Losses, gradients and advantages beside numbers that verl computed in 64 bits
//! (`tests/reference/verl_losses.py`).

use burn::tensor::{Device, Int, Tensor};
use serde_json::Value;
use zs_model::TokenScores;

use super::*;
use crate::testing::episodes::trajectory;
use crate::testing::reference::{assert_close, numbers, tensor};
use crate::{RewardComponent, RewardScore, RewardedTrajectory, TrajectoryGroup};

const VERL: &str = include_str!("../../tests/reference/verl_losses.json");

fn rows(value: &Value) -> Vec<Vec<f32>> {
    serde_json::from_value(value.clone()).unwrap()
}

#[track_caller]
fn check_loss(name: &str, json: &str) {
    let verl: Value = serde_json::from_str(VERL).unwrap();
    let device = Device::flex().autodiff();
    let input = |key: &str| tensor(&rows(&verl["inputs"][key]), &device);
    let algorithm = from_json(json).unwrap();
    let log_probs = input("log_probs").require_grad();
    let mask = input("loss_mask").greater_elem(0.5);
    let counts: Vec<usize> = rows(&verl["inputs"]["loss_mask"])
        .iter()
        .map(|row| row.iter().filter(|it| **it > 0.5).count())
        .collect();
    let weights = algorithm.requirements().terms.aggregation.row_weights(&counts);
    let advantages: Vec<f32> =
        serde_json::from_value(verl["inputs"]["advantages"].clone()).unwrap();
    let batch = PolicyBatch {
        advantages: tensor(&advantages.iter().map(|it| vec![*it; 5]).collect::<Vec<_>>(), &device),
        old_log_probs: input("old_log_probs"),
        ref_log_probs: None,
        loss_mask: mask,
        turn_ids: Tensor::<2, Int>::zeros([4, 5], &device),
        num_turns: 1,
        agent_mask: None,
        row_weights: tensor(&weights.iter().map(|it| vec![*it]).collect::<Vec<_>>(), &device),
        num_loss_tokens: counts.iter().sum(),
        kl_scale: 1.0,
    };
    let scores = TokenScores { log_probs: log_probs.clone(), entropy: input("loss_mask") };
    let output = algorithm.policy_loss(&scores, &batch);
    let grads = output.loss.backward();
    let expected = &verl["losses"][name];
    assert_close(output.loss, &[expected["loss"].as_f64().unwrap() as f32], name);
    let gradient = log_probs.grad(&grads).unwrap();
    assert!(numbers(gradient.clone()).iter().any(|it| it.abs() > 1e-3), "{name}");
    assert_close(gradient, &rows(&expected["gradient"]).concat(), name);
}

#[test]
fn losses_and_gradients_agree_with_verl() {
    check_loss("sapo", r#"{"kind":"sapo"}"#);
    check_loss("gmpo", r#"{"kind":"gmpo"}"#);
    check_loss("gpg", r#"{"kind":"gpg"}"#);
    check_loss("dppo_tv", r#"{"kind":"dppo"}"#);
    check_loss("dppo_kl", r#"{"kind":"dppo","divergence":"kl","clip":{"low":0.05,"high":0.05}}"#);
}

/// Four episodes of one question with the lengths of verl's mask and two rewards.
#[track_caller]
fn check_advantages(name: &str, json: &str) {
    let verl: Value = serde_json::from_str(VERL).unwrap();
    let scores =
        |key: &str| -> Vec<f32> { serde_json::from_value(verl["rewards"][key].clone()).unwrap() };
    let (f1, format) = (scores("f1"), scores("format"));
    let lengths = rows(&verl["inputs"]["loss_mask"]);
    let episode = |(place, mask): (usize, &Vec<f32>)| {
        let component = |name: &str, score| RewardComponent { name: name.to_owned(), score };
        let reward = RewardScore {
            total: f1[place],
            components: vec![component("f1", f1[place]), component("format", format[place])],
            ..RewardScore::default()
        };
        let length = mask.iter().filter(|it| **it > 0.5).count();
        RewardedTrajectory { trajectory: trajectory(&[length]), reward }
    };
    let trajectories = lengths.iter().enumerate().map(episode).collect();
    let group = TrajectoryGroup { question: zs_core::Question::new("q", "?", ["a"]), trajectories };
    let groups = [group];
    let batch = RolloutBatch::new(&groups);
    let found = from_json(json).unwrap().advantages(&batch).tokens;
    let expected = rows(&verl["advantages"][name]);
    for (row, (found, mask)) in found.iter().zip(batch.loss_masks()).enumerate() {
        let found: Vec<f32> = found.iter().zip(mask).filter(|it| it.1).map(|it| *it.0).collect();
        let learned = expected[row].iter().zip(&lengths[row]).filter(|it| *it.1 > 0.5);
        let learned: Vec<f32> = learned.map(|it| *it.0).collect();
        assert_eq!(found.len(), learned.len(), "{name}");
        for (a, e) in found.iter().zip(&learned) {
            assert!((a - e).abs() < 1e-5, "{name}, episode {row}: {found:?} {learned:?}");
        }
    }
}

#[test]
fn advantages_agree_with_verl() {
    check_advantages("opo", r#"{"kind":"opo"}"#);
    check_advantages("pass_at_k", r#"{"kind":"pass_at_k"}"#);
    check_advantages("gdpo", r#"{"kind":"gdpo","weights":{"format":0.5}}"#);
}
