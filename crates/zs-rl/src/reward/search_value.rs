//! Reward of searches by their causal effect on the answer.

use serde::{Deserialize, Serialize};
use zs_core::registry::Settings;

use super::{EpisodeView, Reward, RewardOutput};
use crate::trajectory::{ReplacedDocuments, search_values};

/// The value of each search, on the tokens of its turn.
///
/// ```text
/// r_k = f1(answer) - f1(answer | do(documents of search k = d))        r = sum_k r_k
/// ```
///
/// - `d`: `documents`; the counterfactual is played with the same draws of policy and environment
///
/// A search without a counterfactual (it failed, or already had such documents) has 0.
///
/// # Bias
///
/// The sum with an outcome reward has another optimum than the outcome reward alone: it is no potential
/// that cancels over an episode. It rewards an answer that *depends* on a search, also where the policy
/// could have answered without it (an episode of two searches that are both needed earns twice), and it
/// gives nothing to a search whose documents repeat what was read. A policy that answers worse without
/// documents earns more. Keep its weight small, or 0 to log it only.
///
/// # Cost
///
/// Each search is followed by one more end of its episode: the tokens are counted in
/// `counterfactual/tokens_sampled`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct SearchValueReward {
    /// Documents in place of those of the search.
    pub documents: ReplacedDocuments,
}

impl Settings for SearchValueReward {
    const KIND: &'static str = "search_value";
}

impl Reward for SearchValueReward {
    fn name(&self) -> &'static str {
        Self::KIND
    }

    fn counterfactual(&self) -> Option<ReplacedDocuments> {
        Some(self.documents)
    }

    fn score(&self, episode: &EpisodeView<'_>) -> RewardOutput {
        let golden_answers = &episode.question.golden_answers;
        let values = search_values(episode.answer(), episode.counterfactuals, golden_answers);
        let mut turns = vec![0.0; episode.turns.len()];
        for it in values.iter().filter(|it| it.documents == self.documents) {
            turns[it.turn] += it.value;
        }
        RewardOutput::by_turn(turns)
    }
}

#[cfg(test)]
mod tests {
    use zs_core::Question;

    use super::*;
    use crate::reward::testing::{build, trajectory};
    use crate::{Counterfactual, SearchesThatMattered};

    #[test]
    fn searches_earn_what_the_answer_would_have_lost() {
        let texts =
            ["<search> x </search>", "<search> y </search>", "<answer> the Beatles </answer>"];
        let mut trajectory = trajectory(&texts);
        let question = Question::new("q", "who?", ["the Beatles"]);
        let end = |turn, documents, answer: Option<&str>| Counterfactual {
            turn,
            documents,
            answer: answer.map(str::to_owned),
            tokens_sampled: 1,
        };
        trajectory.counterfactuals = vec![
            end(0, ReplacedDocuments::None, None),
            end(0, ReplacedDocuments::Noisy, Some("Beatles")),
            end(1, ReplacedDocuments::None, Some("Beatles band")),
        ];
        let score = |json| {
            let score = build(json).score(&question, &trajectory);
            (score.total, score.turns)
        };
        // F1 of "Beatles band" is 2/3.
        let (total, turns) = score(r#"{"kind":"search_value"}"#);
        assert_eq!((total, turns[0], turns[2]), (1.0 + turns[1], 1.0, 0.0));
        assert!((turns[1] - 1.0 / 3.0).abs() < 1e-6, "{turns:?}");
        let noisy = score(r#"{"kind":"search_value","documents":"noisy"}"#);
        assert_eq!(noisy, (0.0, vec![0.0; 3]));
        let reward = build(
            r#"{"kind":"sum","terms":[{"weight":1,"reward":{"kind":"f1"}},{"weight":0,"reward":{"kind":"search_value"}}]}"#,
        );
        assert_eq!(reward.counterfactuals(), [ReplacedDocuments::None]);
        assert_eq!(build(r#"{"kind":"f1"}"#).counterfactuals(), []);
        let counted = SearchesThatMattered::of(&trajectory, &question.golden_answers);
        assert_eq!(counted, SearchesThatMattered { num_valued: 2, num_mattered: 2 });
    }
}
