//! Statistics of a rollout.

use serde::{Deserialize, Serialize};
use zs_core::{Action, DocumentQuality, MALFORMED_REPLY};

use super::copying::CopiedWords;
use crate::Trajectory;
use crate::program::ProgramStats;

/// Counts over the trajectories of a rollout, all derived from their turns; those that a continuation
/// [shares](crate::BranchOrigin) are not counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RolloutStats {
    /// Episodes.
    pub num_trajectories: usize,
    /// Turns of the policy.
    pub num_turns: usize,
    /// Searches that were carried out.
    pub num_searches: usize,
    /// Searches among them that requested noisy documents.
    pub num_noisy: usize,
    /// Searches among them that failed.
    pub num_search_errors: usize,
    /// Failed searches whose simulation LLM's reply had no document.
    #[serde(default)]
    pub num_malformed: usize,
    /// Searches that were not carried out: in the last turn, or with a full context.
    pub num_refused_searches: usize,
    /// Turns without a valid action.
    pub num_invalid: usize,
    /// Episodes that ended with an answer.
    pub num_answered: usize,
    /// Episodes that ended because the context was full.
    pub num_truncated: usize,
    /// Tokens that the policy wrote.
    pub tokens_sampled: usize,
    /// Tokens that the environment appended.
    pub tokens_observed: usize,
    /// Episodes that ended because their token budget was spent.
    #[serde(default)]
    pub num_over_budget: usize,
    /// Words that the policy wrote after it had been shown documents.
    #[serde(default)]
    pub words_after_documents: usize,
    /// Words among them that are copied from the documents in passages of eight words or more.
    #[serde(default)]
    pub words_copied: usize,
    /// Requests to helper models.
    #[serde(default)]
    pub num_consults: usize,
    /// Failed requests among them.
    #[serde(default)]
    pub num_consult_errors: usize,
    /// Requests to helper models that were refused because the budget was spent.
    #[serde(default)]
    pub num_refused_consults: usize,
    /// Tokens that helper models wrote.
    #[serde(default)]
    pub tokens_consulted: usize,
    /// Counts of program functions.
    #[serde(default)]
    pub programs: ProgramStats,
}

impl RolloutStats {
    /// The counts of some trajectories.
    #[must_use]
    pub fn of(trajectories: &[Trajectory]) -> Self {
        let mut stats = Self { num_trajectories: trajectories.len(), ..Self::default() };
        for trajectory in trajectories {
            let first = trajectory.num_shared_turns();
            stats.num_truncated += usize::from(trajectory.truncated);
            stats.num_turns += trajectory.turns.len() - first;
            let last = trajectory.turns.last();
            stats.num_answered +=
                usize::from(last.is_some_and(|it| matches!(it.action, Action::Answer(_))));
            stats.num_over_budget += usize::from(trajectory.over_budget);
            let CopiedWords { written, copied } = CopiedWords::of(trajectory);
            stats.words_after_documents += written;
            stats.words_copied += copied;
            stats.num_refused_consults += trajectory.refused_consults as usize;
            for consult in trajectory.consults.iter().filter(|it| it.turn >= first) {
                stats.num_consults += 1;
                stats.num_consult_errors += usize::from(consult.error.is_some());
                stats.tokens_sampled += consult.completion.tokens.len();
                match consult.error {
                    None => stats.tokens_consulted += consult.reply.len(),
                    Some(_) => stats.tokens_observed += consult.reply.len(),
                }
            }
            let checks = trajectory.programs.iter().filter(|it| it.turn >= first);
            checks.for_each(|it| stats.programs.add(&it.outcome));
            for turn in &trajectory.turns[first..] {
                stats.tokens_sampled += turn.completion.tokens.len();
                stats.tokens_observed += turn.observation.len();
                match (&turn.action, &turn.search) {
                    (_, Some(search)) => {
                        stats.num_searches += 1;
                        stats.num_noisy += usize::from(search.quality == DocumentQuality::Noisy);
                        stats.num_search_errors += usize::from(search.error.is_some());
                        let error = search.error.as_deref().unwrap_or_default();
                        stats.num_malformed += usize::from(error.starts_with(MALFORMED_REPLY));
                    }
                    (Action::Search(_), None) => stats.num_refused_searches += 1,
                    (Action::Invalid, None) => stats.num_invalid += 1,
                    (Action::Answer(_), None) => {}
                }
            }
        }
        stats
    }

    /// The counts as metrics: means over episodes, and fractions.
    ///
    /// Fractions with a denominator of 0 are 0. Metrics of helper models, program functions and
    /// token budgets are left out of a rollout that has none of them.
    #[must_use]
    pub fn metrics(&self) -> Vec<(&'static str, f64)> {
        let ratio = |count: usize, of: usize| count as f64 / of.max(1) as f64;
        let an_episode = |count| ratio(count, self.num_trajectories);
        let mut metrics = vec![
            ("rollout/num_turns", an_episode(self.num_turns)),
            ("rollout/num_searches", an_episode(self.num_searches)),
            ("rollout/finish_ratio", an_episode(self.num_answered)),
            ("rollout/truncated_frac", an_episode(self.num_truncated)),
            ("rollout/invalid_frac", ratio(self.num_invalid, self.num_turns)),
            ("rollout/document_copy_frac", ratio(self.words_copied, self.words_after_documents)),
            ("rollout/tokens_sampled", an_episode(self.tokens_sampled)),
            ("rollout/tokens_observed", an_episode(self.tokens_observed)),
            ("search/num_searches", self.num_searches as f64),
            ("search/num_refused", self.num_refused_searches as f64),
            ("search/noisy_frac", ratio(self.num_noisy, self.num_searches)),
            ("search/error_frac", ratio(self.num_search_errors, self.num_searches)),
            ("search/malformed_frac", ratio(self.num_malformed, self.num_searches)),
        ];
        if self.num_over_budget > 0 {
            metrics.push(("rollout/over_budget_frac", an_episode(self.num_over_budget)));
        }
        if self.num_consults + self.num_refused_consults > 0 {
            metrics.extend([
                ("consult/num_consults", an_episode(self.num_consults)),
                ("consult/num_refused", an_episode(self.num_refused_consults)),
                ("consult/error_frac", ratio(self.num_consult_errors, self.num_consults)),
                ("consult/tokens", an_episode(self.tokens_consulted)),
            ]);
        }
        if self.programs.num_checks > 0 {
            metrics.extend([
                ("program/num_modified", an_episode(self.programs.num_modified)),
                ("program/num_injected", an_episode(self.programs.num_injected)),
                ("program/num_rate_limited", an_episode(self.programs.num_rate_limited)),
                ("program/failed_frac", ratio(self.programs.num_failed, self.programs.num_checks)),
            ]);
        }
        metrics
    }
}
