//! An algorithm and a reward that `zs` does not have, trained for a few steps.

use std::error::Error;
use std::path::Path;

use burn::module::Module;
use burn::tensor::Device;
use zs_core::{StreamKey, YesNoRule, f1};
use zs_model::{LanguageModel, Optimizer, OptimizerConfig, TokenScores};
use zs_rl::{
    Advantages, Algorithm, Earned, Episode, EpisodeView, LossOutput, PolicyBatch, Reward,
    RewardFunction, RolloutBatch, RolloutConfig, TrajectoryGroup, UpdateConfig, rollout, update,
};
use zs_world::{Split, World};

/// F1 of the answer and something for answering at all, less in episodes of many turns.
#[derive(Debug)]
struct Frugal;

impl Reward for Frugal {
    fn name(&self) -> &'static str {
        "frugal"
    }

    fn score(&self, episode: &EpisodeView<'_>) -> Earned {
        let golden = &episode.question.golden_answers;
        let of_answer = |it| (0.1 + f1(it, golden, YesNoRule::Ignore)) / episode.turns.len() as f64;
        Earned::from(episode.answer().map_or(0.0, of_answer) as f32)
    }
}

/// Imitates the best episodes of each group: `L = -mean_t log p_t` over their tokens.
#[derive(Debug)]
struct BestOfGroup;

impl Algorithm for BestOfGroup {
    fn name(&self) -> &'static str {
        "best_of_group"
    }

    fn advantages(&self, batch: &RolloutBatch<'_>) -> Advantages {
        let is_best = |returns: &[f32]| {
            let best = returns.iter().copied().fold(f32::MIN, f32::max);
            returns.iter().map(|it| f32::from(u8::from(*it == best))).collect()
        };
        batch.group_advantages(is_best).into()
    }

    fn policy_loss(&self, scores: &TokenScores, batch: &PolicyBatch) -> LossOutput {
        let loss = -scores.log_probs.clone() * batch.advantages.clone();
        let loss = batch.aggregate(loss.mask_fill(batch.loss_mask.clone().bool_not(), 0.0));
        LossOutput { metrics: vec![("actor/imitation_loss", loss.clone().detach())], loss }
    }
}

/// Trains a model on questions about a synthetic world; the mean reward of each step.
pub fn train(model: &Path, steps: u64) -> Result<Vec<f32>, Box<dyn Error>> {
    let mut policy = LanguageModel::load(model, &Device::flex())?;
    let world = World::generate(1, Split::Train);
    let (engine, questions) = (world.engine().as_ref(), world.questions(1, 1, 8));
    let prompt_template = zs_world::PROMPT_TEMPLATE.to_owned();
    let config = RolloutConfig { max_new_tokens: 32, prompt_template, ..RolloutConfig::default() };
    let reward = RewardFunction::single(Frugal);
    let mut network = policy.network().clone().train();
    let settings = OptimizerConfig { learning_rate: 5e-4, ..OptimizerConfig::default() };
    let mut optimizer = Optimizer::new(&settings, &network);
    let mut means = Vec::new();
    for step in 1..=steps {
        let question = &questions[step as usize % questions.len()].question;
        let key = |sample| StreamKey { step, sample, ..StreamKey::new(1) };
        let episodes = [0, 1, 2, 3, 4, 5].map(|it| Episode { question, key: key(it) });
        let output = rollout(&policy, engine, &episodes, 0.0, &config, &mut |_| {})?;
        let group = TrajectoryGroup::score(question.clone(), output.trajectories, &reward);
        means.push(group.rewards().iter().sum::<f32>() / episodes.len() as f32);
        let plan = UpdateConfig::default();
        (network, _) = update(network, &mut optimizer, None, &[group], &BestOfGroup, &plan)?;
        policy = policy.with_network(&network);
    }
    Ok(means)
}

fn main() -> Result<(), Box<dyn Error>> {
    let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../assets/zs-tiny");
    println!("mean reward of each step: {:.3?}", train(&model, 20)?);
    Ok(())
}
