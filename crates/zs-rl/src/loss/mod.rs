//! Per-token losses and how they become one number. Pure tensor functions.
//!
//! All take tensors of `[batch, tokens]` and a loss mask, and give zero loss and zero gradient where
//! the mask is false, whatever the other tensors hold there.

mod aggregate;
mod clipped_importance;
mod clipped_surrogate;
mod displacement;
mod entropy;
#[cfg(test)]
#[cfg(feature = "flex")]
mod gradient_tests;
mod importance;
mod kl;
mod off_policy;
mod sequence_surrogate;
mod squared_regret;
mod value;

use burn::tensor::{Bool, Tensor};

pub use self::aggregate::{Aggregation, aggregate};
pub use self::clipped_importance::clipped_importance;
pub use self::clipped_surrogate::{ClipOptions, ClippedSurrogate, clipped_surrogate};
pub use self::displacement::likelihood_displacement;
pub use self::entropy::entropy_bonus;
pub use self::importance::{
    ImportanceBound, ImportanceCorrection, ImportanceLevel, importance_weights,
};
pub use self::kl::{AdaptiveKl, KlEstimator, adapted_kl_scale, kl_divergence};
pub use self::off_policy::{OffPolicyWeight, off_policy_surrogate};
pub use self::sequence_surrogate::sequence_clipped_surrogate;
pub use self::squared_regret::squared_regret;
pub use self::value::{ClippedValueLoss, clipped_value_loss};

/// `a - b` where the mask is true, zero without gradient elsewhere.
///
/// Masked before anything non-linear is applied: `0 * inf` would be NaN in the gradient.
fn masked_difference(a: Tensor<2>, b: Tensor<2>, loss_mask: &Tensor<2, Bool>) -> Tensor<2> {
    (a - b).mask_fill(loss_mask.clone().bool_not(), 0.0)
}
