//! The update with everything at hand: value model, reference, curated texts, memory; and gradients
//! that are known in closed form.

use super::*;

/// Runs one update with everything at hand.
fn update_all(
    json: &str,
    rewards: &[&[f32]],
    config: &UpdateConfig,
    state: &mut LearningState,
    ptx: &[TokenRow],
) -> (Bigram, BTreeMap<&'static str, f64>) {
    let model = Bigram::spread(VOCAB).train();
    let mut optimizer = optimizer(&model, 0.1);
    let reference = Bigram::uniform(VOCAB);
    let mut critic = values();
    let resources = TrainerResources {
        reference: Some(&reference),
        teacher: None,
        critic: Some(&mut critic),
        ptx,
        state,
    };
    let algorithm = algorithm(json);
    let groups = groups(rewards);
    let (model, metrics) =
        update_with(model, &mut optimizer, resources, &groups, algorithm.as_ref(), config).unwrap();
    (model, metrics.values)
}

#[test]
fn a_value_model_learns_beside_the_policy() {
    let mut state = LearningState::default();
    let config = UpdateConfig { mini_batches: 2, epochs: 2, ..config(20) };
    let rewards: &[&[f32]] = &[&[1.0, 0.0], &[0.5, 0.25]];
    let (_, metrics) = update_all(r#"{"kind":"ppo"}"#, rewards, &config, &mut state, &[]);
    for key in ["critic/loss", "critic/grad_norm", "critic/explained_variance"] {
        assert!(metrics[key] != 0.0 && metrics[key].is_finite(), "{key}: {metrics:?}");
    }
    // Sampled with the very probabilities of the reference.
    assert!(metrics["reward/kl"].abs() < 1e-6);
    assert!((metrics["critic/lr"] - 0.1).abs() < 1e-12);
    assert!(!metrics.contains_key("actor/kl"), "the divergence is in the reward");
}

#[test]
fn the_divergence_in_the_reward_pulls_towards_the_reference() {
    // No reward but the divergence, each arm pulled once by a uniform policy.
    let json = r#"{"kind":"reinforce","kl_coef":1.0,"kl_estimator":"k1","kl_placement":"reward",
        "entropy_coef":0.0}"#;
    let reference = Bigram::spread(VOCAB);
    let divergence = |model: &Bigram| -> f32 {
        let log_probs =
            |it: &Bigram| numbers(burn::tensor::activation::log_softmax(it.logits.val(), 1));
        let (p, q) = (log_probs(model), log_probs(&reference));
        (VOCAB..2 * VOCAB).map(|it| p[it].exp() * (p[it] - q[it])).sum()
    };
    let model = Bigram::uniform(VOCAB).train();
    let mut optimizer = optimizer(&model, 0.1);
    let before = divergence(&model);
    let groups = [arms(&[0.0; 6])];
    let algorithm = algorithm(json);
    let (model, metrics) =
        update(model, &mut optimizer, Some(&reference), &groups, algorithm.as_ref(), &config(99))
            .unwrap();
    assert!((metrics.values["reward/kl"] - f64::from(before)).abs() < 1e-5);
    assert!(divergence(&model) < before - 0.01, "{before}: {:?}", metrics.values);
}

#[test]
fn the_kl_coefficient_adapts_and_is_remembered() {
    let adaptive = Some(AdaptiveKl { target: 1e-6, horizon: 10.0 });
    let config = UpdateConfig { adaptive_kl: adaptive, ..config(99) };
    let mut state = LearningState::default();
    let json = r#"{"kind":"grpo","kl_coef":0.5}"#;
    let rewards: &[&[f32]] = &[&[1.0, 0.0]];
    let (_, first) = update_all(json, rewards, &config, &mut state, &[]);
    assert!((first["actor/kl_coef"] - 0.5).abs() < 1e-12);
    // Far above the target: the factor grows by 20 % times two of ten episodes.
    assert!((state.kl_scale - 1.04).abs() < 1e-12, "{state:?}");
    let (_, second) = update_all(json, rewards, &config, &mut state, &[]);
    assert!((second["actor/kl_coef"] - 0.52).abs() < 1e-12);
}

