//! What can go wrong in an update.

/// Why a model could not be updated. The model is lost; the caller has its last checkpoint.
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
        /// What it must be.
        requirement: &'static str,
    },
    /// There is nothing to learn from.
    #[error("the batch holds no token that the policy wrote; check the rollout")]
    EmptyBatch,
    /// The algorithm has a KL term but no model to compute it against.
    #[error("algorithm `{algorithm}` needs a reference model; pass one or set `kl_coef = 0`")]
    MissingReference {
        /// The algorithm.
        algorithm: &'static str,
    },
    /// The algorithm has a value loss but no value model.
    #[error("algorithm `{algorithm}` needs a value model; pass one as `Companions::critic`")]
    MissingCritic {
        /// The algorithm.
        algorithm: &'static str,
    },
    /// The loss on curated texts has none.
    #[error("`ptx_coef` is above 0 but there is no text to learn; pass some or set it to 0")]
    MissingTexts,
    /// The coefficient adapts to a divergence that nobody computes.
    #[error("`adaptive_kl` is set but algorithm `{algorithm}` has `kl_coef = 0`; raise it")]
    NothingToAdapt {
        /// The algorithm.
        algorithm: &'static str,
    },
    /// Weights cannot be multiplied into the advantages of this algorithm.
    #[error("`importance` does not go with algorithm `{algorithm}`: its loss is not linear")]
    NotLinear {
        /// The algorithm.
        algorithm: &'static str,
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
