//! Errors of updates.

/// Failure to update a model. The model is lost; the caller has its last checkpoint.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum UpdateError {
    /// A count of zero.
    #[error("`{field}` of the update config is 0; it must be at least 1")]
    Config {
        /// The setting.
        field: &'static str,
    },
    /// A number out of range.
    #[error("`{field}` of the update config is {value}; it must {requirement}")]
    Setting {
        /// The setting.
        field: &'static str,
        /// Its value.
        value: f64,
        /// Requirement.
        requirement: &'static str,
    },
    /// There is nothing to learn from.
    #[error("the batch contains no tokens of the policy; check the rollout")]
    EmptyBatch,
    /// The algorithm has a KL term but no model to compute it against.
    #[error("algorithm `{algorithm}` needs a reference model; pass one or set `kl_coef = 0`")]
    MissingReference {
        /// The algorithm.
        algorithm: &'static str,
    },
    /// The algorithm has a value loss but no value model.
    #[error("algorithm `{algorithm}` needs a value model; pass one as `TrainerResources::critic`")]
    MissingCritic {
        /// The algorithm.
        algorithm: &'static str,
    },
    /// A teacher is to be distilled, and there is none.
    #[error(
        "`distillation` is set but there is no teacher; pass one as `TrainerResources::teacher`"
    )]
    MissingTeacher,
    /// A teacher's log-probabilities are those of other episodes.
    #[error(
        "the teacher has {found} log-probabilities for the {expected} tokens of trajectory {index}; pass \
         one a token"
    )]
    TeacherScores {
        /// Trajectory, counted from 0.
        index: usize,
        /// Tokens of the trajectory.
        expected: usize,
        /// Log-probabilities.
        found: usize,
    },
    /// The loss on curated texts has none.
    #[error("`ptx_coef` is above 0 but there are no curated texts; pass texts or set it to 0")]
    MissingTexts,
    /// The coefficient adapts to a divergence that nobody computes.
    #[error("`adaptive_kl` is set but algorithm `{algorithm}` has `kl_coef = 0`; raise it")]
    NothingToAdapt {
        /// The algorithm.
        algorithm: &'static str,
    },
    /// Weights cannot be multiplied into the advantages of this algorithm.
    #[error(
        "`importance` cannot be used with algorithm `{algorithm}`: its loss is not linear in the \
         advantages; remove `importance`"
    )]
    NotLinear {
        /// The algorithm.
        algorithm: &'static str,
    },
    /// The algorithm returned rows for another number of trajectories.
    #[error(
        "algorithm `{algorithm}` returned {found} rows of {field} for {expected} trajectories; return \
         one row per trajectory"
    )]
    NumRows {
        /// The algorithm.
        algorithm: &'static str,
        /// `advantages` or `returns`.
        field: &'static str,
        /// Trajectories.
        expected: usize,
        /// Rows.
        found: usize,
    },
    /// The algorithm returned a row of another length than its trajectory.
    #[error(
        "algorithm `{algorithm}` returned {found} {field} for the {expected} tokens of trajectory \
         {index}; return one per token"
    )]
    RowLength {
        /// The algorithm.
        algorithm: &'static str,
        /// `advantages` or `returns`.
        field: &'static str,
        /// Trajectory, counted from 0.
        index: usize,
        /// Tokens of the trajectory.
        expected: usize,
        /// Numbers in the row.
        found: usize,
    },
    /// The algorithm returned an advantage that is infinite or not a number.
    #[error(
        "algorithm `{algorithm}` returned the advantage {value} in trajectory {index} although all \
         rewards are finite; check for a division by zero"
    )]
    NotFinite {
        /// The algorithm.
        algorithm: &'static str,
        /// Trajectory, counted from 0.
        index: usize,
        /// Advantage.
        value: f32,
    },
    /// The algorithm returned a loss that depends on no parameter.
    #[error(
        "the loss of algorithm `{algorithm}` has no gradient; compute it from `scores` without \
         `detach`"
    )]
    NoGradient {
        /// The algorithm.
        algorithm: &'static str,
    },
    /// The algorithm returned a loss that is not one number.
    #[error("the loss of algorithm `{algorithm}` has {found} elements; aggregate it to one")]
    LossShape {
        /// The algorithm.
        algorithm: &'static str,
        /// Numbers.
        found: usize,
    },
    /// The device's memory is exhausted, with half the tokens at once as well.
    #[error(
        "the device ran out of memory with {micro_batch_tokens} tokens at once (`micro_batch_tokens`, \
         halved already); set it lower, set `memory.gradient_checkpointing = true`, or \
         train adapters"
    )]
    OutOfMemory {
        /// Tokens that did not fit.
        micro_batch_tokens: usize,
    },
}