#[test]
fn the_running_mean_is_remembered() {
    let json = r#"{"kind":"reinforce","baseline":{"ema":{"decay":0.5}},"kl_coef":0.0}"#;
    let mut state = LearningState::default();
    update_all(json, &[&[1.0, 0.0]], &config(99), &mut state, &[]);
    assert_eq!(state.memory, 0.5);
    update_all(json, &[&[1.0, 1.0]], &config(99), &mut state, &[]);
    assert_eq!(state.memory, 0.75);
}

#[test]
fn curated_texts_become_likelier() {
    let text = TokenRow { tokens: vec![0, 3, 3, 3], loss_mask: vec![false, true, true, true] };
    let likelihood = |model: &Bigram| {
        numbers(model.token_scores(std::slice::from_ref(&text)).log_probs).iter().sum::<f32>()
    };
    let config = UpdateConfig { ptx_coef: 0.5, ..config(20) };
    let json = r#"{"kind":"grpo","kl_coef":0.0,"entropy_coef":0.0}"#;
    let mut state = LearningState::default();
    let texts = std::slice::from_ref(&text);
    // Equal rewards: nothing but the texts has a gradient.
    let (model, metrics) = update_all(json, &[&[0.5, 0.5]], &config, &mut state, texts);
    let before = likelihood(&Bigram::spread(VOCAB));
    assert!((metrics["actor/ptx_loss"] + f64::from(before) / 3.0).abs() < 1e-5);
    assert!(likelihood(&model) > before);
}

#[test]
fn importance_weights_bound_what_a_mismatch_can_do() {
    // Sampled at 1/6 a token, trained at the spread of the model: ratios on both sides of 1.
    let json = r#"{"kind":"grpo","kl_coef":0.0,"entropy_coef":0.0}"#;
    let rewards: &[&[f32]] = &[&[1.0, 0.0, 0.25]];
    let run = |correction: Option<ImportanceCorrection>| {
        let config = UpdateConfig { importance: correction, ..config(99) };
        update_all(json, rewards, &config, &mut LearningState::default(), &[]).1
    };
    let plain = run(None);
    let correction = ImportanceCorrection {
        bound: ImportanceBound::Truncate { max: 1.0 },
        level: ImportanceLevel::Token,
    };
    let corrected = run(Some(correction));
    // The mismatch is that of sampling either way.
    for key in ["rollout/log_prob_diff", "rollout/log_prob_k3", "rollout/effective_sample_frac"] {
        assert!((plain[key] - corrected[key]).abs() < 1e-6, "{key}");
    }
    assert!(plain["rollout/log_prob_k3"] > 0.01);
    let effective = plain["rollout/effective_sample_frac"];
    assert!(effective > 0.0 && effective < 0.999, "{effective}");
    // The ratio of the update is taken against the weights as training sees them.
    assert!(corrected["actor/ppo_kl"].abs() < 1e-6 && plain["actor/ppo_kl"].abs() > 1e-3);
    assert!(corrected["rollout/importance_weight"] < 1.0);
    let bounded = corrected["rollout/importance_bounded_frac"];
    assert!(bounded > 0.0 && bounded < 1.0, "{bounded}");
}

