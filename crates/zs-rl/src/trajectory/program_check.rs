//! Entries of the audit log of program functions.

use serde::{Deserialize, Serialize};
use zs_core::Action;

/// One function that was asked about one action.
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

/// Outcome of asking a function about an action.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum ProgramOutcome {
    /// It had nothing to say.
    NotActivated,
    /// It was activated and did nothing.
    Noop,
    /// It rewrote the action.
    Modified {
        /// The action as the functions before left it.
        before: Action,
        /// The action that took its place.
        after: Action,
        /// Reason.
        reason: String,
    },
    /// It told the policy something.
    Injected {
        /// Text.
        text: String,
        /// Reason.
        reason: String,
    },
    /// It would have stepped in, but had done so as often as it may.
    RateLimited,
    /// Its text was dropped: an answer was rewritten anyway, had been sent back once
    /// already, or came in the last turn.
    Overridden,
    /// It failed, panicked, or asked for an action that cannot be carried out.
    Failed {
        /// Message of the failure.
        message: String,
    },
}
