//! Faults that end a training run.

use std::error::Error;

use zs_core::SearchEngine;
use zs_model::GenerateError;
use zs_rl::SkippedStep;

use super::collect::Collected;
use crate::TrainError;
use crate::config::FaultPolicy;
use crate::metrics::Metrics;

/// The metric that counts optimiser steps which were not taken.
const SKIPPED: &str = "actor/num_skipped_steps";

/// Refuses to learn from a step in which too many searches failed.
///
/// # Errors
///
/// Fails above the policy's limit, unless the engine's budget is spent: that ends a run without an
/// error.
pub(super) fn check_searches(
    collected: &Collected,
    engine: &dyn SearchEngine,
    policy: FaultPolicy,
) -> Result<(), TrainError> {
    let all = || [Some(collected.stats), collected.of_branches].into_iter().flatten();
    let failed: usize = all().map(|it| it.num_search_errors).sum();
    let searches: usize = all().map(|it| it.num_searches).sum();
    let limit = policy.max_failure_rate;
    let is_bearable = failed as f64 <= limit * searches as f64;
    if (is_bearable && !collected.groups.is_empty()) || engine.exhausted().is_some() {
        return Ok(());
    }
    let first = collected.first_error.clone().unwrap_or_else(|| "no reason was given".to_owned());
    Err(TrainError::FailedSearches { failed, searches, limit, first })
}

/// First of the skipped steps that a run is at; `None` where the last step was not skipped.
pub(super) fn skipped_since(history: &[Metrics]) -> Option<usize> {
    let skipped = history.iter().rev().take_while(|it| it.get(SKIPPED).is_some());
    skipped.last().and_then(Metrics::step)
}

/// Returns true if a step failed since the policy's logits are not finite.
pub(super) fn is_not_finite(error: &TrainError) -> bool {
    let mut cause: Option<&(dyn Error + 'static)> = Some(error);
    while let Some(it) = cause {
        if let Some(GenerateError::NotFinite { .. }) = it.downcast_ref() {
            return true;
        }
        cause = it.source();
    }
    false
}

/// Ends a run in which too many steps in a row were skipped.
///
/// # Errors
///
/// Fails when the last `max_skipped_steps` steps were.
pub(super) fn check_skipped(
    skipped: &[SkippedStep],
    history: &[Metrics],
    policy: FaultPolicy,
) -> Result<(), TrainError> {
    let Some(&SkippedStep { metric, value, .. }) = skipped.first() else { return Ok(()) };
    let steps = history.iter().rev().take_while(|it| it.get(SKIPPED).is_some()).count();
    if steps < policy.max_skipped_steps {
        return Ok(());
    }
    Err(TrainError::SkippedSteps { metric, value, steps })
}
