//! A weighted sum of rewards that keeps every component for the log.

use std::sync::Arc;

use garde::Validate;
use serde::{Deserialize, Serialize};
use zs_core::registry::check;
use zs_core::{Document, Question};

use super::{EpisodeView, GroupReward, RetrievalReward, Reward, RewardOutput};
use crate::{ReplacedDocuments, Trajectory, Turn};

/// Reward of one episode, in total and by component.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RewardScore {
    /// Weighted sum of the components, which training maximises.
    #[serde(deserialize_with = "zs_core::null_as_nan")]
    pub total: f32,
    /// The components before weighting, in the order of the config.
    pub components: Vec<RewardComponent>,
    /// Rewards of the turns, as parts of [`total`](Self::total); each is placed on the turn's last
    /// token. Empty where no turn has a reward of its own. The rest of `total` is placed on the
    /// last token of the episode.
    #[serde(
        default,
        skip_serializing_if = "Vec::is_empty",
        deserialize_with = "zs_core::null_as_nan"
    )]
    pub turns: Vec<f32>,
}

/// One component of a reward.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RewardComponent {
    /// [`Reward::name`], or the name of one of its [`details`](RewardOutput::details).
    pub name: String,
    /// Its score, before weighting.
    #[serde(deserialize_with = "zs_core::null_as_nan")]
    pub score: f32,
}

/// A weighted sum of rewards that keeps every component for the log.
///
/// ```text
/// R  = sum_k w_k ramp_k decay_k r_k
/// R_t = sum_k w_k ramp_k decay_k r_kt          the part of turn t
/// ramp_k  = min(1, step / warm_up_k)           1 without a warm-up
/// ```
///
/// - `r_k`: score of reward `k` ([`RewardOutput::total`]); `r_kt`: its score of turn `t`
/// - `w_k`: its weight; `decay_k`: its [`TurnDecay`], 1 without one
///
/// ```
/// use zs_core::{Action, Question};
/// use zs_model::{Completion, StopReason};
/// use zs_rl::{F1, RewardFunction, Trajectory, Turn};
///
/// let reward = RewardFunction::single(F1::default());
/// let question = Question::new("q", "who?", ["the Beatles"]);
/// let mut trajectory = Trajectory::new("q", vec![0]);
/// trajectory.turns.push(Turn {
///     completion: Completion {
///         tokens: vec![7],
///         log_probs: vec![-0.5],
///         sampling_log_probs: None,
///         stop_reason: StopReason::Stop,
///     },
///     text: "<answer> Beatles band </answer>".into(),
///     action: Action::Answer("Beatles band".into()),
///     observation: vec![],
///     observation_text: String::new(),
///     search: None,
/// });
/// let score = reward.score(&question, &trajectory);
/// assert_eq!(score.total, 2.0 / 3.0);
/// assert_eq!(score.components[0].name, "f1");
/// ```
#[derive(Clone, Debug, Default)]
pub struct RewardFunction {
    terms: Vec<Term>,
    step: Option<usize>,
}

/// A reward with its weight.
#[derive(Clone, Debug)]
struct Term {
    weight: f32,
    warm_up_steps: usize,
    turn_decay: Option<TurnDecay>,
    reward: AnyReward,
}

/// The three kinds of rewards, by what they may read.
#[derive(Clone, Debug)]
enum AnyReward {
    Episode(Arc<dyn Reward>),
    Retrieval(Arc<dyn RetrievalReward>),
    Group(Arc<dyn GroupReward>),
}

/// Discount of a reward in long episodes.
///
/// ```text
/// decay = base^max(0, T - free)
/// ```
///
/// - `T`: turns of the episode
///
/// # References
///
/// - [InForage](https://arxiv.org/abs/2505.09316), section 3.2, with `free = 2`
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, Validate)]
pub struct TurnDecay {
    /// Factor of each further turn, in `(0, 1]`.
    #[garde(custom(check::positive_fraction))]
    pub base: f32,
    /// Turns without a discount.
    #[serde(default = "two")]
    #[garde(skip)]
    pub free_turns: usize,
}

fn two() -> usize {
    2
}

