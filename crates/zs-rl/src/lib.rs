//! Reinforcement learning of `zs`: rollouts, rewards, advantages, losses, algorithms and the update.
//!
//! ```text
//! questions -> rollout -> trajectories -> reward -> advantages -> loss -> update -> model
//!                ^  ^                                                              |
//!     search engine  policy model <------------------------------------------------+
//! ```
//!
//! **Invariants:** this crate knows neither the search engine nor the curriculum (it is given a
//! noise probability). Loss masks and log-probabilities are derived from turns and never rebuilt
//! from text. Everything is a function of inputs and keys. No files are opened here.
//!
//! ```
//! use zs_core::{Document, Question, SearchEngine, SearchRequest, SearchResult, StreamKey};
//! use zs_model::testing::ScriptedGenerator;
//! use zs_rl::{
//!     Algorithm, Episode, F1, Grpo, RewardFunction, RolloutBatch, RolloutConfig, TrajectoryGroup, rollout,
//! };
//!
//! #[derive(Debug)]
//! struct OnePage;
//!
//! impl SearchEngine for OnePage {
//!     fn name(&self) -> &str {
//!         "one page"
//!     }
//!     fn search_batch(&self, requests: &[SearchRequest<'_>]) -> Vec<SearchResult> {
//!         requests.iter().map(|_| Ok(vec![Document::new("France", "Its capital is Paris.")])).collect()
//!     }
//! }
//!
//! // A policy that searches, then answers; every second sample guesses instead.
//! let policy = ScriptedGenerator::new(|text, key| {
//!     let guess = key.sample % 2 == 1;
//!     match (guess, text.contains("Paris")) {
//!         (false, false) => "<search> capital of France </search>",
//!         (false, true) => "<answer> Paris </answer>",
//!         (true, _) => "<answer> Lyon </answer>",
//!     }
//!     .to_owned()
//! });
//! let question = Question::new("q1", "What is the capital of France?", ["Paris"]);
//! let episodes: Vec<Episode<'_>> = (0..4)
//!     .map(|sample| Episode {
//!         question: &question,
//!         key: StreamKey { sample, ..StreamKey::new(42) },
//!     })
//!     .collect();
//! let output =
//!     rollout(&policy, &OnePage, &episodes, 0.25, &RolloutConfig::default(), &mut |_| {}).unwrap();
//! assert_eq!(output.stats.num_searches, 2);
//!
//! let reward = RewardFunction::single(F1::default());
//! let group = TrajectoryGroup::score(question.clone(), output.trajectories, &reward);
//! assert_eq!(group.rewards(), [1.0, 0.0, 1.0, 0.0]);
//!
//! let advantages = Grpo::default().advantages(&RolloutBatch::new(&[group])).tokens;
//! assert!(advantages[0].last() > Some(&0.0) && advantages[1].last() < Some(&0.0));
//! ```

pub mod advantage;
pub mod algorithm;
pub mod consult;
mod distillation;
mod group;
pub mod judge;
pub mod loss;
pub mod program;
mod record;
pub mod reward;
mod rollout;
mod schedule;
mod trajectory;
mod update;

pub use algorithm::{
    Advantages, AipoStyle, Algorithm, AlgorithmRegistry, BinaryDivergence, Branched, Branching,
    Cispo, ClipCov, Dapo, Dppo, DrGrpo, DynamicSampling, Gdpo, Gigpo, Gmpo, Gpg, Grpo, Gspo,
    KlPlacement, LearningState, LitePpo, LossOutput, LossTerms, MaxRl, Opo, PassAtK, PolicyBatch,
    Ppo, RaftPlusPlus, Reinforce, ReinforcePlusPlus, ReinforcePlusPlusBaseline, Requirements, Rloo,
    RolloutBatch, Sapo, SquaredRegret, Topr,
};
pub use distillation::{DistillationConfig, DistillationPlacement, DistilledEpisodes, Teacher};
pub use group::{RewardedTrajectory, TrajectoryGroup};
pub use record::{RECORD_VERSION, RecordError, read_records, write_records};
pub use reward::{
    CoverExactMatch, CoverageGain, DefaultAnswer, EpisodeView, ExactMatch, F1, Format, GroupReward,
    InformationGain, InvalidAction, Length, OverBudget, Overlong, Redundancy, RetrievalAnswer,
    RetrievalReward, Reward, RewardComponent, RewardError, RewardFunction, RewardNeeds,
    RewardOutput, RewardRegistry, RewardResources, RewardScore, RewardSum, RewardTerm, SearchR1,
    SearchStep, SearchValueReward, SearchView, TurnDecay, TurnPenalty, TurnView, information_gain,
    length_rewards,
};
pub use rollout::{
    Branch, DemonstratedTurn, Demonstration, DemonstrationError, Episode, PlayedEpisode, Rollout,
    RolloutConfig, RolloutError, RolloutEvent, RolloutOutput, RolloutStats, TokenBudget, TurnNoise,
    ZEROSEARCH_PROMPT, rollout,
};
pub use schedule::TemperatureSchedule;
pub use trajectory::{
    BranchOrigin, Consult, Counterfactual, LossTokens, Provenance, ReplacedDocuments, SearchRecord,
    SearchValue, SearchesThatMattered, Trajectory, Turn, search_values,
};
pub use update::{
    Critic, SkippedStep, TrainerResources, UpdateConfig, UpdateError, UpdateMetrics, ValueLearner,
    ValueRow, is_out_of_memory, update, update_with,
};

#[cfg(test)]
#[cfg(feature = "flex")]
mod learning;
#[cfg(test)]
#[cfg(feature = "flex")]
mod testing;
