//! Counts over the audit log of program functions.

use serde::{Deserialize, Serialize};

use super::ProgramOutcome;

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