#[test]
fn observations_carry_loss_where_they_are_asked_to() {
    let json = r#"{"kind":"grpo","kl_coef":0.0,"entropy_coef":0.0}"#;
    let groups = groups(&[&[1.0, 0.0, 0.25]]);
    let algorithm = algorithm(json);
    let rows = |loss_tokens, importance| {
        let model = Bigram::spread(VOCAB).train();
        let mut state = LearningState::default();
        let resources = TrainerResources {
            reference: None,
            teacher: None,
            critic: None,
            ptx: &[],
            state: &mut state,
        };
        let config = UpdateConfig { loss_tokens, importance, ..config(99) };
        prepare(&model, &resources, &groups, algorithm.as_ref(), &config, 99).unwrap().rows
    };
    let correction = ImportanceCorrection {
        bound: ImportanceBound::Truncate { max: 2.0 },
        level: ImportanceLevel::Token,
    };
    for importance in [None, Some(correction)] {
        let masked = rows(LossTokens::Policy, importance);
        let unmasked = rows(LossTokens::PolicyAndObservations, importance);
        for ((masked, unmasked), it) in masked.iter().zip(&unmasked).zip(&groups[0].trajectories) {
            let own = masked.num_loss_tokens;
            assert_eq!(unmasked.num_loss_tokens, own + 2 * it.trajectory.turns.len());
            for (at, source) in it.trajectory.provenance().into_iter().enumerate() {
                let is_observed = source == Provenance::Observation;
                let is_own = source == Provenance::Policy;
                assert_eq!(unmasked.tokens.loss_mask[at], is_own || is_observed);
                assert_eq!(masked.tokens.loss_mask[at], is_own);
                if is_observed {
                    assert!(unmasked.old_log_probs[at] < 0.0, "scored");
                    assert_eq!(unmasked.old_log_probs[at], unmasked.sampled_log_probs()[at]);
                    assert_eq!(masked.advantages[at], 0.0);
                } else {
                    assert_eq!(unmasked.old_log_probs[at], masked.old_log_probs[at]);
                }
            }
            assert!(unmasked.has_advantage());
        }
    }
}

/// Six arms at the state of token 1, each pulled once: the expectation under the uniform policy.
pub(super) fn arms(rewards: &[f32; 6]) -> TrajectoryGroup {
    let pull = |(arm, &total): (usize, &f32)| {
        let mut trajectory = Trajectory::new("q", vec![1]);
        trajectory.turns.push(Turn {
            completion: Completion {
                tokens: vec![arm as TokenId],
                log_probs: vec![-(VOCAB as f32).ln()],
                sampling_log_probs: None,
                stop_reason: StopReason::Stop,
            },
            text: String::new(),
            action: Action::Invalid,
            observation: Vec::new(),
            observation_text: String::new(),
            search: None,
        });
        let reward = RewardScore { total, ..RewardScore::default() };
        RewardedTrajectory { trajectory, reward }
    };
    TrajectoryGroup {
        question: Question::new("q", "?", ["a"]),
        trajectories: rewards.iter().enumerate().map(pull).collect(),
    }
}

#[test]
fn the_gradient_of_a_bandit_is_the_analytic_one() {
    let rewards = [0.0, 0.25, 1.0, 0.5, 0.125, 0.75];
    let group = arms(&rewards);
    let mean = rewards.iter().sum::<f32>() / 6.0;
    for kind in ["reinforce", "dr_grpo", "gspo", "cispo", "squared_regret", "rloo"] {
        // The gradient of the expected reward is p_a (r_a - mean); the rest is each one's scale.
        let (settings, scale) = match kind {
            "rloo" => (r#","kl_coef":0.0"#, 6.0 / 5.0),
            "gspo" | "cispo" => (r#","normalize_std":false"#, 1.0),
            "squared_regret" => ("", 0.2),
            "dr_grpo" => (r#","aggregation":"token_mean""#, 1.0),
            _ => (r#","kl_coef":0.0,"entropy_coef":0.0"#, 1.0),
        };
        let algorithm = algorithm(&format!(r#"{{"kind":"{kind}"{settings}}}"#));
        let config = config(99);
        let model = Bigram::uniform(VOCAB).train();
        let mut state = LearningState::default();
        let resources = TrainerResources {
            reference: None,
            teacher: None,
            critic: None,
            ptx: &[],
            state: &mut state,
        };
        let groups = std::slice::from_ref(&group);
        let prepared = prepare(&model, &resources, groups, algorithm.as_ref(), &config, 99);
        let rows = prepared.unwrap().rows;
        let mini_batch = MiniBatch {
            rows: &rows,
            ptx: &[],
            kl_scale: 1.0,
            algorithm: algorithm.as_ref(),
            config: &config,
        };
        let (grads, _) = mini_batch.gradients(&model, 99, |_| true).unwrap();
        let gradient = numbers(grads.get::<2>(model.logits.id).unwrap());
        for (arm, reward) in rewards.iter().enumerate() {
            let expected = -scale * (reward - mean) / 6.0;
            let actual = gradient[VOCAB + arm];
            assert!((actual - expected).abs() < 1e-6, "{kind}, arm {arm}: {actual} {expected}");
        }
    }
}
