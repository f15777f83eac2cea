//! Entries of the audit log of program functions.

use serde::{Deserialize, Serialize};
use zs_core::Action;

/// Outcome of one program function on one action.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProgramCheck {
    /// The turn, from 0.
    pub turn: usize,
    /// [`ProgramFunction::id`](crate::program::ProgramFunction::id).
    pub function: String,
    /// Outcome.
    pub outcome: ProgramOutcome,
}

/// Outcome of a program function on an action.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum ProgramOutcome {
    /// The function was not activated.
    NotActivated,
    /// The function was activated and did not intervene.
    Noop,
    /// The function rewrote the action.
    Modified {
        /// The action as the functions before left it.
        before: Action,
        /// The action that took its place.
        after: Action,
        /// Reason.
        reason: String,
    },
    /// The function injected a text for the policy.
    Injected {
        /// Text.
        text: String,
        /// Reason.
        reason: String,
    },
    /// The function was activated after it had reached its limit of interventions.
    RateLimited,
    /// The injected text was dropped: the answer was rewritten anyway, had been sent back once
    /// already, or came in the last turn.
    Overridden,
    /// The function failed, panicked, or returned an action that cannot be carried out.
    Failed {
        /// Message of the failure.
        message: String,
    },
}
