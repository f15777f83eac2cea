//! A weighted sum of rewards, as run files give it.

use garde::Validate;
use serde::{Deserialize, Serialize};
use zs_core::registry::{BoxedError, Settings, SettingsError, Spec};

use super::{RewardError, RewardFunction, RewardRegistry, RewardResources, TurnDecay};

/// Settings of a weighted sum of rewards.
///
/// ```toml
/// kind = "sum"
/// terms = [
///     { weight = 1.0, reward = { kind = "f1" } },
///     { weight = 0.1, reward = { kind = "redundancy" } },
///     { weight = 0.2, reward = { kind = "length" }, warm_up_steps = 50 },
/// ]
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Validate)]
pub struct RewardSum {
    /// Terms; sums inside are flattened.
    #[garde(dive, custom(not_empty))]
    pub terms: Vec<RewardTerm>,
}

/// One term of a weighted sum.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Validate)]
pub struct RewardTerm {
    /// Weight.
    #[garde(custom(finite))]
    pub weight: f32,
    /// Reward.
    #[garde(skip)]
    pub reward: Spec,
    /// Training steps over which the weight grows to its full size; 0 starts with it.
    #[serde(default)]
    #[garde(skip)]
    pub warm_up_steps: usize,
    /// Decay in long episodes; none by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[garde(dive)]
    pub turn_decay: Option<TurnDecay>,
}

fn not_empty(terms: &[RewardTerm], (): &()) -> garde::Result {
    match terms {
        [] => Err(garde::Error::new("hold at least one term")),
        _ => Ok(()),
    }
}

fn finite(weight: &f32, (): &()) -> garde::Result {
    match weight.is_finite() {
        true => Ok(()),
        false => Err(garde::Error::new(format!("be finite, is {weight}"))),
    }
}

impl Settings for RewardSum {
    const KIND: &'static str = "sum";

    fn check(&self) -> Result<(), SettingsError> {
        Ok(self.validate()?)
    }

    fn nested(&self) -> Vec<String> {
        (0..self.terms.len()).map(|index| format!("terms.{index}.reward")).collect()
    }
}

impl RewardSum {
    pub(super) fn build(
        &self,
        resources: &RewardResources,
        registry: &RewardRegistry,
    ) -> Result<RewardFunction, BoxedError> {
        let mut sum = RewardFunction::default();
        for term in &self.terms {
            let inner = registry.build(&term.reward, resources)?;
            sum.extend(inner, term.weight, term.warm_up_steps, term.turn_decay);
        }
        match sum.duplicate() {
            Some(name) => Err(RewardError::Duplicate { name }.into()),
            None => Ok(sum),
        }
    }
}

#[cfg(test)]
mod tests {
    use zs_core::Question;

    use super::*;
    use crate::reward::testing::{build, trajectory};
    use crate::reward::{builtin, needs};

    #[test]
    fn sums_keep_their_components() {
        let reward = build(
            r#"{"kind":"sum","terms":[
                {"weight":1.0,"reward":{"kind":"f1"}},
                {"weight":2.0,"reward":{"kind":"sum","terms":[
                    {"weight":0.5,"reward":{"kind":"exact_match"}}]}},
                {"weight":0.25,"reward":{"kind":"format"}}]}"#,
        );
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
        for kind in ["f1", "exact_match", "cover_exact_match", "format", "search_r1"] {
            let reward = build(&format!(r#"{{"kind":"{kind}"}}"#));
            for trajectory in &unanswered {
                let score = reward.score(&question, trajectory);
                assert_eq!(score.total, 0.0, "{kind} {trajectory:?}");
            }
        }
    }

    #[track_caller]
    fn check_refused(json: &str, expected: &str) {
        let spec: Spec = serde_json::from_str(json).unwrap();
        let error = builtin().build(&spec, &RewardResources::default()).unwrap_err();
        let source = std::error::Error::source(&error).map(ToString::to_string);
        let message = format!("{error}: {}", source.unwrap_or_default());
        assert!(message.contains(expected), "{message}");
    }

    #[test]
    fn impossible_rewards_are_refused() {
        check_refused(r#"{"kind":"sum","terms":[]}"#, "`terms` of reward `sum` must hold");
        let sum = |terms: &str| format!(r#"{{"kind":"sum","terms":[{terms}]}}"#);
        let f1 = r#"{"weight":1,"reward":{"kind":"f1"}}"#;
        check_refused(&sum(&format!("{f1},{f1}")), "reward term `f1` occurs twice");
        check_refused(
            r#"{"kind":"overlong","max_tokens":5,"cache_tokens":6}"#,
            "`cache_tokens` of reward `overlong` must be at most `max_tokens`, is 6",
        );
        check_refused(r#"{"kind":"search_r1","structure":2}"#, "`structure`");
        check_refused(r#"{"kind":"information_gain"}"#, "gold documents");
        check_refused(r#"{"kind":"rubric"}"#, "`judge`");
        let decayed = r#"{"weight":1,"reward":{"kind":"f1"},"turn_decay":{"base":1.5}}"#;
        check_refused(&sum(decayed), "`terms[0].turn_decay.base` of reward `sum`");
        check_refused(r#"{"kind":"f1","rule":"strict"}"#, "unknown setting `rule` of reward `f1`");
        check_refused(r#"{"kind":"exact_match","yes_no":"strict"}"#, "which has no settings");
        check_refused(r#"{"kind":"bleu"}"#, "unknown reward `bleu`");
    }

    #[test]
    fn needs_are_found_inside_of_sums() {
        let inner = |kind: &str| {
            let inner = format!(r#"{{"kind":"sum","terms":[{{"weight":1,"reward":{kind}}}]}}"#);
            let json = format!(r#"{{"kind":"sum","terms":[{{"weight":1,"reward":{inner}}}]}}"#);
            let needs = needs(&builtin(), &serde_json::from_str(&json).unwrap()).unwrap();
            (needs.corpus, needs.judge)
        };
        assert_eq!(inner(r#"{"kind":"f1"}"#), (false, false));
        assert_eq!(inner(r#"{"kind":"information_gain"}"#), (true, false));
        assert_eq!(inner(r#"{"kind":"rubric"}"#), (false, true));
    }
}
