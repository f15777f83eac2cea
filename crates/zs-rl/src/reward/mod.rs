//! Outcome rewards: what a finished episode was worth, read from the policy's own text.

mod exact_match;
mod f1;
mod format;

use std::fmt::Debug;

use serde::{Deserialize, Serialize};
use zs_core::{Question, Transcript, YesNoRule};

pub use self::exact_match::{CoverExactMatch, ExactMatch};
pub use self::f1::F1;
pub use self::format::Format;

/// Scores a finished episode.
///
/// Implementations read the actions and the policy's text and never the observations, so that a
/// document which contains `<answer>` earns nothing, and score an unanswered episode 0. (The
/// reference code reads prompt and documents too: an episode that never answers is scored there as
/// if it had answered "Beijing", the prompt's example.)
pub trait Reward: Debug + Send + Sync {
    /// The name in configs and metric keys, e.g. `"f1"` in `reward/f1`.
    fn name(&self) -> &'static str;

    /// The outcome reward of one episode; finite.
    fn score(&self, question: &Question, transcript: &Transcript) -> f32;
}

/// What one episode earned, in total and by component.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RewardScore {
    /// The weighted sum of the components: what training maximises.
    pub total: f32,
    /// The components before weighting, in the order of the config.
    pub components: Vec<RewardComponent>,
    /// The part of [`total`](Self::total) that each turn earned, which lands on the turn's last
    /// token; empty where no turn earned anything of its own. The rest of `total` lands on the last
    /// token of the episode.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub turns: Vec<f32>,
}

/// One component of a reward.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RewardComponent {
    /// [`Reward::name`].
    pub name: String,
    /// Its score, before weighting.
    pub score: f32,
}

/// A weighted sum of rewards that keeps every component for the log.
///
/// ```
/// use zs_core::{Action, Question, Transcript, TranscriptTurn};
/// use zs_rl::RewardConfig;
///
/// let reward = RewardConfig::default().build().unwrap();
/// let question = Question::new("q", "who?", ["the Beatles"]);
/// let turn = TranscriptTurn {
///     text: "<answer> Beatles band </answer>".into(),
///     action: Action::Answer("Beatles band".into()),
///     observation: String::new(),
/// };
/// let score = reward.score(&question, &Transcript { turns: vec![turn] });
/// assert_eq!(score.total, 2.0 / 3.0);
/// assert_eq!(score.components[0].name, "f1");
/// ```
#[derive(Debug)]
pub struct RewardFunction {
    terms: Vec<(f32, Box<dyn Reward>)>,
}

impl RewardFunction {
    /// A single reward of weight 1, for rewards that have no entry in [`RewardConfig`].
    #[must_use]
    pub fn single(reward: impl Reward + 'static) -> Self {
        Self { terms: vec![(1.0, Box::new(reward))] }
    }

    /// The reward of one episode.
    #[must_use]
    pub fn score(&self, question: &Question, transcript: &Transcript) -> RewardScore {
        let mut total = 0.0;
        let mut components = Vec::with_capacity(self.terms.len());
        for (weight, reward) in &self.terms {
            let score = reward.score(question, transcript);
            total += weight * score;
            components.push(RewardComponent { name: reward.name().to_owned(), score });
        }
        RewardScore { total, components, turns: Vec::new() }
    }
}

/// Which reward to use.
///
/// ```toml
/// kind = "sum"
/// terms = [{ weight = 1.0, reward = { kind = "f1" } }, { weight = 0.1, reward = { kind = "format" } }]
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum RewardConfig {
    /// [`F1`]: the reward of ZeroSearch.
    F1 {
        /// What to do when one side is `yes` or `no`.
        #[serde(default)]
        yes_no: YesNoRule,
    },
    /// [`ExactMatch`].
    ExactMatch {},
    /// [`CoverExactMatch`].
    CoverExactMatch {},
    /// [`Format`].
    Format {
        /// Whether a turn must open with a closed `<think>` block.
        #[serde(default)]
        require_think: bool,
    },
    /// A weighted sum.
    Sum {
        /// The terms; sums inside are flattened.
        terms: Vec<RewardTerm>,
    },
}

/// One term of a weighted sum.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RewardTerm {
    /// Its weight.
    pub weight: f32,
    /// The reward.
    pub reward: RewardConfig,
}

impl Default for RewardConfig {
    fn default() -> Self {
        Self::F1 { yes_no: YesNoRule::default() }
    }
}

/// Why a reward cannot be built.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum RewardError {
    /// A sum without terms.
    #[error("`terms` of the reward sum is empty; add a term or use `kind = \"f1\"`")]
    Empty,
    /// A weight that is infinite or not a number.
    #[error("`weight` of reward term `{name}` is {weight}; it must be finite")]
    Weight {
        /// The term.
        name: &'static str,
        /// Its weight.
        weight: f32,
    },
    /// Two terms would share a metric key.
    #[error("reward term `{name}` occurs twice; merge both into one weight")]
    Duplicate {
        /// The term.
        name: &'static str,
    },
}

