//! The audit log of program functions.

use serde::{Deserialize, Serialize};
use zs_core::Action;

/// One function that was asked about one action.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProgramCheck {
    /// The turn, from 0.
    pub turn: usize,
    /// [`ProgramFunction::id`](super::ProgramFunction::id).
    pub function: String,
    /// What came of it.
    pub outcome: ProgramOutcome,
}

/// What came of asking a function about an action.
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
        /// Why.
        reason: String,
    },
    /// It told the policy something.
    Injected {
        /// What.
        text: String,
        /// Why.
        reason: String,
    },
    /// It would have stepped in, but had done so as often as it may.
    RateLimited,
    /// What it had to say was dropped: an answer was rewritten anyway, had been sent back once
    /// already, or came in the last turn.
    Overridden,
    /// It failed, panicked, or asked for an action that cannot be carried out.
    Failed {
        /// What it said.
        message: String,
    },
}

/// Counts over audit logs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ProgramStats {
    /// Functions asked.
    pub num_checks: usize,
    /// Actions rewritten.
    pub num_modified: usize,
    /// Texts shown to the policy.
    pub num_injected: usize,
    /// Interventions that a cap stopped.
    pub num_rate_limited: usize,
    /// Functions that failed or panicked.
    pub num_failed: usize,
}

impl ProgramStats {
    /// Counts one check.
    pub fn add(&mut self, outcome: &ProgramOutcome) {
        self.num_checks += 1;
        match outcome {
            ProgramOutcome::Modified { .. } => self.num_modified += 1,
            ProgramOutcome::Injected { .. } => self.num_injected += 1,
            ProgramOutcome::RateLimited => self.num_rate_limited += 1,
            ProgramOutcome::Failed { .. } => self.num_failed += 1,
            ProgramOutcome::NotActivated | ProgramOutcome::Noop | ProgramOutcome::Overridden => {}
        }
    }
}
