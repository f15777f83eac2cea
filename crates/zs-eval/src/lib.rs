//! Evaluation of `zs`: question files, greedy episodes against any search engine, exact match and F1
//! with bootstrap intervals.
//!
//! **Invariant:** this crate plays episodes through `zs_rl::rollout` and knows no engine. Everything
//! but [`read_questions`] is free of IO, and a report is a function of its records and seed.
//!
//! ```
//! use zs_core::Question;
//! use zs_eval::{EvaluationReport, QuestionRecord};
//! use zs_rl::Trajectory;
//!
//! // An episode that ended before its first turn: unanswered, so it scores 0.
//! let question = Question::new("q1", "who wrote Dune?", ["Frank Herbert"]);
//! let record = QuestionRecord::new(&question, &Trajectory::new("q1", vec![0]));
//! let report = EvaluationReport::new(&[record], 42)?;
//! assert_eq!(report.overall.exact_match.mean, 0.0);
//! # Ok::<(), zs_eval::ReportError>(())
//! ```

mod bootstrap;
mod dataset;
mod evaluate;
mod metrics;
mod report;

pub use bootstrap::{Estimate, NUM_RESAMPLES};
pub use dataset::{DatasetError, RowError, read_questions};
pub use evaluate::{
    EvalConfig, EvalProgress, EvaluateError, Evaluation, evaluate, evaluate_rollout,
};
pub use metrics::{Metric, QuestionRecord};
pub use report::{EvaluationReport, ReportError, Summary, paired_difference};
