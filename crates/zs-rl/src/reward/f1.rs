//! Word-overlap F1 of the final answer: the reward of ZeroSearch.

use serde::{Deserialize, Serialize};
use zs_core::registry::Settings;
use zs_core::{YesNoRule, f1};

use super::{EpisodeView, Reward, RewardOutput};

/// Word-overlap F1 between the final answer and the best golden answer.
///
/// ```text
/// r = 2 * IN / (PN + RN)
/// ```
///
/// Symbols as in [`zs_core::f1`]. Chosen over exact match by the paper because exact match taught
/// policies to write over-long answers (there, "exact match" was containment).
///
/// # References
///
/// - [ZeroSearch](https://arxiv.org/abs/2505.04588), section 3.5
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct F1 {
    /// Rule for the case that one side is `yes`, `no` or `noanswer`.
    pub yes_no: YesNoRule,
}

impl Settings for F1 {
    const KIND: &'static str = "f1";
}

impl Reward for F1 {
    fn name(&self) -> &'static str {
        match self.yes_no {
            YesNoRule::Ignore => "f1",
            YesNoRule::Strict => "f1_strict",
        }
    }

    fn score(&self, episode: &EpisodeView<'_>) -> RewardOutput {
        let of_answer = |it: &str| f1(it, &episode.question.golden_answers, self.yes_no) as f32;
        RewardOutput::from(episode.answer().map_or(0.0, of_answer))
    }
}

#[cfg(test)]
mod tests {
    use zs_core::Question;

    use super::*;
    use crate::reward::testing::score;

    #[track_caller]
    fn check(golden: &str, texts: &[&str], yes_no: YesNoRule, expected: f32) {
        let question = Question::new("q", "?", [golden]);
        assert_eq!(score(&F1 { yes_no }, &question, texts), expected, "{texts:?}");
    }

    #[test]
    fn scores_the_final_answer() {
        let (ignore, strict) = (YesNoRule::Ignore, YesNoRule::Strict);
        check("Paris", &["<answer>Paris</answer>"], ignore, 1.0);
        check("Paris", &["<search>q</search>", "<answer>in Paris</answer>"], ignore, 2.0 / 3.0);
        check("Paris", &["<answer></answer>"], ignore, 0.0);
        check("yes", &["<answer>yes it is</answer>"], ignore, 0.5);
        check("yes", &["<answer>yes it is</answer>"], strict, 0.0);
    }
}
