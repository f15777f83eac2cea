//! Updates in which something goes wrong.

use burn::tensor::Tensor;

use super::*;

const PLAIN: &str = r#"{"kind":"reinforce","baseline":"none","kl_coef":0.0,"entropy_coef":0.0}"#;

#[test]
fn a_step_that_is_not_finite_changes_nothing() {
    let algorithm = algorithm(PLAIN);
    let model = Bigram::spread(VOCAB).train();
    let mut optimizer = optimizer(&model, 0.1);
    let before = numbers(model.logits.val());
    let broken = groups(&[&[f32::INFINITY, 1.0]]);
    let (model, metrics) =
        update(model, &mut optimizer, None, &broken, algorithm.as_ref(), &config(9)).unwrap();
    assert_eq!(numbers(model.logits.val()), before);
    assert_eq!((metrics.num_steps, optimizer.steps()), (0, 0));
    let [skipped] = metrics.skipped[..] else { panic!("{:?}", metrics.skipped) };
    assert_eq!((skipped.step, skipped.metric), (0, "actor/pg_loss"));
    assert!(!skipped.value.is_finite());
    assert_eq!(metrics.values["actor/num_skipped_steps"], 1.0);

    // One broken mini-batch of two costs its own step only.
    let half = groups(&[&[f32::INFINITY, 1.0], &[1.0, 0.5]]);
    let config = UpdateConfig { mini_batches: 2, ..config(9) };
    let (model, metrics) =
        update(model, &mut optimizer, None, &half, algorithm.as_ref(), &config).unwrap();
    let after = numbers(model.logits.val());
    assert!(after != before && after.iter().all(|it| it.is_finite()));
    assert_eq!((metrics.num_steps, metrics.skipped.len(), optimizer.steps()), (1, 1, 1));
    assert!(metrics.values.values().all(|it| it.is_finite()), "{:?}", metrics.values);
}

/// REINFORCE on a device that takes so many padded tokens at once.
#[derive(Debug)]
struct Small {
    inner: Box<dyn Algorithm>,
    limit: usize,
}

impl Algorithm for Small {
    fn name(&self) -> &'static str {
        "small"
    }
    fn advantages(&self, batch: &RolloutBatch<'_>) -> Advantages {
        self.inner.advantages(batch)
    }
    fn policy_loss(&self, scores: &TokenScores, batch: &PolicyBatch) -> LossOutput {
        let [rows, width] = scores.log_probs.dims();
        assert!(rows * width <= self.limit, "out of memory: {rows} rows of {width} tokens");
        self.inner.policy_loss(scores, batch)
    }
}

#[test]
fn an_update_that_does_not_fit_is_cut_finer_once() {
    let groups = groups(&[&[1.0, 0.0, 0.5, 0.25], &[0.5, 1.0, 0.0, 0.75]]);
    let longest = groups.iter().flat_map(|it| &it.trajectories);
    let longest = longest.map(|it| it.trajectory.num_tokens()).max().unwrap();
    let run = |limit: usize, state: &mut LearningState| {
        let model = Bigram::spread(VOCAB).train();
        let mut optimizer = optimizer(&model, 0.1);
        let algorithm = Small { inner: algorithm(PLAIN), limit };
        let resources =
            TrainerResources { reference: None, teacher: None, critic: None, ptx: &[], state };
        let config = config(4 * longest);
        let updated = update_with(model, &mut optimizer, resources, &groups, &algorithm, &config);
        updated.map(|(model, metrics)| (numbers(model.logits.val()), metrics))
    };
    let (roomy, mut tight) = (&mut LearningState::default(), LearningState::default());
    let (whole, metrics) = run(usize::MAX, roomy).unwrap();
    assert_eq!(metrics.values.get("actor/micro_batch_tokens"), None);
    let (halved, metrics) = run(2 * longest, &mut tight).unwrap();
    assert_same(&whole, &halved, "halved");
    assert_eq!(metrics.values["actor/micro_batch_tokens"], (2 * longest) as f64);
    assert_eq!(tight.micro_batch_tokens, Some(2 * longest));
    // The number stays, and is not halved again.
    let message = run(longest, &mut tight).unwrap_err().to_string();
    assert!(message.contains("`micro_batch_tokens`, halved already"), "{message}");
}

