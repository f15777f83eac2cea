//! Per-token losses and how they become one number. Pure tensor functions.
//!
//! All take tensors of `[batch, tokens]` and a loss mask, and give zero loss and zero gradient where
//! the mask is false, whatever the other tensors hold there.

mod aggregate;
mod clipped_surrogate;
mod entropy;
mod kl;
mod off_policy;

use burn::tensor::{Bool, Tensor};

pub use self::aggregate::{Aggregation, aggregate};
pub use self::clipped_surrogate::{ClipOptions, ClippedSurrogate, clipped_surrogate};
pub use self::entropy::entropy_bonus;
pub use self::kl::{KlEstimator, kl_divergence};
pub use self::off_policy::{OffPolicyWeight, off_policy_surrogate};

/// `a - b` where the mask is true, zero without gradient elsewhere.
///
/// Masked before anything non-linear is applied: `0 * inf` would be NaN in the gradient.
fn masked_difference(a: Tensor<2>, b: Tensor<2>, loss_mask: &Tensor<2, Bool>) -> Tensor<2> {
    (a - b).mask_fill(loss_mask.clone().bool_not(), 0.0)
}
