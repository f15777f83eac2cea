//! Properties that every algorithm has, and those that differ between algorithms.

use burn::tensor::{Device, Int, Tensor, TensorData};
use proptest::prelude::*;
use zs_core::registry::Spec;
use zs_model::TokenScores;

use super::*;
use crate::TrajectoryGroup;
use crate::testing::episodes::group;
use crate::testing::reference::{assert_close, numbers, tensor};

fn build(json: &str) -> Box<dyn Algorithm> {
    from_json(json).unwrap()
}

/// Every algorithm with these settings, given as the inside of a JSON object.
fn all(settings: &str) -> Vec<Box<dyn Algorithm>> {
    let comma = if settings.is_empty() { "" } else { "," };
    kinds().map(|it| build(&format!(r#"{{"kind":"{it}"{comma}{settings}}}"#))).collect()
}

/// A batch whose values are those of a model that knows nothing.
fn batch(groups: &[TrajectoryGroup]) -> RolloutBatch<'_> {
    let mut batch = RolloutBatch::new(groups);
    batch.values = batch.token_rewards.iter().map(|it| vec![0.0; it.len()]).collect();
    batch
}

/// Turns of an episode whose number of turns does not matter.
const ONE: &[usize] = &[2];

#[track_caller]
fn check_advantages(json: &str, expected: [f32; 3]) {
    let groups = [group(&[(ONE, 1.0), (ONE, 0.0)]), group(&[(ONE, 0.5)])];
    let advantages = build(json).advantages(&batch(&groups)).tokens;
    let expected: Vec<f32> = expected.iter().flat_map(|&it| [0.0, it, it]).collect();
    let masks = batch(&groups).loss_masks().concat();
    for ((a, e), mask) in advantages.concat().iter().zip(&expected).zip(masks) {
        assert!(!mask || (a - e).abs() < 1e-4, "{json}: {advantages:?}");
    }
    assert_eq!(advantages.concat().len(), expected.len());
}

#[test]
fn advantages_by_hand() {
    let h = std::f32::consts::FRAC_1_SQRT_2;
    check_advantages(r#"{"kind":"reinforce"}"#, [1.0, 0.0, 0.5]);
    check_advantages(r#"{"kind":"reinforce","baseline":"batch_mean"}"#, [0.5, -0.5, 0.0]);
    for kind in ["rloo", "branched"] {
        check_advantages(&format!(r#"{{"kind":"{kind}"}}"#), [1.0, -1.0, 0.5]);
    }
    for kind in ["grpo", "dapo", "gspo", "cispo", "sapo", "gmpo", "dppo", "clip_cov"] {
        check_advantages(&format!(r#"{{"kind":"{kind}"}}"#), [h, -h, 0.5]);
    }
    check_advantages(r#"{"kind":"dr_grpo"}"#, [0.5, -0.5, 0.5]);
    check_advantages(r#"{"kind":"squared_regret"}"#, [0.5, -0.5, 0.0]);
    for kind in ["topr", "opo", "gpg"] {
        check_advantages(&format!(r#"{{"kind":"{kind}"}}"#), [0.5, -0.5, 0.5]);
    }
    check_advantages(r#"{"kind":"lite_ppo"}"#, [1.0, -1.0, 1.0]);
    check_advantages(r#"{"kind":"raft_plus_plus"}"#, [1.0, 0.0, 1.0]);
    check_advantages(r#"{"kind":"max_rl"}"#, [1.0, -1.0, 0.0]);
    check_advantages(r#"{"kind":"pass_at_k"}"#, [2.0 * h, 0.0, 0.0]);
    check_advantages(r#"{"kind":"pass_at_k","normalize_std":false}"#, [1.0, 0.0, 0.0]);
    // Six tokens of h, -h, 0.5: whitened as those of the group mean above.
    let values = [h, h, -h, -h, 0.5, 0.5];
    let mean = values.iter().sum::<f32>() / 6.0;
    let std = (values.iter().map(|it| (it - mean).powi(2)).sum::<f32>() / 5.0).sqrt();
    let [a, b, c] = [h, -h, 0.5].map(|it| (it - mean) / std);
    check_advantages(r#"{"kind":"gdpo"}"#, [a, b, c]);
    // Six tokens of 1, 0, 0.5 about their mean: variance 4 * 0.25 / 5.
    let w = 0.5 / 0.2_f32.sqrt();
    check_advantages(r#"{"kind":"reinforce_plus_plus"}"#, [w, -w, 0.0]);
    check_advantages(r#"{"kind":"ppo"}"#, [w, -w, 0.0]);
    check_advantages(r#"{"kind":"ppo","whiten":false}"#, [1.0, 0.0, 0.5]);
    // The group of one keeps its return: 0.5, -0.5, 0.5, two tokens each.
    let values = [0.5_f32, 0.5, -0.5, -0.5, 0.5, 0.5];
    let mean = values.iter().sum::<f32>() / 6.0;
    let std = (values.iter().map(|it| (it - mean).powi(2)).sum::<f32>() / 5.0).sqrt();
    let [a, b] = [(0.5 - mean) / std, (-0.5 - mean) / std];
    check_advantages(r#"{"kind":"reinforce_plus_plus","baseline":"group_mean"}"#, [a, b, a]);
    // The single turn of the first group has a sibling in its state, that of the second has none.
    check_advantages(r#"{"kind":"gigpo"}"#, [2.0 * h, -2.0 * h, 0.5]);
    check_advantages(r#"{"kind":"gigpo","credit":{"omega":0.0}}"#, [h, -h, 0.5]);
}

#[test]
fn long_episodes_pay_for_their_length() {
    let dapo = build(r#"{"kind":"dapo","overlong":{"max_tokens":4,"buffer":2,"weight":0.5}}"#);
    let groups = [group(&[(&[2], 1.0), (&[2, 1], 1.0), (&[5], 1.0)])];
    let output = dapo.advantages(&batch(&groups));
    // Returns 1, 0.75 and 0.5: mean 0.75, standard deviation 0.25.
    let first: Vec<f32> = output.tokens.iter().map(|it| it[1]).collect();
    for (a, e) in first.iter().zip([1.0, 0.0, -1.0]) {
        assert!((a - e).abs() < 1e-4, "{first:?}");
    }
    assert_eq!(output.metrics, [("dapo/overlong_punishment", -0.25)]);
    assert_eq!(dapo.requirements().dynamic_sampling, Some(DynamicSampling { max_refills: 4 }));
    let without = build(r#"{"kind":"dapo","dynamic_sampling":{"max_refills":0}}"#);
    assert_eq!(without.requirements().dynamic_sampling, None);
}

#[test]
fn long_episodes_weigh_more_in_the_optimal_baseline() {
    let groups = [group(&[(&[3], 1.0), (&[1], 0.0)])];
    let rows = build(r#"{"kind":"opo"}"#).advantages(&batch(&groups)).tokens;
    assert_eq!((rows[0][1], rows[1][1]), (0.25, -0.75));
}

#[test]
fn groups_without_a_difference_are_made_up_for() {
    let groups = [group(&[(ONE, 1.0), (ONE, 0.0)]), group(&[(ONE, 1.0), (ONE, 1.0)])];
    let rows = build(r#"{"kind":"gpg"}"#).advantages(&batch(&groups)).tokens;
    let first: Vec<f32> = rows.iter().map(|it| it[1]).collect();
    assert_eq!(first, [1.0, -1.0, 0.0, 0.0]);
}

/// Two episodes with log-probabilities -3 and -1 a token: the likely one is right.
#[test]
fn tokens_of_high_covariance_are_left_out() {
    let mut groups = [group(&[(&[1], 1.0), (&[3], 0.0)])];
    let turns = groups[0].trajectories.iter_mut().map(|it| &mut it.trajectory.turns[0]);
    for (turn, log_probs) in turns.zip([vec![-0.1], vec![-3.0, -2.5, -2.0]]) {
        turn.completion.log_probs = log_probs;
    }
    // Means over four tokens: advantage -h / 2, log-probability -1.9; covariances 1.909, 0.389, 0.212, 0.035.
    let settings = r#""fraction":0.0,"cov_low":0.3,"cov_high":2.0"#;
    let h = std::f32::consts::FRAC_1_SQRT_2;
    let rows = |settings: &str| {
        let json = format!(r#"{{"kind":"clip_cov","std_epsilon":0.0,{settings}}}"#);
        build(&json).advantages(&batch(&groups)).tokens
    };
    let close = |row: &[f32], expected: &[f32]| {
        assert!(row.iter().zip(expected).all(|(a, e)| (a - e).abs() < 1e-6), "{row:?}");
    };
    let one = rows(settings);
    close(&one[0][1..], &[0.0]);
    close(&one[1][1..], &[-h, -h, -h]);
    let both = rows(&settings.replace("0.0,", "0.5,"));
    close(&both[0][1..], &[0.0]);
    close(&both[1][1..], &[0.0, -h, -h]);
    let bounded = rows(&settings.replace("2.0", "1.0"));
    close(&bounded[0][1..], &[h]);
    close(&bounded[1][1..], &[0.0, -h, -h]);
}

#[test]
fn lonely_steps_are_counted() {
    let gigpo = build(r#"{"kind":"gigpo","anchor":"observation"}"#);
    let groups = [group(&[(&[1, 1], 1.0), (&[2, 2], 0.0)])];
    // First turns share the question; the observations [2] and [3] differ.
    let metrics = gigpo.advantages(&batch(&groups)).metrics;
    assert_eq!(metrics, [("gigpo/singleton_frac", 2.0 / 3.0)]);
}

/// Two episodes of one token a turn; the first is branched at its second and third turn.
#[test]
fn branches_are_compared_with_their_siblings() {
    let turns: &[usize] = &[1, 1, 1];
    let mut groups = [group(&[
        (turns, 1.0),
        (&[1], 0.0),
        (&[1, 1], 0.0),
        (turns, 1.0),
        (turns, 0.0),
        (turns, 0.5),
    ])];
    for (at, turn) in [(2, 1), (3, 1), (4, 2), (5, 2)] {
        groups[0].trajectories[at].trajectory.branch =
            Some(crate::BranchOrigin { parent: 0, turn });
    }
    // A divergence that is part of the reward counts from the branch on.
    let mut batch = batch(&groups);
    batch.token_rewards[0][1] -= 7.0;
    batch.returns[0] -= 7.0;
    let algorithm = build(r#"{"kind":"branched","branching":{"continuations":2,"depth":2}}"#);
    let output = algorithm.advantages(&batch);
    // Third turn: 1 beside 0 and 0.5, mean 0.5. Second: 0.5 beside 0 and 1. First: 0.5 - 7 beside 0.
    let (w1, w2) = (1.0 / 3.0, 1.0 / 5.0);
    let expected: [&[f32]; 6] = [
        &[-6.5, 0.0, 0.75 * w2],
        &[6.5],
        &[0.0, -0.75 * w1],
        &[0.0, 0.75 * w1, 0.75 * w2],
        &[0.0, 0.0, -0.75 * w2],
        &[0.0, 0.0, 0.0],
    ];
    for (row, expected) in output.tokens.iter().zip(expected) {
        for (turn, expected) in expected.iter().enumerate() {
            assert!((row[1 + 2 * turn] - expected).abs() < 1e-6, "{row:?} {expected:?}");
        }
    }
    assert_eq!(output.metrics, [("branch/zero_variance_frac", 0.0)]);
    let masks = batch.loss_masks();
    assert_eq!(masks[4], [false, false, false, false, false, true]);
}

#[test]
fn step_rewards_reach_the_turn_that_earned_them() {
    let mut groups = [group(&[(&[1, 1], 1.0), (&[1, 1], 1.0)])];
    groups[0].trajectories[0].reward.turns = vec![0.5];
    // Prompt, turn, observation, turn. Totals are equal, so only the steps differ.
    let ppo = build(r#"{"kind":"ppo","whiten":false,"gae":{"gamma":0.5}}"#);
    let advantages = ppo.advantages(&batch(&groups)).tokens;
    assert_eq!([advantages[0][1], advantages[0][3]], [0.75, 0.5]);
    assert_eq!([advantages[1][1], advantages[1][3]], [0.5, 1.0]);
    let gigpo = build(r#"{"kind":"gigpo","credit":{"gamma":0.5,"normalize_std":false}}"#);
    let advantages = gigpo.advantages(&batch(&groups)).tokens;
    // Both turns of both trajectories see the same state; returns .75, .5 and .5, 1.
    let expected = [[0.125, -0.25], [-0.125, 0.25]];
    for (row, expected) in advantages.iter().zip(expected) {
        assert_eq!([row[1], row[3]], expected);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn order_does_not_matter_and_nothing_is_infinite(
        groups in proptest::collection::vec(
            proptest::collection::vec(
                (proptest::collection::vec(0_usize..4, 0..4), 0_u8..5), 1..5
            ),
            1..4,
        )
    ) {
        let to_groups = |groups: &[Vec<(Vec<usize>, u8)>]| -> Vec<TrajectoryGroup> {
            let of_group = |members: &Vec<(Vec<usize>, u8)>| {
                let members: Vec<(&[usize], f32)> = members
                    .iter()
                    .map(|(turns, reward)| (turns.as_slice(), f32::from(*reward) / 4.0))
                    .collect();
                group(&members)
            };
            groups.iter().map(of_group).collect()
        };
        let reversed: Vec<_> =
            groups.iter().rev().map(|it| it.iter().rev().cloned().collect::<Vec<_>>()).collect();
        let (forward, backward) = (to_groups(&groups), to_groups(&reversed));
        let masks = batch(&forward).loss_masks();
        for algorithm in all("") {
            let a = algorithm.advantages(&batch(&forward)).tokens;
            let b = algorithm.advantages(&batch(&backward)).tokens;
            prop_assert_eq!(a.len(), masks.len());
            for ((a, b), mask) in a.iter().zip(b.iter().rev()).zip(&masks) {
                prop_assert_eq!(a.len(), mask.len());
                for ((a, b), _) in a.iter().zip(b).zip(mask).filter(|(_, mask)| **mask) {
                    prop_assert!(a.is_finite(), "{}", algorithm.name());
                    // Similar anchors depend on the order: all states but the first are digits here.
                    let is_close = (a - b).abs() < 1e-3;
                    prop_assert!(is_close || algorithm.name() == "gigpo", "{}", algorithm.name());
                }
            }
        }
    }
}

/// Inputs of a loss: two tokens with loss and one without.
struct Case {
    advantage: f32,
    log_probs: [f32; 3],
    old_log_probs: [f32; 3],
    ref_log_probs: Option<[f32; 3]>,
    mask: [f32; 3],
}

impl Case {
    fn new(advantage: f32, log_probs: [f32; 3]) -> Self {
        let mask = [1.0, 1.0, 0.0];
        Self { advantage, log_probs, old_log_probs: log_probs, ref_log_probs: None, mask }
    }

    fn run(&self, algorithm: &dyn Algorithm) -> (f32, Vec<f32>, LossOutput) {
        let device = Device::flex().autodiff();
        let row = |values: [f32; 3]| tensor(&[values.to_vec()], &device);
        let leaf = row(self.log_probs).require_grad();
        let scores = TokenScores { log_probs: leaf.clone(), entropy: row([0.5, 1.5, 7.0]) };
        let ids = self.mask.map(|it| it as i32).to_vec();
        let batch = PolicyBatch {
            advantages: row([self.advantage; 3]),
            old_log_probs: row(self.old_log_probs),
            ref_log_probs: self.ref_log_probs.map(row),
            loss_mask: row(self.mask).greater_elem(0.5),
            turn_ids: Tensor::<2, Int>::from_data(TensorData::new(ids, [1, 3]), &device),
            num_turns: 1,
            agent_mask: None,
            row_weights: tensor(&[vec![0.5]], &device),
            num_loss_tokens: 2,
            kl_scale: 1.0,
        };
        let output = algorithm.policy_loss(&scores, &batch);
        let grads = output.loss.backward();
        let gradient = leaf.grad(&grads).map_or_else(|| vec![0.0; 3], numbers);
        (numbers(output.loss.clone())[0], gradient, output)
    }
}

#[test]
fn the_first_step_is_the_policy_gradient() {
    for algorithm in all(r#""kl_coef":0.0,"entropy_coef":0.0"#) {
        let name = algorithm.name();
        assert!(!algorithm.requirements().needs_reference);
        assert_eq!(algorithm.requirements().needs_every_episode, name == "squared_regret");
        let (_, gradient, output) = Case::new(3.0, [-1.0, -2.0, -9.0]).run(algorithm.as_ref());
        // -A at ratio 1, spread over two tokens; squared regret has it times 2 tau.
        let scale = if name == "squared_regret" { 0.2 } else { 1.0 };
        for (actual, expected) in gradient.iter().zip([-1.5, -1.5, 0.0]) {
            assert!((actual - scale * expected).abs() < 1e-6, "{name}: {gradient:?}");
        }
        for (key, expected) in [("actor/ppo_kl", 0.0), ("actor/entropy", 1.0)] {
            let (_, value) = output.metrics.iter().find(|(it, _)| *it == key).unwrap();
            assert_close(value.clone(), &[expected], key);
        }
    }
}

#[test]
fn losses_by_hand() {
    let settings = r#""kl_coef":0.0,"entropy_coef":0.0"#;
    let loss = |kind: &str| {
        let algorithm = build(&format!(r#"{{"kind":"{kind}",{settings}}}"#));
        Case::new(3.0, [-1.0, -2.0, -9.0]).run(algorithm.as_ref()).0
    };
    for kind in ["reinforce", "grpo", "dapo", "ppo", "gigpo", "gspo", "gmpo", "opo", "max_rl"] {
        assert_eq!(loss(kind), -3.0, "{kind}");
    }
    for kind in ["cispo", "gpg", "topr", "dppo"] {
        assert_eq!(loss(kind), 4.5, "{kind}");
    }
    assert_eq!(loss("sapo"), -6.0);
    assert_eq!(loss("squared_regret"), 4.5);
}

/// Gradient of one token at a ratio, by an advantage.
#[track_caller]
fn check_gradient(json: &str, ratio: f32, advantage: f32, expected: f32) {
    let mut case = Case::new(advantage, [-1.0; 3]);
    case.old_log_probs = [-1.0 - ratio.ln(); 3];
    case.mask = [1.0, 0.0, 0.0];
    let (_, gradient, _) = case.run(build(json).as_ref());
    // Rows weigh one half.
    assert!((gradient[0] - 0.5 * expected).abs() < 1e-5, "{json}: {gradient:?}");
}

#[test]
fn gates_tapers_and_bounds_by_hand() {
    // 4 s (1 - s) at tau (rho - 1) = 1, times rho.
    let s = 1.0 / (1.0 + (-1.0_f32).exp());
    check_gradient(r#"{"kind":"sapo"}"#, 2.0, 1.0, -8.0 * s * (1.0 - s));
    check_gradient(r#"{"kind":"sapo","tau_negative":1.0}"#, 2.0, -1.0, 8.0 * s * (1.0 - s));
    // A right answer keeps its gradient, a wrong one that is half as likely half of it.
    check_gradient(r#"{"kind":"topr"}"#, 0.5, 1.0, -1.0);
    check_gradient(r#"{"kind":"topr"}"#, 0.5, -1.0, 0.5);
    check_gradient(r#"{"kind":"topr"}"#, 2.0, -1.0, 1.0);
    // Probabilities 0.368 and 0.184 differ by 0.184, 0.368 and 0.123 by 0.245.
    check_gradient(r#"{"kind":"dppo"}"#, 2.0, 1.0, -2.0);
    check_gradient(r#"{"kind":"dppo"}"#, 3.0, 1.0, 0.0);
    check_gradient(r#"{"kind":"dppo"}"#, 3.0, -1.0, 3.0);
    check_gradient(r#"{"kind":"dppo","max_ratio":1.5}"#, 2.0, 1.0, -1.5);
    // The bound is that of the logarithm, and of one side.
    check_gradient(r#"{"kind":"gmpo"}"#, 1.2, 1.0, -1.2);
    check_gradient(r#"{"kind":"gmpo"}"#, 2.0, 1.0, 0.0);
    check_gradient(r#"{"kind":"gmpo"}"#, 2.0, -1.0, 2.0);
}

#[test]
fn the_kl_term_pulls_towards_the_reference() {
    // Fails with the sign reversed: descent lowers a log-probability whose gradient is positive.
    for estimator in ["abs", "k2", "k3", "low_var_kl", "k3+"] {
        let settings = format!(
            r#""kl_coef":0.1,"entropy_coef":0.0,"kl_estimator":"{estimator}","kl_placement":"loss""#
        );
        for algorithm in all(&settings) {
            assert!(
                algorithm.requirements().needs_reference
                    && algorithm.requirements().needs_every_episode
            );
            let mut case = Case::new(0.0, [-1.0, -2.0, -9.0]);
            case.ref_log_probs = Some([-2.0, -1.0, 0.0]);
            let (loss, gradient, output) = case.run(algorithm.as_ref());
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
fn the_reversed_kl_term_pushes_away_from_the_reference() {
    let settings = |placement: &str| {
        format!(r#""kl_coef":0.1,"entropy_coef":0.0,"kl_placement":"{placement}""#)
    };
    for (right, reversed) in all(&settings("loss")).iter().zip(all(&settings("reversed_loss"))) {
        assert!(
            reversed.requirements().needs_reference && reversed.requirements().needs_every_episode
        );
        let mut case = Case::new(0.0, [-1.0, -2.0, -9.0]);
        case.ref_log_probs = Some([-2.0, -1.0, 0.0]);
        let (loss, gradient, _) = case.run(right.as_ref());
        let (reversed_loss, reversed_gradient, _) = case.run(reversed.as_ref());
        assert_eq!(reversed_loss, -loss, "{}", reversed.name());
        assert!(reversed_gradient.iter().zip(&gradient).all(|(a, b)| *a == -b));
    }
}

#[test]
fn a_divergence_in_the_reward_leaves_the_loss_alone() {
    for algorithm in all(r#""kl_coef":0.1,"entropy_coef":0.0,"kl_placement":"reward""#) {
        assert!(algorithm.requirements().needs_reference);
        let mut case = Case::new(0.0, [-1.0, -2.0, -9.0]);
        case.ref_log_probs = Some([-2.0, -1.0, 0.0]);
        let (loss, gradient, _) = case.run(algorithm.as_ref());
        assert_eq!((loss, gradient), (0.0, vec![0.0; 3]), "{}", algorithm.name());
    }
}

#[test]
fn the_entropy_term_rewards_entropy() {
    for algorithm in all(r#""kl_coef":0.0,"entropy_coef":0.5"#) {
        assert!(
            algorithm.requirements().needs_every_episode
                && !algorithm.requirements().needs_reference
        );
        let (loss, ..) = Case::new(0.0, [-1.0; 3]).run(algorithm.as_ref());
        assert_eq!(loss, -0.5);
    }
}

#[test]
fn nothing_masked_counts_and_nothing_is_infinite() {
    const FAR: f32 = -1e4;
    for algorithm in all(r#""kl_coef":0.1,"kl_placement":"loss""#) {
        for advantage in [-2.0, 0.0, 2.0] {
            for (old, reference) in [(-0.5, FAR), (FAR, -0.5), (FAR, FAR)] {
                let case = Case {
                    advantage,
                    log_probs: [FAR, -0.5, -1.0],
                    old_log_probs: [old, old, f32::NEG_INFINITY],
                    ref_log_probs: Some([reference, -0.5, f32::NAN]),
                    mask: [1.0, 1.0, 0.0],
                };
                let (loss, gradient, _) = case.run(algorithm.as_ref());
                let name = algorithm.name();
                // k3 unbounded would overflow; the default is bounded.
                assert!(loss.is_finite(), "{name}: {loss}");
                assert!(gradient.iter().all(|it| it.is_finite()), "{name}: {gradient:?}");
                assert_eq!(gradient[2], 0.0, "{name}");
                let masked = Case { mask: [0.0; 3], ..case };
                let (_, gradient, _) = masked.run(algorithm.as_ref());
                assert_eq!(gradient, [0.0; 3], "{name} without a token");
            }
        }
    }
}

#[test]
fn configs_survive_the_round_trip() {
    let registry = builtin();
    for kind in registry.kinds() {
        let resolved = registry.resolve(&Spec::named(kind)).unwrap();
        assert_eq!(registry.build(&resolved, &()).unwrap().name(), kind);
        assert!(!resolved.settings.is_empty());
        assert_eq!(registry.resolve(&resolved).unwrap(), resolved);
    }
}

#[track_caller]
fn check_refused(json: &str, expected: &str) {
    let message = from_json(json).unwrap_err().to_string();
    assert!(message.contains(expected), "{message}");
}

#[test]
fn impossible_settings_are_refused() {
    check_refused(r#"{"kind":"trpo"}"#, "unknown algorithm `trpo` (did you mean `grpo`?)");
    check_refused(
        r#"{"kind":"grpo","baseline":"none"}"#,
        "unknown setting `baseline` of algorithm `grpo`, expected one of `normalize_std`",
    );
    check_refused(
        r#"{"kind":"grpo","clip":{"lo":0.1}}"#,
        "unknown setting `clip.lo` of algorithm `grpo` (did you mean `low`?)",
    );
    for kind in kinds() {
        check_refused(
            &format!(r#"{{"kind":"{kind}","kl_coef":-1}}"#),
            &format!("`kl_coef` of algorithm `{kind}` must be finite and not negative, is -1"),
        );
        check_refused(
            &format!(r#"{{"kind":"{kind}","aggregation":{{"fixed_length":{{"length":0}}}}}}"#),
            "`aggregation.fixed_length.length`",
        );
        check_refused(&format!(r#"{{"kind":"{kind}","colour":1}}"#), "colour");
    }
    check_refused(r#"{"kind":"reinforce","clip":{"low":1.5}}"#, "`clip.low`");
    check_refused(r#"{"kind":"reinforce","clip":{"dual":0.5}}"#, "`clip.dual`");
    check_refused(
        r#"{"kind":"reinforce","baseline":{"ema":{"decay":1.0}}}"#,
        "`baseline.ema.decay`",
    );
    check_refused(r#"{"kind":"gspo","clip":{"dual":3}}"#, "no dual clip");
    check_refused(r#"{"kind":"grpo","std_epsilon":-1}"#, "`std_epsilon`");
    check_refused(r#"{"kind":"reinforce_plus_plus","gamma":1.5}"#, "`gamma`");
    check_refused(r#"{"kind":"ppo","gae":{"lambda":2}}"#, "`gae.lambda`");
    check_refused(r#"{"kind":"ppo","value_clip":0}"#, "`value_clip`");
    check_refused(r#"{"kind":"squared_regret","tau":0}"#, "`tau`");
    check_refused(r#"{"kind":"sapo","tau_positive":0}"#, "`tau_positive`");
    check_refused(r#"{"kind":"dppo","max_ratio":0}"#, "`max_ratio`");
    check_refused(r#"{"kind":"gmpo","clip":{"dual":3}}"#, "no dual clip");
    check_refused(r#"{"kind":"clip_cov","fraction":2}"#, "`fraction`");
    check_refused(
        r#"{"kind":"gigpo","anchor":{"similar":{"threshold":2}}}"#,
        "`anchor.similar.threshold`",
    );
    check_refused(r#"{"kind":"dapo","overlong":{"max_tokens":4,"buffer":9}}"#, "`overlong.buffer`");
}
