//! Which rewards to use, as run files say it.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use zs_core::{Document, YesNoRule};

use super::function::{AnyReward, Term};
use super::{
    CoverExactMatch, CoverageGain, DefaultAnswer, ExactMatch, F1, Format, InformationGain,
    InvalidAction, Length, OverBudget, Overlong, Redundancy, RetrievalAnswer, RewardFunction,
    SearchR1, TurnDecay, TurnPenalty,
};
use crate::judge::{Comparison, JudgeError, RubricConfig, RubricJudge, RubricReward, Verdict};

/// Which reward to use.
///
/// ```toml
/// kind = "sum"
/// terms = [
///     { weight = 1.0, reward = { kind = "f1" } },
///     { weight = 0.1, reward = { kind = "redundancy" } },
///     { weight = 0.2, reward = { kind = "length" }, warm_up_steps = 50 },
/// ]
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
    /// [`DefaultAnswer`]: a defect of the reference code.
    DefaultAnswer {
        /// What stands for a missing answer.
        answer: String,
    },
    /// [`Format`].
    Format {
        /// Whether a turn must open with a closed `<think>` block.
        #[serde(default)]
        require_think: bool,
    },
    /// [`SearchR1`]: exact match with partial credit for the format.
    SearchR1 {
        /// What a well-formed episode earns.
        #[serde(default = "default_structure")]
        structure: f32,
        /// What a wrong answer earns in an episode that is not well formed.
        #[serde(default = "default_final_answer")]
        final_answer: f32,
    },
    /// [`TurnPenalty`].
    TurnPenalty {
        /// Turns that cost nothing.
        free_turns: usize,
    },
    /// [`Length`]: Kimi K1.5's.
    Length {},
    /// [`Overlong`]: DAPO's.
    Overlong {
        /// From here on the punishment is whole.
        max_tokens: usize,
        /// Over how many tokens before it grows.
        cache_tokens: usize,
    },
    /// [`OverBudget`]: for a spent [`TokenBudget`](crate::TokenBudget).
    OverBudget {},
    /// [`Redundancy`]: DeepDive's.
    Redundancy {},
    /// [`InvalidAction`].
    InvalidAction {},
    /// [`InformationGain`]: StepSearch's. Needs [`RewardResources::corpus`].
    InformationGain {},
    /// [`CoverageGain`]: InForage's.
    CoverageGain {},
    /// [`RetrievalAnswer`].
    RetrievalAnswer {},
    /// [`RubricReward`]: Kimi K2's self-critique. Needs [`RewardResources::judge`].
    Rubric(RubricConfig),
    /// A weighted sum.
    Sum {
        /// The terms; sums inside are flattened.
        terms: Vec<RewardTerm>,
    },
}

fn default_structure() -> f32 {
    SearchR1::default().structure
}

fn default_final_answer() -> f32 {
    SearchR1::default().final_answer
}

/// One term of a weighted sum.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RewardTerm {
    /// Its weight.
    pub weight: f32,
    /// The reward.
    pub reward: RewardConfig,
    /// Training steps over which the weight grows to its full size; 0 starts with it.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub warm_up_steps: usize,
    /// What long episodes leave of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub turn_decay: Option<TurnDecay>,
}

fn is_zero(it: &usize) -> bool {
    *it == 0
}

impl Default for RewardConfig {
    fn default() -> Self {
        Self::F1 { yes_no: YesNoRule::default() }
    }
}

/// What some rewards need beside the episodes.
#[derive(Clone, Debug, Default)]
pub struct RewardResources {
    /// Documents in which [`InformationGain`] finds the gold ones, by title.
    pub corpus: Option<Arc<[Document]>>,
    /// Who compares episodes for [`RubricReward`].
    pub judge: Option<Arc<dyn RubricJudge>>,
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
    /// A setting out of range.
    #[error("`{field}` of reward `{name}` is {value}; it must {requirement}")]
    Setting {
        /// The reward.
        name: &'static str,
        /// The setting.
        field: &'static str,
        /// Its value.
        value: f64,
        /// What it must be.
        requirement: &'static str,
    },
    /// Something outside of the episodes is needed and not there.
    #[error("reward `{name}` needs {what}")]
    Missing {
        /// The reward.
        name: &'static str,
        /// What is missing, and how to give it.
        what: &'static str,
    },
}

impl RewardConfig {
    /// The reward that this describes, where it needs nothing beside the episodes.
    ///
    /// # Errors
    ///
    /// As [`build_with`](Self::build_with).
    pub fn build(&self) -> Result<RewardFunction, RewardError> {
        self.build_with(&RewardResources::default())
    }

    /// The reward that this describes.
    ///
    /// # Errors
    ///
    /// Fails on a sum without terms, a setting out of range, a term that occurs twice, and where a
    /// reward needs something that `resources` does not hold.
    pub fn build_with(&self, resources: &RewardResources) -> Result<RewardFunction, RewardError> {
        let mut terms = Vec::new();
        let whole = Share { weight: 1.0, warm_up_steps: 0, turn_decay: None };
        self.collect(whole, resources, &mut terms)?;
        for (index, term) in terms.iter().enumerate() {
            let name = term.name();
            if terms[..index].iter().any(|other| other.name() == name) {
                return Err(RewardError::Duplicate { name });
            }
        }
        Ok(RewardFunction::from_terms(terms))
    }

