//! An episode as text: what rewards and metrics look at.

use serde::{Deserialize, Serialize};

use crate::Action;

/// One turn as text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TranscriptTurn {
    /// Text of the policy model, tags included.
    pub text: String,
    /// The action read from [`text`](Self::text).
    pub action: Action,
    /// Text that the environment appended, tags included; empty after an answer.
    pub observation: String,
}

/// Text of a whole episode, with the policy's own words kept apart from observations.
///
/// Rewards read the policy's text only, so a document that contains `<answer>` is never scored.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Transcript {
    /// The turns, in order.
    pub turns: Vec<TranscriptTurn>,
}

impl Transcript {
    /// The final answer; `None` when the episode ended without one.
    #[must_use]
    pub fn answer(&self) -> Option<&str> {
        match &self.turns.last()?.action {
            Action::Answer(answer) => Some(answer),
            Action::Search(_) | Action::Invalid => None,
        }
    }

    /// The queries of the searches that were carried out: every search followed by an observation.
    pub fn queries(&self) -> impl Iterator<Item = &str> {
        self.turns.iter().filter_map(|turn| match &turn.action {
            Action::Search(query) if !turn.observation.is_empty() => Some(query.as_str()),
            Action::Search(_) | Action::Answer(_) | Action::Invalid => None,
        })
    }

    /// Number of turns without a valid action.
    #[must_use]
    pub fn num_invalid(&self) -> usize {
        self.turns.iter().filter(|turn| turn.action == Action::Invalid).count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn turn(action: Action, observation: &str) -> TranscriptTurn {
        TranscriptTurn { text: String::new(), action, observation: observation.to_owned() }
    }

    #[test]
    fn only_a_final_answer_counts() {
        let search = turn(Action::Search("q".into()), "<information> </information>");
        let last_search = turn(Action::Search("r".into()), "");
        let answered = turn(Action::Answer("a".into()), "");
        let unanswered = Transcript { turns: vec![search.clone(), last_search] };
        assert_eq!(unanswered.answer(), None);
        assert_eq!(unanswered.queries().collect::<Vec<_>>(), ["q"]);
        let answered = Transcript { turns: vec![search, answered] };
        assert_eq!(answered.answer(), Some("a"));
        assert_eq!(Transcript::default().answer(), None);
    }
}
