//! Errors of demonstrations.

use crate::rollout::RolloutError;

/// Reason that an episode cannot be imitated. Turns count from 1.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DemonstrationError {
    /// An episode without turns.
    #[error("the episode has no turns")]
    NoTurns,
    /// A tag that is not closed, never opened, or not for the policy to write.
    #[error("turn {turn}: `{tag}` is unmatched or out of place")]
    StrayTag {
        /// Turn.
        turn: usize,
        /// Tag.
        tag: &'static str,
    },
    /// A turn without an action.
    #[error("turn {turn} holds neither `<search> query </search>` nor `<answer> answer </answer>`")]
    NoAction {
        /// Turn.
        turn: usize,
    },
    /// A turn with text after its action.
    #[error("turn {turn} has text after its closing tag, where sampling stops")]
    GoesOn {
        /// Turn.
        turn: usize,
    },
    /// A turn after the answer.
    #[error("turn {turn} comes after the answer")]
    AfterAnswer {
        /// Turn.
        turn: usize,
    },
    /// Documents of a turn that does not search.
    #[error("turn {turn} has the result of a search and does not search")]
    ResultWithoutSearch {
        /// Turn.
        turn: usize,
    },
    /// An episode that ends with a search.
    #[error("the episode ends with a search and has no answer")]
    Unanswered,
    /// More searches than a rollout allows.
    #[error("the episode has {searches} searches, more than `max_searches` = {limit}")]
    TooManySearches {
        /// Searches.
        searches: usize,
        /// Accepted searches.
        limit: usize,
    },
    /// A turn of more tokens than a rollout samples.
    #[error("turn {turn} has more tokens than `max_new_tokens` = {limit}")]
    TurnTooLong {
        /// Turn.
        turn: usize,
        /// Accepted tokens.
        limit: usize,
    },
    /// An episode that the model's context does not hold.
    #[error(
        "the model's context of {context_length} tokens is full after turn {turn}; show fewer \
         documents (`num_documents`, `max_observation_tokens`)"
    )]
    TooLong {
        /// Last turn that was begun.
        turn: usize,
        /// Tokens of the context.
        context_length: usize,
    },
    /// An episode that spends the token budget before its answer.
    #[error("turn {turn} exceeds `token_budget`")]
    OverBudget {
        /// Turn.
        turn: usize,
    },
    /// A turn whose action is another one once it is encoded, or that a program function rewrites.
    #[error(
        "turn {turn}: its action is not the one that the rollout reads; compare the tokenizer's \
         decoded text, and the program functions"
    )]
    Changed {
        /// Turn.
        turn: usize,
    },
    /// An episode that cannot begin.
    #[error(transparent)]
    Rollout(#[from] RolloutError),
}