    /// Checks every setting, before the resources are there.
    ///
    /// # Errors
    ///
    /// As [`build_with`](Self::build_with) would with them.
    pub fn validate(&self) -> Result<(), RewardError> {
        #[derive(Debug)]
        struct Absent;
        impl RubricJudge for Absent {
            fn compare_batch(
                &self,
                _comparisons: &[Comparison<'_>],
            ) -> Vec<Result<Verdict, JudgeError>> {
                Vec::new()
            }
        }
        let judge: Arc<dyn RubricJudge> = Arc::new(Absent);
        let resources = RewardResources { corpus: Some([].into()), judge: Some(judge) };
        self.build_with(&resources).map(drop)
    }

    /// Whether the reward, or a term of it, is of a kind.
    #[must_use]
    pub fn any(&self, is_kind: &dyn Fn(&Self) -> bool) -> bool {
        match self {
            Self::Sum { terms } => terms.iter().any(|it| it.reward.any(is_kind)),
            other => is_kind(other),
        }
    }

    fn collect(
        &self,
        share: Share,
        resources: &RewardResources,
        terms: &mut Vec<Term>,
    ) -> Result<(), RewardError> {
        let reward = match self {
            Self::Sum { terms: inner } if inner.is_empty() => return Err(RewardError::Empty),
            Self::Sum { terms: inner } => {
                return inner
                    .iter()
                    .try_for_each(|it| it.reward.collect(share.of(it), resources, terms));
            }
            other => other.reward(resources)?,
        };
        let Share { weight, warm_up_steps, turn_decay } = share;
        let term = Term { weight, warm_up_steps, turn_decay, reward };
        let name = term.name();
        if !weight.is_finite() {
            return Err(RewardError::Weight { name, weight });
        }
        if let Some(TurnDecay { base, .. }) = turn_decay {
            let holds = base > 0.0 && base <= 1.0;
            ensure(holds, name, "turn_decay.base", base, "lie in (0, 1]")?;
        }
        terms.push(term);
        Ok(())
    }

    fn reward(&self, resources: &RewardResources) -> Result<AnyReward, RewardError> {
        use AnyReward::{Episode, Group, Retrieval};
        Ok(match self {
            Self::F1 { yes_no } => Episode(Arc::new(F1 { yes_no: *yes_no })),
            Self::ExactMatch {} => Episode(Arc::new(ExactMatch)),
            Self::CoverExactMatch {} => Episode(Arc::new(CoverExactMatch)),
            Self::DefaultAnswer { answer } => {
                Episode(Arc::new(DefaultAnswer { answer: answer.clone() }))
            }
            Self::Format { require_think } => {
                Episode(Arc::new(Format { require_think: *require_think }))
            }
            Self::SearchR1 { structure, final_answer } => {
                for (field, value) in [("structure", *structure), ("final_answer", *final_answer)] {
                    let holds = (0.0..=1.0).contains(&value);
                    ensure(holds, "search_r1", field, value, "lie in [0, 1]")?;
                }
                let (structure, final_answer) = (*structure, *final_answer);
                Episode(Arc::new(SearchR1 { structure, final_answer }))
            }
            Self::TurnPenalty { free_turns } => {
                Episode(Arc::new(TurnPenalty { free_turns: *free_turns }))
            }
            Self::Overlong { max_tokens, cache_tokens } => {
                let (max_tokens, cache_tokens) = (*max_tokens, *cache_tokens);
                let holds = (1..=max_tokens).contains(&cache_tokens);
                let requirement = "be at least 1 and at most `max_tokens`";
                let value = cache_tokens as f32;
                ensure(holds, "overlong", "cache_tokens", value, requirement)?;
                Episode(Arc::new(Overlong { max_tokens, cache_tokens }))
            }
            Self::OverBudget {} => Episode(Arc::new(OverBudget)),
            Self::Redundancy {} => Episode(Arc::new(Redundancy)),
            Self::InvalidAction {} => Episode(Arc::new(InvalidAction)),
            Self::InformationGain {} => {
                let corpus = resources.corpus.as_ref().ok_or(RewardError::Missing {
                    name: "information_gain",
                    what: "the texts of the gold documents; name their `corpus`",
                })?;
                Retrieval(Arc::new(InformationGain::new(corpus)))
            }
            Self::CoverageGain {} => Retrieval(Arc::new(CoverageGain)),
            Self::RetrievalAnswer {} => Retrieval(Arc::new(RetrievalAnswer)),
            Self::Length {} => Group(Arc::new(Length)),
            Self::Rubric(config) => {
                let judge = resources.judge.clone().ok_or(RewardError::Missing {
                    name: "rubric",
                    what: "a model that compares episodes; name a `judge`",
                })?;
                Group(Arc::new(RubricReward::new(judge, config.clone())))
            }
            Self::Sum { .. } => unreachable!("sums are flattened by the caller"),
        })
    }
}

/// How a reward counts, as the sums around it say.
#[derive(Clone, Copy)]
struct Share {
    weight: f32,
    warm_up_steps: usize,
    turn_decay: Option<TurnDecay>,
}

impl Share {
    /// What is left of it inside of a term; the inner warm-up and decay replace the outer ones.
    fn of(self, term: &RewardTerm) -> Self {
        let inner = (term.warm_up_steps > 0).then_some(term.warm_up_steps);
        Self {
            weight: self.weight * term.weight,
            warm_up_steps: inner.unwrap_or(self.warm_up_steps),
            turn_decay: term.turn_decay.or(self.turn_decay),
        }
    }
}

fn ensure(
    holds: bool,
    name: &'static str,
    field: &'static str,
    value: f32,
    requirement: &'static str,
) -> Result<(), RewardError> {
    let value = f64::from(value);
    if holds { Ok(()) } else { Err(RewardError::Setting { name, field, value, requirement }) }
}

#[cfg(test)]
mod tests {
    use zs_core::Question;