impl RewardConfig {
    /// The reward that this describes.
    ///
    /// # Errors
    ///
    /// Fails on a sum without terms, a weight that is not finite, or a term that occurs twice.
    pub fn build(&self) -> Result<RewardFunction, RewardError> {
        let mut terms = Vec::new();
        self.collect(1.0, &mut terms)?;
        for (index, (_, term)) in terms.iter().enumerate() {
            let name = term.name();
            if terms[..index].iter().any(|(_, other)| other.name() == name) {
                return Err(RewardError::Duplicate { name });
            }
        }
        Ok(RewardFunction { terms })
    }

    fn collect(
        &self,
        weight: f32,
        terms: &mut Vec<(f32, Box<dyn Reward>)>,
    ) -> Result<(), RewardError> {
        let reward: Box<dyn Reward> = match self {
            Self::F1 { yes_no } => Box::new(F1 { yes_no: *yes_no }),
            Self::ExactMatch {} => Box::new(ExactMatch),
            Self::CoverExactMatch {} => Box::new(CoverExactMatch),
            Self::Format { require_think } => Box::new(Format { require_think: *require_think }),
            Self::Sum { terms: inner } if inner.is_empty() => return Err(RewardError::Empty),
            Self::Sum { terms: inner } => {
                return inner
                    .iter()
                    .try_for_each(|it| it.reward.collect(weight * it.weight, terms));
            }
        };
        if !weight.is_finite() {
            return Err(RewardError::Weight { name: reward.name(), weight });
        }
        terms.push((weight, reward));
        Ok(())
    }
}

#[cfg(test)]
pub(crate) mod testing {
    //! Transcripts for the tests of rewards.

    use zs_core::{Transcript, TranscriptTurn, parse_action};

    /// A transcript of the policy's texts, each followed by a document that pretends to answer.
    pub(crate) fn transcript(texts: &[&str]) -> Transcript {
        let turn = |text: &&str| TranscriptTurn {
            text: (*text).to_owned(),
            action: parse_action(text),
            observation: "<information><answer> Paris </answer></information>".to_owned(),
        };
        Transcript { turns: texts.iter().map(turn).collect() }
    }
}

#[cfg(test)]
mod tests {
    use super::testing::transcript;
    use super::*;

    fn sum(terms: &[(f32, RewardConfig)]) -> RewardConfig {
        let term = |(weight, reward): &(f32, RewardConfig)| RewardTerm {
            weight: *weight,
            reward: reward.clone(),
        };
        RewardConfig::Sum { terms: terms.iter().map(term).collect() }
    }

    #[test]
    fn sums_keep_their_components() {
        let inner = sum(&[(0.5, RewardConfig::ExactMatch {})]);
        let format = RewardConfig::Format { require_think: false };
        let reward = sum(&[(1.0, RewardConfig::default()), (2.0, inner), (0.25, format)]);
        let reward = reward.build().unwrap();
        let question = Question::new("q", "where?", ["Paris"]);
        let score = reward.score(&question, &transcript(&["<answer> in Paris </answer>"]));
        let components: Vec<_> =
            score.components.iter().map(|it| (it.name.as_str(), it.score)).collect();
        assert_eq!(components, [("f1", 2.0 / 3.0), ("exact_match", 0.0), ("format", 1.0)]);
        assert_eq!(score.total, 2.0 / 3.0 + 0.25);
    }

    #[test]
    fn every_kind_scores_unanswered_episodes_zero() {
        let question = Question::new("q", "where?", ["Paris"]);
        let unanswered = [
            transcript(&[]),
            transcript(&["<search> Paris </search>"]),
            transcript(&["Paris"]),
            transcript(&["<answer> Paris </answer>", "<search> Paris </search>"]),
        ];
        let kinds = [
            RewardConfig::default(),
            RewardConfig::ExactMatch {},
            RewardConfig::CoverExactMatch {},
            RewardConfig::Format { require_think: false },
        ];
        for (kind, transcript) in
            kinds.iter().flat_map(|it| unanswered.iter().map(move |t| (it, t)))
        {
            let score = kind.build().unwrap().score(&question, transcript);
            assert_eq!(score.total, 0.0, "{kind:?} {transcript:?}");
        }
    }

    #[test]
    fn impossible_sums_are_refused() {
        let f1 = RewardConfig::default;
        assert_eq!(sum(&[]).build().unwrap_err(), RewardError::Empty);
        let twice = sum(&[(1.0, f1()), (1.0, f1())]).build().unwrap_err();
        assert_eq!(twice, RewardError::Duplicate { name: "f1" });
        let infinite = sum(&[(f32::INFINITY, f1())]).build().unwrap_err();
        assert_eq!(infinite, RewardError::Weight { name: "f1", weight: f32::INFINITY });
    }

    #[test]
    fn unknown_keys_are_refused() {
        let parse = |text| serde_json::from_str::<RewardConfig>(text);
        assert_eq!(parse(r#"{"kind":"f1"}"#).unwrap(), RewardConfig::default());
        for text in [
            r#"{"kind":"f1","rule":"strict"}"#,
            r#"{"kind":"exact_match","yes_no":"strict"}"#,
            r#"{"kind":"bleu"}"#,
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
