//! Self-critique: a judge compares episodes of the same question by written rubrics.

mod lm;

use std::fmt::Debug;

use serde::{Deserialize, Serialize};

pub use self::lm::{JUDGE_PROMPT, LmJudge, parse_verdict};

/// Criterion of a good episode.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rubric {
    /// Kind of the rubric.
    pub kind: RubricKind,
    /// Criterion, in a sentence.
    pub text: String,
}

/// Purpose of a rubric, by the classes of Kimi K2.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RubricKind {
    /// A core value of the assistant.
    Core,
    /// A rule against reward hacking.
    Prescriptive,
    /// Written by an annotator for a context.
    Human,
}

/// Two episodes to be compared.
#[derive(Clone, Copy, Debug)]
pub struct Comparison<'a> {
    /// The question.
    pub question: &'a str,
    /// Policy's text in the first episode.
    pub a: &'a str,
    /// Policy's text in the second episode.
    pub b: &'a str,
    /// Rubrics that the two are compared by.
    pub rubrics: &'a [Rubric],
}

/// Result of a comparison of two episodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The first.
    A,
    /// The second.
    B,
    /// Neither.
    Tie,
}

/// Errors of a comparison; it then has no verdict.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum JudgeError {
    /// The template does not parse, cannot be rendered, or leaves something out.
    #[error("the judge's template {message}")]
    Template {
        /// Problem with the prompt.
        message: String,
    },
    /// The prompt leaves no room for a verdict.
    #[error("the judge's prompt has {num_tokens} tokens; its model's context is {context_length}")]
    PromptTooLong {
        /// Tokens of the prompt.
        num_tokens: usize,
        /// Tokens that the model holds.
        context_length: usize,
    },
    /// The model failed.
    #[error("the judge's model failed: {message}")]
    Generate {
        /// Message of the judge.
        message: String,
    },
    /// The reply is not exactly one verdict.
    #[error("no single verdict in the judge's reply `{reply}`")]
    Malformed {
        /// The reply, shortened.
        reply: String,
    },
}

/// Compares episodes by rubrics.
///
/// # Implementing
///
/// Returns one verdict a comparison, in their order; one that fails must not fail the others. The
/// same comparison must give the same verdict, whatever else is in the batch.
///
/// ```
/// use zs_rl::judge::{Comparison, JudgeError, RubricJudge, Verdict};
///
/// /// Prefers brevity.
/// #[derive(Debug)]
/// struct Brief;
///
/// impl RubricJudge for Brief {
///     fn compare_batch(
///         &self,
///         comparisons: &[Comparison<'_>],
///     ) -> Vec<Result<Verdict, JudgeError>> {
///         let verdict = |it: &Comparison<'_>| match it.a.len().cmp(&it.b.len()) {
///             std::cmp::Ordering::Less => Verdict::A,
///             std::cmp::Ordering::Equal => Verdict::Tie,
///             std::cmp::Ordering::Greater => Verdict::B,
///         };
///         comparisons.iter().map(|it| Ok(verdict(it))).collect()
///     }
/// }
/// ```
///
/// # References
///
/// - [Kimi K2](https://arxiv.org/abs/2507.20534), section 3.2.2
pub trait RubricJudge: Debug + Send + Sync {
    /// Compares every pair.
    fn compare_batch(&self, comparisons: &[Comparison<'_>]) -> Vec<Result<Verdict, JudgeError>>;
}
