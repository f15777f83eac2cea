//! View of an episode that rewards read: the policy's text, its actions and those carried out, but
//! no observation and no document.

use std::borrow::Cow;

use zs_core::{Action, Question};

use crate::{Counterfactual, Trajectory, Turn};

/// A finished episode as rewards see it.
#[derive(Clone, Debug)]
pub struct EpisodeView<'a> {
    /// The question.
    pub question: &'a Question,
    /// The turns, in order.
    pub turns: Vec<TurnView<'a>>,
    /// True if the episode ended because the model's context was full.
    pub truncated: bool,
    /// True if the episode ended because the policy's token budget was spent.
    pub over_budget: bool,
    /// Ends of the episode with the documents of one search replaced: answers of the policy.
    pub counterfactuals: &'a [Counterfactual],
}

/// One turn as rewards see it.
#[derive(Clone, Debug)]
pub struct TurnView<'a> {
    /// Text of the turn, tags included: what the prompt holds of it
    /// ([`prefill`](Trajectory::prefill)) and what the policy wrote.
    pub text: Cow<'a, str>,
    /// The action that was carried out.
    pub action: &'a Action,
    /// Number of tokens that the policy wrote.
    pub num_tokens: usize,
    /// The search, where one was carried out.
    pub search: Option<SearchView<'a>>,
}

/// A search as rewards see it.
#[derive(Clone, Copy, Debug)]
pub struct SearchView<'a> {
    /// Query.
    pub query: &'a str,
    /// Number of documents returned.
    pub num_documents: usize,
    /// True if the engine failed.
    pub failed: bool,
}

impl<'a> EpisodeView<'a> {
    /// An episode without its observations.
    #[must_use]
    pub fn new(question: &'a Question, trajectory: &'a Trajectory) -> Self {
        let turn = |(index, turn): (usize, &'a Turn)| TurnView {
            text: trajectory.turn_text(index),
            action: &turn.action,
            num_tokens: trajectory.turn_tokens(index),
            search: turn.search.as_ref().map(|it| SearchView {
                query: &it.query,
                num_documents: it.documents.len(),
                failed: it.error.is_some(),
            }),
        };
        Self {
            question,
            turns: trajectory.turns.iter().enumerate().map(turn).collect(),
            truncated: trajectory.truncated,
            over_budget: trajectory.over_budget,
            counterfactuals: &trajectory.counterfactuals,
        }
    }

    /// The final answer; `None` when the episode ended without one.
    #[must_use]
    pub fn answer(&self) -> Option<&'a str> {
        match self.turns.last()?.action {
            Action::Answer(answer) => Some(answer),
            Action::Search(_) | Action::Invalid => None,
        }
    }

    /// The queries of the searches that were carried out, in order.
    pub fn queries(&self) -> impl Iterator<Item = &'a str> {
        self.turns.iter().filter_map(|it| it.search.map(|search| search.query))
    }

    /// Number of searches carried out.
    #[must_use]
    pub fn num_searches(&self) -> usize {
        self.queries().count()
    }

    /// Number of tokens that the policy wrote.
    #[must_use]
    pub fn num_tokens(&self) -> usize {
        self.turns.iter().map(|it| it.num_tokens).sum()
    }
}