    use super::*;
    use crate::reward::testing::trajectory;

    fn sum(terms: &[(f32, RewardConfig)]) -> RewardConfig {
        let term = |(weight, reward): &(f32, RewardConfig)| RewardTerm {
            weight: *weight,
            reward: reward.clone(),
            warm_up_steps: 0,
            turn_decay: None,
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
        let score = reward.score(&question, &trajectory(&["<answer> in Paris </answer>"]));
        let components: Vec<_> =
            score.components.iter().map(|it| (it.name.as_str(), it.score)).collect();
        assert_eq!(components, [("f1", 2.0 / 3.0), ("exact_match", 0.0), ("format", 1.0)]);
        assert_eq!(score.total, 2.0 / 3.0 + 0.25);
        assert!(score.turns.is_empty());
    }

    #[test]
    fn every_outcome_scores_unanswered_episodes_zero() {
        let question = Question::new("q", "where?", ["Paris"]);
        let unanswered = [
            trajectory(&[]),
            trajectory(&["<search> Paris </search>"]),
            trajectory(&["Paris"]),
            trajectory(&["<answer> Paris </answer>", "<search> Paris </search>"]),
        ];
        let kinds = [
            RewardConfig::default(),
            RewardConfig::ExactMatch {},
            RewardConfig::CoverExactMatch {},
            RewardConfig::Format { require_think: false },
            RewardConfig::SearchR1 { structure: 0.2, final_answer: 0.1 },
        ];
        for (kind, trajectory) in
            kinds.iter().flat_map(|it| unanswered.iter().map(move |t| (it, t)))
        {
            let score = kind.build().unwrap().score(&question, trajectory);
            assert_eq!(score.total, 0.0, "{kind:?} {trajectory:?}");
        }
    }

    #[track_caller]
    fn check_refused(json: &str, expected: &str) {
        let message = match serde_json::from_str::<RewardConfig>(json) {
            Ok(config) => config.build().unwrap_err().to_string(),
            Err(error) => error.to_string(),
        };
        assert!(message.contains(expected), "{message}");
    }

    #[test]
    fn impossible_rewards_are_refused() {
        let f1 = RewardConfig::default;
        assert_eq!(sum(&[]).build().unwrap_err(), RewardError::Empty);
        let twice = sum(&[(1.0, f1()), (1.0, f1())]).build().unwrap_err();
        assert_eq!(twice, RewardError::Duplicate { name: "f1" });
        let infinite = sum(&[(f32::INFINITY, f1())]).build().unwrap_err();
        assert_eq!(infinite, RewardError::Weight { name: "f1", weight: f32::INFINITY });
        check_refused(
            r#"{"kind":"overlong","max_tokens":5,"cache_tokens":6}"#,
            "`cache_tokens` of reward `overlong` is 6",
        );
        check_refused(r#"{"kind":"search_r1","structure":2}"#, "`structure`");
        check_refused(r#"{"kind":"information_gain"}"#, "gold documents");
        check_refused(r#"{"kind":"rubric"}"#, "`judge`");
        for json in [r#"{"kind":"information_gain"}"#, r#"{"kind":"rubric"}"#] {
            serde_json::from_str::<RewardConfig>(json).unwrap().validate().unwrap();
        }
        assert!(sum(&[]).validate().is_err());
        let term = r#"{"weight":1,"reward":{"kind":"f1"},"turn_decay":{"base":1.5}}"#;
        let json = format!(r#"{{"kind":"sum","terms":[{term}]}}"#);
        check_refused(&json, "`turn_decay.base` of reward `f1` is 1.5");
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

    #[test]
    fn kinds_are_found_inside_of_sums() {
        let is_length = |it: &RewardConfig| matches!(it, RewardConfig::Length {});
        let nested = sum(&[(1.0, sum(&[(1.0, RewardConfig::Length {})]))]);
        assert!(nested.any(&is_length) && !RewardConfig::default().any(&is_length));
    }
}
