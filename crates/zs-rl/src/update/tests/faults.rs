//! Updates in which something goes wrong.

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
        let companions = Companions { reference: None, critic: None, ptx: &[], state };
        let config = config(4 * longest);
        let updated = update_with(model, &mut optimizer, companions, &groups, &algorithm, &config);
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
