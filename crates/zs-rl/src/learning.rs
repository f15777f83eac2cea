//! The whole loop on a toy: rollout, reward, advantage, loss and update must raise the reward.

use burn::module::Module;
use zs_core::{Document, Question, SearchEngine, SearchRequest, SearchResult, StreamKey};
use zs_model::{Optimizer, OptimizerConfig};

use crate::algorithm::{builtin, from_json};
use crate::testing::bigram::{Bigram, BigramGenerator, BigramValues};
use crate::{
    Episode, F1, LearningState, RewardFunction, RolloutConfig, TrainerResources, TrajectoryGroup,
    UpdateConfig, ValueLearner, rollout, update_with,
};

const VOCAB: [&str; 8] = [
    "<unk>",
    "France?",
    "Italy?",
    "<search>capital</search>",
    "</information>",
    "<answer>Paris</answer>",
    "<answer>Rome</answer>",
    "hm",
];
const GROUP_SIZE: u32 = 8;
const NUM_STEPS: u64 = 40;

#[derive(Debug)]
struct Nothing;

impl SearchEngine for Nothing {
    fn name(&self) -> &str {
        "nothing"
    }

    fn search_batch(&self, requests: &[SearchRequest<'_>]) -> Vec<SearchResult> {
        requests.iter().map(|_| Ok(vec![Document::new("", "nothing")])).collect()
    }
}

/// The mean reward of each training step.
fn train(algorithm: &str, seed: u64) -> Vec<f32> {
    let questions =
        [Question::new("fr", "France?", ["Paris"]), Question::new("it", "Italy?", ["Rome"])];
    let algorithm = from_json(algorithm).unwrap();
    let reward = RewardFunction::single(F1::default());
    let config = RolloutConfig {
        max_searches: 1,
        max_new_tokens: 1,
        prompt_template: "{{ question }}".to_owned(),
        ..RolloutConfig::default()
    };
    let reference = Bigram::uniform(VOCAB.len());
    let mut model = Bigram::uniform(VOCAB.len()).train();
    let optimizer_config =
        OptimizerConfig { learning_rate: 0.2, weight_decay: 0.0, ..OptimizerConfig::default() };
    let mut optimizer = Optimizer::new(&optimizer_config, &model);
    let values = BigramValues::zeros(VOCAB.len()).train();
    let mut critic = ValueLearner::new(values.clone(), Optimizer::new(&optimizer_config, &values));
    let mut state = LearningState::default();

    let mut rewards = Vec::new();
    for step in 0..NUM_STEPS {
        let generator = BigramGenerator::new(&model.valid(), &VOCAB);
        let episodes: Vec<Episode<'_>> = (0..questions.len() as u32 * GROUP_SIZE)
            .map(|it| {
                let (group, sample) = (it / GROUP_SIZE, it % GROUP_SIZE);
                let key = StreamKey { step, group, sample, ..StreamKey::new(seed) };
                Episode { question: &questions[group as usize], key }
            })
            .collect();
        let output = rollout(&generator, &Nothing, &episodes, 0.5, &config, &mut |_| {}).unwrap();
        let mut trajectories = output.trajectories.into_iter();
        let groups: Vec<TrajectoryGroup> = questions
            .iter()
            .map(|question| {
                let trajectories = trajectories.by_ref().take(GROUP_SIZE as usize).collect();
                TrajectoryGroup::score(question.clone(), trajectories, &reward)
            })
            .collect();
        let of_step: Vec<f32> = groups.iter().flat_map(TrajectoryGroup::rewards).collect();
        rewards.push(of_step.iter().sum::<f32>() / of_step.len() as f32);
        let resources = TrainerResources {
            reference: Some(&reference),
            teacher: None,
            critic: Some(&mut critic),
            ptx: &[],
            state: &mut state,
        };
        let (algorithm, config) = (algorithm.as_ref(), UpdateConfig::default());
        (model, _) =
            update_with(model, &mut optimizer, resources, &groups, algorithm, &config).unwrap();
    }
    rewards
}

#[track_caller]
fn check(algorithm: &str, reached: f32) {
    let rewards = train(algorithm, 1);
    let mean = |steps: &[f32]| steps.iter().sum::<f32>() / steps.len() as f32;
    let (start, end) = (mean(&rewards[..3]), mean(&rewards[rewards.len() - 5..]));
    assert!(start < 0.5 && end > reached, "{algorithm}: from {start} to {end}: {rewards:?}");
}

#[test]
fn every_algorithm_learns() {
    for kind in builtin().kinds() {
        // Once two answers of a group are right, its best one has no lead.
        let reached = if kind == "pass_at_k" { 0.5 } else { 0.9 };
        check(&format!(r#"{{"kind":"{kind}"}}"#), reached);
    }
}

#[test]
fn the_same_seed_gives_the_same_run() {
    let ppo = r#"{"kind":"ppo"}"#;
    assert_eq!(train(ppo, 1), train(ppo, 1));
    assert_ne!(train(ppo, 1), train(ppo, 2));
}

#[test]
fn variants_learn() {
    for json in [
        r#"{"kind":"reinforce","baseline":"batch_mean","kl_coef":0.0,"entropy_coef":0.0}"#,
        r#"{"kind":"reinforce","baseline":{"ema":{"decay":0.9}}}"#,
        r#"{"kind":"grpo","normalize_std":false,"kl_coef":0.0,"entropy_coef":0.0}"#,
        r#"{"kind":"reinforce_plus_plus","baseline":"group_mean"}"#,
        r#"{"kind":"ppo","gae":{"gamma":0.99,"lambda":0.95}}"#,
        r#"{"kind":"gigpo","anchor":"query_sequence","credit":{"pooling":"per_step"}}"#,
    ] {
        check(json, 0.9);
    }
}
