//! Format rewards: compliance of an episode with the tags of the prompt.

use serde::{Deserialize, Serialize};
use zs_core::Action;
use zs_core::registry::Settings;

use super::{EpisodeView, Reward, RewardOutput, TurnView};

/// 1 when the episode ends with an answer and every turn is well formed, else 0.
///
/// A turn is well formed when it holds exactly one action tag pair (`<search>…</search>` or
/// `<answer>…</answer>`) and ends with it. ZeroSearch uses no format reward; it is meant as a small
/// term of a sum for base models that leave the format.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Format {
    /// Each turn must also open with a closed `<think>` block.
    pub require_think: bool,
}

impl Settings for Format {
    const KIND: &'static str = "format";
}

impl Reward for Format {
    fn name(&self) -> &'static str {
        "format"
    }

    fn score(&self, episode: &EpisodeView<'_>) -> RewardOutput {
        let is_turn_well_formed =
            |it: &TurnView<'_>| *it.action != Action::Invalid && self.is_well_formed(&it.text);
        RewardOutput::from(
            episode.answer().is_some() && episode.turns.iter().all(is_turn_well_formed),
        )
    }
}

impl Format {
    /// Returns true if one turn, as the policy wrote it, is well formed.
    #[must_use]
    pub fn is_well_formed(self, text: &str) -> bool {
        let text = text.trim();
        let action = match (self.require_think, text.strip_prefix("<think>")) {
            (true, None) => return false,
            (true, Some(rest)) => match rest.split_once("</think>") {
                None => return false,
                Some((_, action)) => action,
            },
            (false, _) => text,
        };
        let count =
            |tags: [&str; 2]| tags.map(|it| action.matches(it).count()).iter().sum::<usize>();
        count(["<search>", "<answer>"]) == 1
            && count(["</search>", "</answer>"]) == 1
            && (action.ends_with("</search>") || action.ends_with("</answer>"))
    }
}

#[cfg(test)]
mod tests {
    use zs_core::Question;

    use super::*;
    use crate::reward::testing::score;

    #[track_caller]
    fn check(texts: &[&str], plain: bool, with_think: bool) {
        let question = Question::new("q", "?", ["Paris"]);
        for (require_think, expected) in [(false, plain), (true, with_think)] {
            let score = score(&Format { require_think }, &question, texts);
            assert_eq!(score, f32::from(u8::from(expected)), "{texts:?} {require_think}");
        }
    }

    #[test]
    fn one_action_a_turn() {
        const ANSWER: &str = "<think> b </think> <answer> p </answer>";
        check(&[ANSWER], true, true);
        check(&["<think> a </think> <search> q </search>\n", ANSWER], true, true);
        check(&["<search> q </search>", ANSWER], true, false);
        check(&["<answer> p </answer>"], true, false);
        check(&["<think> a", ANSWER], false, false);
        check(&["<search> a <search> q </search>", ANSWER], false, false);
        check(&["<answer> p </answer> and more"], false, false);
    }
}