impl TurnDecay {
    fn factor(self, num_turns: usize) -> f32 {
        self.base.powf(num_turns.saturating_sub(self.free_turns) as f32)
    }
}

impl RewardFunction {
    /// A single reward of weight 1.
    #[must_use]
    pub fn single(reward: impl Reward + 'static) -> Self {
        Self::default().and(1.0, reward)
    }

    /// Adds a reward.
    #[must_use]
    pub fn and(self, weight: f32, reward: impl Reward + 'static) -> Self {
        self.with(weight, AnyReward::Episode(Arc::new(reward)))
    }

    /// Adds a reward that reads documents.
    #[must_use]
    pub fn and_retrieval(self, weight: f32, reward: impl RetrievalReward + 'static) -> Self {
        self.with(weight, AnyReward::Retrieval(Arc::new(reward)))
    }

    /// Adds a reward that compares episodes.
    #[must_use]
    pub fn and_group(self, weight: f32, reward: impl GroupReward + 'static) -> Self {
        self.with(weight, AnyReward::Group(Arc::new(reward)))
    }

    fn with(mut self, weight: f32, reward: AnyReward) -> Self {
        self.terms.push(Term { weight, warm_up_steps: 0, turn_decay: None, reward });
        self
    }

    /// Adds the terms of another function, multiplied by a weight. Warm-up and decay apply to terms
    /// that have none of their own.
    pub(super) fn extend(
        &mut self,
        inner: Self,
        weight: f32,
        warm_up_steps: usize,
        turn_decay: Option<TurnDecay>,
    ) {
        let own = |it: usize| (it > 0).then_some(it);
        self.terms.extend(inner.terms.into_iter().map(|it| Term {
            weight: weight * it.weight,
            warm_up_steps: own(it.warm_up_steps).unwrap_or(warm_up_steps),
            turn_decay: it.turn_decay.or(turn_decay),
            reward: it.reward,
        }));
    }

    /// Returns the name of a term that occurs twice.
    pub(super) fn duplicate(&self) -> Option<&'static str> {
        let names: Vec<&str> = self.terms.iter().map(Term::name).collect();
        let mut terms = self.terms.iter().map(Term::name).enumerate();
        terms.find(|(index, it)| names[..*index].contains(it)).map(|(_, it)| it)
    }

    /// Documents with which the rewards ask for counterfactuals, each once.
    #[must_use]
    pub fn counterfactuals(&self) -> Vec<ReplacedDocuments> {
        let mut found = Vec::new();
        for term in &self.terms {
            let AnyReward::Episode(reward) = &term.reward else { continue };
            found.extend(reward.counterfactual().filter(|it| !found.contains(it)));
        }
        found
    }

    /// Sets the training step, which warm-ups depend on; without it they are complete.
    pub fn set_step(&mut self, step: usize) {
        self.step = Some(step);
    }

    /// The reward of one episode, which is compared with none.
    #[must_use]
    pub fn score(&self, question: &Question, trajectory: &Trajectory) -> RewardScore {
        self.score_group(question, std::slice::from_ref(trajectory)).pop().unwrap_or_default()
    }

    /// The rewards of the episodes of one question, in their order.
    ///
    /// # Panics
    ///
    /// When a [`GroupReward`] does not return one reward an episode.
    #[must_use]
    pub fn score_group(
        &self,
        question: &Question,
        trajectories: &[Trajectory],
    ) -> Vec<RewardScore> {
        let episodes: Vec<EpisodeView<'_>> =
            trajectories.iter().map(|it| EpisodeView::new(question, it)).collect();
        let mut scores = vec![RewardScore::default(); episodes.len()];
        for term in &self.terms {
            let earned = term.earned(&episodes, trajectories);
            assert_eq!(earned.len(), episodes.len(), "one reward an episode: {}", term.name());
            for ((score, earned), episode) in scores.iter_mut().zip(earned).zip(&episodes) {
                let decay = term.turn_decay.map_or(1.0, |it| it.factor(episode.turns.len()));
                score.add(term.name(), term.weight * self.ramp(term) * decay, earned);
            }
        }
        scores
    }

    fn ramp(&self, term: &Term) -> f32 {
        match self.step {
            Some(step) if step < term.warm_up_steps => step as f32 / term.warm_up_steps as f32,
            Some(_) | None => 1.0,
        }
    }
}

