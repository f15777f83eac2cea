//! Workloads that the benches of `zs` share: the shape of the shipped model on text of the embedded
//! world.
//!
//! ```
//! let rows = zs_benches::transcripts(500)?;
//! let tokens: usize = rows.iter().map(|it| it.tokens.len()).sum();
//! assert!((500..1_000).contains(&tokens));
//! # Ok::<(), zs_simulator::pretraining::ExampleError>(())
//! ```

mod floor;
pub mod model_speed;
mod shapes;

use burn::tensor::Device;
use zs_core::{Action, Question, StreamKey};
use zs_model::testing::tiny_config;
use zs_model::{Completion, LanguageModel, ModelConfig, StopReason, TokenId, TokenRow};
use zs_rl::{RewardScore, RewardedTrajectory, Trajectory, TrajectoryGroup, Turn};
use zs_simulator::pretraining::{CorpusMix, ExampleError, generate_examples, world_tokenizer};
use zs_world::{BehaviourMix, Split, World};

pub use floor::Floor;
pub use shapes::{SHAPES, Work, WorkSize, num_block_weights, random_model, shape, work};

/// A model of the shipped shape with random weights.
#[must_use]
pub fn tiny_model() -> LanguageModel {
    LanguageModel::initialize(shipped_shape(), world_tokenizer(), 1, &Device::default())
}

/// The shape of the shipped model.
pub(crate) fn shipped_shape() -> ModelConfig {
    ModelConfig {
        vocab_size: world_tokenizer().vocab_size(),
        hidden_size: 128,
        intermediate_size: 384,
        num_hidden_layers: 4,
        head_dim: 32,
        max_position_embeddings: 512,
        eos_token_ids: Vec::new(),
        ..tiny_config()
    }
}

/// About `num_tokens` tokens of interaction transcripts, as pre-training sees them.
///
/// # Errors
///
/// Fails when the world's tokenizer cannot encode its own text, which is a defect.
pub fn transcripts(num_tokens: usize) -> Result<Vec<TokenRow>, ExampleError> {
    let worlds = [World::generate(1, Split::Train)];
    let mix = CorpusMix { simulation: 0.0, reading: 0.0, page: 0.0, ..CorpusMix::default() };
    let behaviours = BehaviourMix { guess: 0.0, useless_query: 0.0, careless: 0.2, good: 0.8 };
    let rows =
        generate_examples(&worlds, &world_tokenizer(), &mix, &behaviours, 500, StreamKey::new(1))?;
    let mut total = 0;
    let wanted = rows.into_iter().take_while(|row| {
        let goes_on = total < num_tokens;
        total += row.tokens.len();
        goes_on
    });
    Ok(wanted.collect())
}

/// Groups of episodes of 20 + 3 × (30 + 50) tokens: a prompt, and three turns of which each wrote 30
/// tokens and observed 50.
#[must_use]
pub fn episodes(num_groups: usize, group_size: usize) -> Vec<TrajectoryGroup> {
    let tokens = |seed: usize, count: usize| -> Vec<TokenId> {
        (0..count).map(|it| ((seed * 31 + it * 17) % 100) as TokenId).collect()
    };
    let episode = |seed: usize| {
        let mut trajectory = Trajectory::new("q", tokens(0, 20));
        for turn in 0..3 {
            let seed = seed * 3 + turn;
            trajectory.turns.push(Turn {
                completion: Completion {
                    tokens: tokens(seed, 30),
                    log_probs: vec![-1.0; 30],
                    sampling_log_probs: None,
                    stop_reason: StopReason::Stop,
                },
                text: String::new(),
                action: Action::Invalid,
                observation: tokens(seed + 1, 50),
                observation_text: format!("document {} of five, {}", seed % 5, "word ".repeat(40)),
                search: None,
            });
        }
        let total = (seed % 4) as f32 / 3.0;
        let reward = RewardScore { total, ..RewardScore::default() };
        RewardedTrajectory { trajectory, reward }
    };
    (0..num_groups)
        .map(|group| TrajectoryGroup {
            question: Question::new("q", "?", ["a"]),
            trajectories: (0..group_size).map(|it| episode(group * group_size + it)).collect(),
        })
        .collect()
}
