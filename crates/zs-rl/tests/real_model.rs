//! The loop and the update with a real trained Llama: sampling and training must agree about it.
#![cfg(feature = "flex")]

use std::path::Path;

use burn::module::Module;
use burn::tensor::Device;
use zs_core::{Document, Question, SearchEngine, SearchRequest, SearchResult, StreamKey};
use zs_model::{Generator, LanguageModel, Optimizer, OptimizerConfig};
use zs_rl::{
    Episode, Grpo, RewardComponent, RewardScore, RewardedTrajectory, RolloutConfig,
    TrajectoryGroup, UpdateConfig, rollout, update,
};

#[derive(Debug)]
struct OnePage;

impl SearchEngine for OnePage {
    fn name(&self) -> &str {
        "one page"
    }

    fn search_batch(&self, requests: &[SearchRequest<'_>]) -> Vec<SearchResult> {
        requests.iter().map(|it| Ok(vec![Document::new("Lily", it.query)])).collect()
    }
}

#[test]
fn samples_and_trains_stories260k() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/fixtures/stories260k");
    if !dir.join("model.safetensors").exists() {
        eprintln!("skipped: {} is absent", dir.display());
        return;
    }
    let policy = LanguageModel::load(&dir, &Device::flex()).unwrap();
    let question = Question::new("q1", "Who is Lily?", ["a girl"]);
    let config = RolloutConfig {
        max_new_tokens: 60,
        max_searches: 1,
        prompt_template: "Once upon a time, {{ question }}".to_owned(),
        ..RolloutConfig::default()
    };
    let episodes: Vec<Episode<'_>> = (0..4)
        .map(|sample| Episode {
            question: &question,
            key: StreamKey { sample, ..StreamKey::new(5) },
        })
        .collect();
    let output = rollout(&policy, &OnePage, &episodes, 0.5, &config, &mut |_| {}).unwrap();
    // Two questions in two lanes, of which the first is the one above.
    let other = Question::new("q2", "Where is Tim?", ["in the park"]);
    let more: Vec<Episode<'_>> = episodes
        .iter()
        .copied()
        .chain(episodes.iter().map(|it| Episode { question: &other, ..*it }))
        .collect();
    let lanes = RolloutConfig { lanes: 2, ..config.clone() };
    let beside = rollout(&policy, &OnePage, &more, 0.5, &lanes, &mut |_| {}).unwrap();
    for (one, of_two) in output.trajectories.iter().zip(&beside.trajectories) {
        assert_eq!(one.tokens(), of_two.tokens());
    }
    for trajectory in &output.trajectories {
        assert!(trajectory.num_tokens() <= policy.context_length());
        assert!(trajectory.loss_mask().contains(&true));
        assert_eq!(trajectory.tokens().len(), trajectory.old_log_probs().len());
    }

    // No answer can be expected of it, so rewards are made up.
    let rewarded = |(index, trajectory)| RewardedTrajectory {
        trajectory,
        reward: RewardScore {
            total: index as f32,
            components: vec![RewardComponent { name: "order".to_owned(), score: index as f32 }],
            turns: Vec::new(),
        },
    };
    let trajectories = output.trajectories.into_iter().enumerate().map(rewarded).collect();
    let groups = [TrajectoryGroup { question: question.clone(), trajectories }];
    let model = policy.network().clone().train();
    let mut optimizer = Optimizer::new(&OptimizerConfig::default(), &model);
    let algorithm = Grpo::default();
    let (_, metrics) = update(
        model,
        &mut optimizer,
        Some(policy.network()),
        &groups,
        &algorithm,
        &UpdateConfig { micro_batch_tokens: 1024, ..UpdateConfig::default() },
    )
    .unwrap();
    let values = &metrics.values;
    assert!(values["rollout/log_prob_diff"].abs() < 1e-4, "{values:?}");
    assert!(values["rollout/log_prob_max_ratio"] < 1.001, "{values:?}");
    assert!(values["actor/kl"].abs() < 1e-6, "{values:?}");
    assert!(values["actor/entropy"] > 0.5 && values["actor/grad_norm"] > 0.0, "{values:?}");
}
