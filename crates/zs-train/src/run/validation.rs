//! Greedy answers to questions that are neither trained on nor reported: what checkpoints are
//! chosen by.

use anyhow::{Context, Result};
use zs_core::{Question, SearchEngine};
use zs_eval::{EvalConfig, EvaluationReport, evaluate};
use zs_model::{LanguageModel, SaveError};
use zs_rl::RolloutConfig;

use super::Metrics;
use crate::files::RunDir;

/// Questions and an engine to choose checkpoints by.
#[derive(Clone, Copy, Debug)]
pub struct Validation<'a> {
    /// The questions.
    pub questions: &'a [Question],
    /// The engine.
    pub engine: &'a dyn SearchEngine,
    /// Another engine to put the same questions to, for the logs alone.
    pub beside: Option<&'a dyn SearchEngine>,
}

impl Validation<'_> {
    /// Greedy scores of a policy.
    ///
    /// # Errors
    ///
    /// Fails where the rollout fails.
    pub(crate) fn run(
        &self,
        policy: &LanguageModel,
        rollout: &RolloutConfig,
        batch_size: usize,
        seed: u64,
    ) -> Result<EvaluationReport> {
        self.ask(self.engine, policy, rollout, batch_size, seed)
    }

    /// Exact match with the other engine, where there is one.
    ///
    /// # Errors
    ///
    /// Fails where the rollout fails.
    pub(crate) fn run_beside(
        &self,
        policy: &LanguageModel,
        rollout: &RolloutConfig,
        batch_size: usize,
        seed: u64,
    ) -> Result<Option<f64>> {
        let Some(engine) = self.beside else { return Ok(None) };
        let report = self.ask(engine, policy, rollout, batch_size, seed)?;
        Ok(Some(report.overall.exact_match.mean))
    }

    fn ask(
        &self,
        engine: &dyn SearchEngine,
        policy: &LanguageModel,
        rollout: &RolloutConfig,
        batch_size: usize,
        seed: u64,
    ) -> Result<EvaluationReport> {
        let rollout = RolloutConfig { temperature: 0.0, ..rollout.clone() };
        let config = EvalConfig { rollout, batch_size, seed, noise_probability: 0.0 };
        let evaluation = evaluate(policy, engine, self.questions, &config, &mut |_| {});
        Ok(evaluation.context("validation")?.report)
    }
}

/// The metric of [`Validation::beside`].
pub(crate) const BESIDE: &str = "validation/exact_match_beside";

/// Puts a validation report into the metrics of its step.
pub(crate) fn log(report: &EvaluationReport, metrics: &mut Metrics) {
    metrics.set("validation/exact_match", report.overall.exact_match.mean);
    metrics.set("validation/f1", report.overall.f1.mean);
    metrics.set("validation/num_searches", report.overall.num_searches.mean);
    for (hops, summary) in &report.by_hops {
        metrics.set(format!("validation/exact_match_{hops}_hop"), summary.exact_match.mean);
    }
}

/// The best checkpoint so far; among equals, the earliest.
#[derive(Debug)]
pub(crate) struct Best {
    pub(crate) step: usize,
    pub(crate) exact_match: Option<f64>,
    pub(crate) policy: LanguageModel,
}

impl Best {
    /// Begins with the untrained policy, scored or not.
    pub(crate) fn new(policy: &LanguageModel, exact_match: Option<f64>) -> Self {
        Self { step: 0, exact_match, policy: policy.clone() }
    }

    /// Takes `policy` if it scores higher, or if nothing is scored.
    pub(crate) fn consider(
        &mut self,
        step: usize,
        policy: &LanguageModel,
        exact_match: Option<f64>,
    ) {
        if exact_match > self.exact_match || exact_match.is_none() {
            *self = Self { step, exact_match, policy: policy.clone() };
        }
    }

    pub(crate) fn save(&self, run: &RunDir) -> Result<(), SaveError> {
        self.policy.save(&run.join("checkpoints/best"))
    }
}