impl Term {
    fn name(&self) -> &'static str {
        match &self.reward {
            AnyReward::Episode(it) => it.name(),
            AnyReward::Retrieval(it) => it.name(),
            AnyReward::Group(it) => it.name(),
        }
    }

    fn earned(
        &self,
        episodes: &[EpisodeView<'_>],
        trajectories: &[Trajectory],
    ) -> Vec<RewardOutput> {
        match &self.reward {
            AnyReward::Episode(it) => episodes.iter().map(|episode| it.score(episode)).collect(),
            AnyReward::Retrieval(it) => episodes
                .iter()
                .zip(trajectories)
                .map(|(episode, trajectory)| it.score(episode, &documents(trajectory)))
                .collect(),
            AnyReward::Group(it) => it.score_group(episodes),
        }
    }
}

/// The documents that each turn's search returned.
fn documents<'a>(trajectory: &'a Trajectory) -> Vec<&'a [Document]> {
    let of_turn = |turn: &'a Turn| turn.search.as_ref().map_or(&[][..], |it| &it.documents);
    trajectory.turns.iter().map(of_turn).collect()
}

impl RewardScore {
    fn add(&mut self, name: &str, weight: f32, earned: RewardOutput) {
        let mut push = |name: &str, score| {
            self.components.push(RewardComponent { name: name.to_owned(), score });
        };
        push(name, earned.total);
        earned.details.into_iter().for_each(|(name, score)| push(name, score));
        self.total += weight * earned.total;
        if self.turns.len() < earned.turns.len() {
            self.turns.resize(earned.turns.len(), 0.0);
        }
        for (sum, part) in self.turns.iter_mut().zip(earned.turns) {
            *sum += weight * part;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reward::testing::build;
    use crate::reward::testing::trajectory;
    use crate::{InvalidAction, Length};

    const JSON: &str = r#"{"kind":"sum","terms":[
        {"weight":1.0,"reward":{"kind":"exact_match"}},
        {"weight":0.5,"warm_up_steps":4,"reward":{"kind":"length"}},
        {"weight":0.25,"turn_decay":{"base":0.5},"reward":{"kind":"invalid_action"}}]}"#;

    #[test]
    fn groups_turns_warm_ups_and_decays() {
        let mut reward = build(JSON);
        let question = Question::new("q", "?", ["a"]);
        let group = [
            trajectory(&["<answer>a</answer>"]),
            trajectory(&["hm", "hm", "hm", "<answer>a</answer>", "hm"]),
        ];
        let scores = reward.score_group(&question, &group);
        // The second is longer, unanswered, and has five turns: 0.5^3 of four prices.
        assert_eq!(scores[0].total, 1.0 + 0.5 * 0.5);
        assert_eq!(scores[1].total, 0.5 * -0.5 + 0.25 * 0.125 * -4.0);
        assert_eq!(scores[0].turns, [0.0]);
        let price = -0.25 * 0.125;
        assert_eq!(scores[1].turns, [price, price, price, 0.0, price]);
        let names: Vec<_> = scores[1].components.iter().map(|it| it.name.as_str()).collect();
        assert_eq!(names, ["exact_match", "length", "invalid_action"]);
        assert_eq!(scores[1].components[2].score, -4.0);
        for (step, ramp) in [(0, 0.0), (1, 0.25), (4, 1.0), (9, 1.0)] {
            reward.set_step(step);
            assert_eq!(reward.score_group(&question, &group)[0].total, 1.0 + 0.25 * ramp);
        }
    }

    #[test]
    fn built_by_hand() {
        let reward = RewardFunction::single(InvalidAction {}).and_group(2.0, Length {});
        let question = Question::new("q", "?", ["a"]);
        let score = reward.score(&question, &trajectory(&["hm"]));
        assert_eq!((score.total, score.components.len()), (-1.0, 2));
        assert!(reward.score_group(&question, &[]).is_empty());
    }
}
