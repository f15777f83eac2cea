//! Token budget of the policy in an episode.

use serde::{Deserialize, Serialize};
use zs_core::Question;

/// Tokens that the policy may write in an episode, by the kind of task.
///
/// What is written beyond it is cut off and the episode ends there, marked
/// [`over_budget`](crate::Trajectory::over_budget); the reward `over_budget` puts a price on that.
/// Kimi K2 gives each kind of task its budget and does not publish any; kinds of tasks are hop counts
/// here.
///
/// ```toml
/// token_budget = { tokens = 512, by_hops = [128, 256] }
/// ```
///
/// # References
///
/// - [Kimi K2](https://arxiv.org/abs/2507.20534), section 3.2.3
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TokenBudget {
    /// For questions that do not say their hops, or more than listed.
    pub tokens: usize,
    /// For questions of one hop, two hops, and so on.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub by_hops: Vec<usize>,
}

impl TokenBudget {
    /// The budget of a question.
    #[must_use]
    pub fn of(&self, question: &Question) -> usize {
        let index = question.hops.and_then(|it| usize::from(it).checked_sub(1));
        index.and_then(|it| self.by_hops.get(it).copied()).unwrap_or(self.tokens)
    }

    pub(super) fn is_valid(&self) -> bool {
        self.tokens > 0 && self.by_hops.iter().all(|it| *it > 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hops_say_the_kind_of_task() {
        let budget = TokenBudget { tokens: 9, by_hops: vec![3, 5] };
        let of = |hops| budget.of(&Question { hops, ..Question::new("q", "?", ["a"]) });
        let expected = [(None, 9), (Some(0), 9), (Some(1), 3), (Some(2), 5), (Some(3), 9)];
        for (hops, tokens) in expected {
            assert_eq!(of(hops), tokens, "{hops:?}");
        }
        assert!(!TokenBudget { tokens: 1, by_hops: vec![0] }.is_valid());
    }
}
