//! F1 that scores an episode without an answer as if it had given a fixed one: reproduces a defect
//! of the reference code, to measure its effect.

use serde::{Deserialize, Serialize};
use zs_core::registry::Settings;
use zs_core::{YesNoRule, f1};

use super::{EpisodeView, Reward, RewardOutput};

/// [`F1`](super::F1) of the final answer, or of a fixed text where there is none.
///
/// The reference code looks for answers in the prompt too, whose example is then taken for a
/// missing one: an episode that never answers has the reward of "Beijing".
///
/// # References
///
/// - ZeroSearch reference code, `qa_em.py` 106-117
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DefaultAnswer {
    /// Text that stands for a missing answer.
    pub answer: String,
}

impl Settings for DefaultAnswer {
    const KIND: &'static str = "default_answer";
}

impl Reward for DefaultAnswer {
    fn name(&self) -> &'static str {
        "default_answer"
    }

    fn score(&self, episode: &EpisodeView<'_>) -> RewardOutput {
        let answer = episode.answer().unwrap_or(&self.answer);
        RewardOutput::from(f1(answer, &episode.question.golden_answers, YesNoRule::Ignore) as f32)
    }
}

#[cfg(test)]
mod tests {
    use zs_core::Question;

    use super::*;
    use crate::reward::testing::score;

    #[test]
    fn a_missing_answer_is_the_fixed_one() {
        let reward = DefaultAnswer { answer: "Beijing".to_owned() };
        let check = |golden: &str, texts: &[&str], expected| {
            let question = Question::new("q", "?", [golden]);
            assert_eq!(score(&reward, &question, texts), expected, "{texts:?}");
        };
        check("Beijing", &["<search>q</search>"], 1.0);
        check("Beijing", &["<answer>Paris</answer>"], 0.0);
        check("Paris", &["<answer>Paris</answer>"], 1.0);
        check("Paris", &["I do not know."], 0.0);
    }
}