/// A user's algorithm that makes one mistake.
#[derive(Debug)]
struct Mistaken(fn(&mut Vec<Vec<f32>>), fn(&TokenScores) -> Tensor<1>);

impl Algorithm for Mistaken {
    fn name(&self) -> &'static str {
        "mistaken"
    }
    fn advantages(&self, batch: &RolloutBatch<'_>) -> Advantages {
        let mut tokens = batch.broadcast(&batch.returns);
        (self.0)(&mut tokens);
        tokens.into()
    }
    fn policy_loss(&self, scores: &TokenScores, _: &PolicyBatch) -> LossOutput {
        LossOutput { loss: (self.1)(scores), metrics: Vec::new() }
    }
}

#[track_caller]
fn check_mistake(
    advantages: fn(&mut Vec<Vec<f32>>),
    loss: fn(&TokenScores) -> Tensor<1>,
    expected: &str,
) {
    let model = Bigram::spread(VOCAB).train();
    let mut optimizer = optimizer(&model, 0.1);
    let groups = groups(&[&[1.0, 0.5]]);
    let algorithm = Mistaken(advantages, loss);
    let error = update(model, &mut optimizer, None, &groups, &algorithm, &config(999)).unwrap_err();
    let message = error.to_string();
    assert!(message.contains("algorithm `mistaken`") && message.contains(expected), "{message}");
    assert_eq!(optimizer.steps(), 0);
}

#[test]
fn mistakes_of_algorithms_are_named() {
    let sum = |scores: &TokenScores| scores.log_probs.clone().sum();
    check_mistake(|it| drop(it.pop()), sum, "returned 1 rows of advantages for 2 trajectories");
    check_mistake(|it| it[1].push(0.0), sum, "tokens of trajectory 1; return one per token");
    check_mistake(|it| it[0].fill(f32::NAN), sum, "returned the advantage NaN in trajectory 0");
    check_mistake(|_| {}, |it| it.log_probs.clone().sum().detach(), "has no gradient");
    check_mistake(|_| {}, |it| Tensor::zeros([1], &it.log_probs.device()), "has no gradient");
    check_mistake(
        |_| {},
        |it| it.log_probs.clone().sum_dim(0).flatten(0, 1),
        "aggregate it to one",
    );
}

/// Counts updates in what it remembers.
#[derive(Debug)]
struct Counting;

impl Algorithm for Counting {
    fn name(&self) -> &'static str {
        "counting"
    }
    fn advantages(&self, batch: &RolloutBatch<'_>) -> Advantages {
        let count = batch.state.memory["updates"].as_u64().unwrap_or(0);
        let memory = serde_json::json!({ "updates": count + 1 });
        Advantages { memory, ..batch.broadcast(&batch.returns).into() }
    }
}

#[test]
fn an_algorithm_remembers_any_value() {
    let groups = groups(&[&[1.0, 0.5]]);
    let mut state = LearningState::default();
    for expected in 1..=2 {
        let model = Bigram::spread(VOCAB).train();
        let mut optimizer = optimizer(&model, 0.1);
        let resources = TrainerResources {
            reference: None,
            teacher: None,
            critic: None,
            ptx: &[],
            state: &mut state,
        };
        update_with(model, &mut optimizer, resources, &groups, &Counting, &config(99)).unwrap();
        assert_eq!(state.memory["updates"], expected);
        // As a checkpoint has it.
        state = serde_json::from_str(&serde_json::to_string(&state).unwrap()).unwrap();
    }
    let old = r#"{"kl_scale":1.0,"mean_return":0.5}"#;
    assert_eq!(serde_json::from_str::<LearningState>(old).unwrap().memory, 0.5);
    let old = r#"{"kl_scale":1.0,"mean_return":null}"#;
    assert_eq!(serde_json::from_str::<LearningState>(old).unwrap(), LearningState::default());
}
