//! The reward of Search-R1 v0.3: exact match with partial credit for the format.

use garde::Validate;
use serde::{Deserialize, Serialize};
use zs_core::registry::check;
use zs_core::{Action, exact_match};

use super::{EpisodeView, Reward, RewardOutput};

/// Exact match, with partial credit for a well-formed episode.
///
/// ```text
///                      well formed        not
/// answer is right      1                  1 - structure
/// answer is wrong      structure          final_answer
/// no answer            structure          0
/// ```
///
/// - `structure`: 0.2; `final_answer`: 0.1
/// - well formed: every turn is `<think>…</think>` and then one action tag pair with nothing but
///   white space around them, and the last is an answer
///
/// # Differences
///
/// The state machine there runs over the whole text, documents included, and needs Qwen's
/// `<|im_start|>assistant` marker; here each turn of the policy is looked at. An episode whose last
/// turn is no answer is not well formed, so that the lower left case has reward 0. Credit for a golden
/// answer among the documents (`retrieval`, 0 in the published runs) is a reward of its own,
/// [`RetrievalAnswer`](super::RetrievalAnswer).
///
/// # References
///
/// - [Search-R1](https://arxiv.org/abs/2503.09516), code v0.3, `qa_em_format.py`
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, Validate)]
#[serde(default)]
pub struct SearchR1 {
    /// Reward of a well-formed episode, and its deduction from a correct one that is not well
    /// formed.
    #[garde(custom(check::fraction))]
    pub structure: f32,
    /// Reward of a wrong answer in an episode that is not well formed.
    #[garde(custom(check::fraction))]
    pub final_answer: f32,
}

zs_core::settings!(SearchR1, "search_r1");

impl Default for SearchR1 {
    fn default() -> Self {
        Self { structure: 0.2, final_answer: 0.1 }
    }
}

impl Reward for SearchR1 {
    fn name(&self) -> &'static str {
        "search_r1"
    }

    fn score(&self, episode: &EpisodeView<'_>) -> RewardOutput {
        let Some(answer) = episode.answer() else { return RewardOutput::default() };
        let well_formed = episode
            .turns
            .iter()
            .all(|it| *it.action != Action::Invalid && is_well_formed(&it.text));
        let is_right = exact_match(answer, &episode.question.golden_answers);
        RewardOutput::from(match (is_right, well_formed) {
            (true, true) => 1.0,
            (true, false) => 1.0 - self.structure,
            (false, true) => self.structure,
            (false, false) => self.final_answer,
        })
    }
}

/// `<think>…</think>` and one action, with nothing but white space around them.
fn is_well_formed(text: &str) -> bool {
    let Some(rest) = text.trim().strip_prefix("<think>") else { return false };
    let Some((_, action)) = rest.split_once("</think>") else { return false };
    let action = action.trim();
    [("<search>", "</search>"), ("<answer>", "</answer>")].iter().any(|(opening, closing)| {
        let body = action.strip_prefix(opening).and_then(|it| it.strip_suffix(closing));
        body.is_some_and(|it| !it.contains('<') || !it.contains('>'))
    })
}

#[cfg(test)]
mod tests {
    use zs_core::Question;

    use super::*;
    use crate::reward::testing::score;

    const SEARCH: &str = "<think> a </think>\n<search> q </search>";
    const RIGHT: &str = "<think> b </think> <answer> Paris </answer>";
    const WRONG: &str = "<think> b </think> <answer> Rome </answer>";

    #[track_caller]
    fn check(texts: &[&str], expected: f32) {
        let question = Question::new("q", "?", ["Paris"]);
        assert_eq!(score(&SearchR1::default(), &question, texts), expected, "{texts:?}");
    }

    #[test]
    fn partial_credit_for_the_format() {
        check(&[SEARCH, RIGHT], 1.0);
        check(&[SEARCH, WRONG], 0.2);
        check(&["<answer> Paris </answer>"], 0.8);
        check(&["<think> b </think> so <answer> Paris </answer>"], 0.8);
        check(&["hm", RIGHT], 0.8);
        check(&["hm", WRONG], 0.1);
        check(&[SEARCH, "<think> b <answer> Rome </answer>"], 0.1);
        check(&["<think> b </think> <search> <answer> Rome </answer>"], 0.1);
        check(&[SEARCH, SEARCH], 0.0);
        check(&["Paris"], 0.0);
        check(&[], 0.0);
    }
}
