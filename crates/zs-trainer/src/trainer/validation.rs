//! Validation: greedy answers to questions that are neither trained on nor reported, by which
//! checkpoints are chosen.

use std::sync::Arc;

use zs_core::{Question, SearchEngine};
use zs_eval::{EvalConfig, EvaluateError, EvaluationReport, Evaluator, Protocol};
use zs_model::{Generator, LanguageModel, SaveError};
use zs_rl::RolloutConfig;

use super::Trainer;
use crate::config::ValidationMetric;
use crate::files::RunDir;
use crate::metrics::Metrics;

/// Questions and an engine to choose checkpoints by.
#[derive(Clone, Debug)]
pub struct Validation {
    /// The questions.
    pub questions: Arc<[Question]>,
    /// The engine.
    pub engine: Arc<dyn SearchEngine>,
    /// A second engine to compare with: the one of training, where that is another one.
    pub training_engine: Option<Arc<dyn SearchEngine>>,
    /// Metric by which the best checkpoint is chosen.
    pub choose_by: ValidationMetric,
}

impl Validation {
    /// Scores a policy greedily and adds the scores to the metrics. Returns the score by which
    /// checkpoints are chosen.
    ///
    /// # Errors
    ///
    /// Fails where the rollout fails.
    pub(crate) fn run(
        &self,
        trainer: &Trainer,
        policy: &dyn Generator,
        metrics: &mut Metrics,
    ) -> Result<f64, EvaluateError> {
        let Trainer { config, harness, seed, .. } = trainer;
        let rollout = RolloutConfig { temperature: 0.0, ..config.rollout.clone() };
        let batch_size = config.schedule.eval_batch_size;
        let config = EvalConfig { rollout, batch_size, seed: *seed, noise_probability: 0.0 };
        let protocol = Protocol::strict();
        let score = |engine: &dyn SearchEngine| {
            let evaluator = Evaluator {
                harness: Some(harness),
                ..Evaluator::new(policy, engine, &config, &protocol)
            };
            Ok::<_, EvaluateError>(evaluator.evaluate(&self.questions, &mut |_| {})?.report)
        };
        let report = score(self.engine.as_ref())?;
        let exact_match = report.overall.exact_match.mean;
        log(&report, metrics);
        if let Some(engine) = &self.training_engine {
            let simulated = score(engine.as_ref())?.overall.exact_match.mean;
            metrics.set("validation/training_engine_exact_match", simulated);
            metrics.set("validation/sim_to_real_gap", simulated - exact_match);
        }
        Ok(self.choose_by.of(&report.overall))
    }
}

/// Puts a validation report into the metrics of its step.
fn log(report: &EvaluationReport, metrics: &mut Metrics) {
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
    pub(crate) score: Option<f64>,
    pub(crate) policy: LanguageModel,
}

impl Best {
    /// Begins with the untrained policy, scored or not.
    pub(crate) fn new(policy: &LanguageModel, score: Option<f64>) -> Self {
        Self { step: 0, score, policy: policy.clone() }
    }

    /// Takes `policy` if it scores higher, or if nothing is scored.
    pub(crate) fn consider(&mut self, step: usize, policy: &LanguageModel, score: Option<f64>) {
        if score > self.score || score.is_none() {
            *self = Self { step, score, policy: policy.clone() };
        }
    }

    pub(crate) fn save(&self, run: &RunDir) -> Result<(), SaveError> {
        self.policy.save(&run.join("checkpoints/best"))
    }
}
