//! Rewards of episodes, read from the policy's own text and from records of its actions.

mod builtin;
mod coverage_gain;
mod default_answer;
mod exact_match;
mod f1;
mod format;
mod function;
mod information_gain;
mod invalid_action;
mod length;
mod overlong;
mod redundancy;
mod registry;
mod retrieval_answer;
mod rubric;
mod search_r1;
mod search_value;
mod sum;
mod tf_idf;
mod turn_penalty;
mod view;

use std::fmt::Debug;

use zs_core::Document;

use crate::ReplacedDocuments;

pub use self::builtin::{InformationGainConfig, builtin, register_rewards};
pub use self::coverage_gain::CoverageGain;
pub use self::default_answer::DefaultAnswer;
pub use self::exact_match::{CoverExactMatch, ExactMatch};
pub use self::f1::F1;
pub use self::format::Format;
pub use self::function::{RewardComponent, RewardFunction, RewardScore, TurnDecay};
pub use self::information_gain::{InformationGain, SearchStep, information_gain};
pub use self::invalid_action::InvalidAction;
pub use self::length::{Length, length_rewards};
pub use self::overlong::{OverBudget, Overlong};
pub use self::redundancy::Redundancy;
pub use self::registry::{
    RewardError, RewardNeeds, RewardRegistry, RewardResources, needs, register_group_reward,
    register_retrieval_reward, register_reward,
};
pub use self::retrieval_answer::RetrievalAnswer;
pub use self::rubric::{RubricConfig, RubricReward};
pub use self::search_r1::SearchR1;
pub use self::search_value::SearchValueReward;
pub use self::sum::{RewardSum, RewardTerm};
pub use self::turn_penalty::TurnPenalty;
pub use self::view::{EpisodeView, SearchView, TurnView};

/// Scores a finished episode by what the policy wrote and did.
///
/// An [`EpisodeView`] holds no observation and no document, so that a document which contains
/// `<answer>` has no effect. A reward that reads the retrieved documents is a [`RetrievalReward`];
/// one that compares episodes of the same question is a [`GroupReward`].
///
/// ```
/// use zs_rl::{RewardOutput, EpisodeView, Reward};
///
/// /// 1 for an episode that searched before it answered.
/// #[derive(Debug)]
/// struct Curious;
///
/// impl Reward for Curious {
///     fn name(&self) -> &'static str {
///         "curious"
///     }
///
///     fn score(&self, episode: &EpisodeView<'_>) -> RewardOutput {
///         RewardOutput::from(episode.answer().is_some() && episode.num_searches() > 0)
///     }
/// }
/// ```
pub trait Reward: Debug + Send + Sync {
    /// Name in metric keys, e.g. `"f1"` in `reward/f1`.
    fn name(&self) -> &'static str;

    /// Returns the reward of the episode; finite.
    fn score(&self, episode: &EpisodeView<'_>) -> RewardOutput;

    /// Documents with which every search is replaced in turn, where the reward reads the
    /// [counterfactuals](EpisodeView::counterfactuals).
    fn counterfactual(&self) -> Option<ReplacedDocuments> {
        None
    }
}

/// Scores a finished episode by the documents of its searches. The trait marks rewards that read
/// documents.
pub trait RetrievalReward: Debug + Send + Sync {
    /// As [`Reward::name`].
    fn name(&self) -> &'static str;

    /// Returns the reward of the episode; finite. `documents` has one list a turn, as the engine
    /// returned them, empty for a turn without a search.
    fn score(&self, episode: &EpisodeView<'_>, documents: &[&[Document]]) -> RewardOutput;
}

/// Scores the episodes of one question against one another.
pub trait GroupReward: Debug + Send + Sync {
    /// As [`Reward::name`].
    fn name(&self) -> &'static str;

    /// Returns the reward of each episode, in their order; finite.
    fn score_group(&self, episodes: &[EpisodeView<'_>]) -> Vec<RewardOutput>;
}

/// Reward of one episode, before weighting.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RewardOutput {
    /// Reward of the whole episode.
    pub total: f32,
    /// Rewards of the turns, as parts of [`total`](Self::total); empty where no turn has one.
    pub turns: Vec<f32>,
    /// Numbers that are logged besides the reward and do not enter it; the same keys for each
    /// episode.
    pub details: Vec<(&'static str, f32)>,
}

impl RewardOutput {
    /// Reward that is the sum of the turns' rewards.
    #[must_use]
    pub fn by_turn(turns: Vec<f32>) -> Self {
        Self { total: turns.iter().sum(), turns, details: Vec::new() }
    }
}

/// For the episode as a whole.
impl From<f32> for RewardOutput {
    fn from(total: f32) -> Self {
        Self { total, ..Self::default() }
    }
}

/// 1 or 0 for the episode as a whole.
impl From<bool> for RewardOutput {
    fn from(is_earned: bool) -> Self {
        Self::from(f32::from(u8::from(is_earned)))
    }
}

#[cfg(test)]
pub(crate) mod testing {
    //! Episodes for the tests of rewards.

    use zs_core::{Action, Document, DocumentQuality, Question, parse_action};
    use zs_model::{Completion, StopReason};

    use super::{EpisodeView, Reward, RewardFunction, RewardResources, builtin};
    use crate::{SearchRecord, Trajectory, Turn};

    /// An episode of the policy's texts. One token is a byte; searches but for that of a last turn
    /// are carried out, and their one document pretends to answer.
    pub(crate) fn trajectory(texts: &[&str]) -> Trajectory {
        let trap = "<information><answer> Paris </answer></information>";
        let mut trajectory = Trajectory::new("q", vec![0]);
        for (index, text) in texts.iter().enumerate() {
            let action = parse_action(text);
            let is_last = index + 1 == texts.len();
            let search = match &action {
                Action::Search(query) if !is_last => Some(SearchRecord {
                    query: query.clone(),
                    quality: DocumentQuality::Useful,
                    documents: vec![Document::new("", trap)],
                    error: None,
                }),
                _ => None,
            };
            let tokens: Vec<u32> = text.bytes().map(u32::from).collect();
            trajectory.turns.push(Turn {
                completion: Completion {
                    log_probs: vec![-0.5; tokens.len()],
                    tokens,
                    sampling_log_probs: None,
                    stop_reason: StopReason::Stop,
                },
                text: (*text).to_owned(),
                action,
                observation: Vec::new(),
                observation_text: trap.to_owned(),
                search,
            });
        }
        trajectory
    }

    /// Builds a built-in reward from JSON.
    pub(crate) fn build(json: &str) -> RewardFunction {
        builtin().build(&serde_json::from_str(json).unwrap(), &RewardResources::default()).unwrap()
    }

    /// Reward of an episode of these texts.
    pub(crate) fn score(reward: &dyn Reward, question: &Question, texts: &[&str]) -> f32 {
        reward.score(&EpisodeView::new(question, &trajectory(texts))).total
    }
}
