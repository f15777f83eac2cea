//! Evaluation of `zs`: episodes against any search engine, scores under named protocols with bootstrap
//! intervals, paired tests between runs.
//!
//! **Invariant:** this crate plays episodes through `zs_rl::rollout` and depends on no search engine. It
//! opens only files of predictions, and a report is a function of its records
//! and seed.
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

mod answer;
mod bootstrap;
mod evaluate;
mod evaluation;
mod evaluator;
mod method;
mod metrics;
mod paired;
mod pass_at;
mod predictions;
mod protocol;
mod report;
mod retrieval;
mod selection;

pub use bootstrap::{Estimate, NUM_RESAMPLES};
pub use evaluate::evaluate;
pub use evaluation::{EvalConfig, EvalProgress, EvaluateError, Evaluation};
pub use evaluator::{Evaluator, PlayedBatch};
pub use method::Method;
pub use metrics::{Metric, QuestionRecord};
pub use paired::{McNemar, NUM_PERMUTATIONS, PairedTest, paired_difference, paired_test};
pub use predictions::{open_predictions, read_predictions, score_predictions};
pub use protocol::{Protocol, ProtocolError, Quirk, QuirkStage};
pub use report::{EvaluationReport, ReportError, SetAverage, Summary};
pub use retrieval::{RetrievalMetric, RetrievalReport, retrieval_test};
pub use selection::select_questions;
