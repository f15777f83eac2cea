//! Operations that burn does not provide, as functions on tensors.
//!
//! Each is a composition of tensor operations, forward and backward, and runs as such on a backend
//! without an implementation of its own: fused loops on slices for the CPU ([`cpu`](crate::cpu)),
//! kernels for accelerators. Implementations and gradients are tested against the composition.

mod add_layer_norm;
mod add_norm;
mod attend;
mod attention;
mod bias_gelu;
#[cfg(feature = "accelerator")]
mod cube_norm;
mod decode_attention;
mod new_heads;
mod packed_weight;
mod product;
mod rms_norm;
mod rotate;
mod scores;
mod span_layout;
mod swiglu;
mod with_gradient;

pub(crate) use add_layer_norm::{LayerNorm, add_layer_norm};
pub(crate) use add_norm::add_norm;
pub(crate) use attend::attend;
pub(crate) use attention::{MASKED, attention};
pub(crate) use bias_gelu::bias_gelu;
pub(crate) use decode_attention::decode_attention;
pub(crate) use new_heads::NewHeads;
pub(crate) use packed_weight::PackedWeight;
pub(crate) use product::{matmul_dtype, product, rounded_to};
pub(crate) use rms_norm::rms_norm;
pub(crate) use rotate::rotate;
pub(crate) use scores::{token_scores, token_scores_backward};
pub(crate) use span_layout::SpanLayout;
pub(crate) use swiglu::swiglu;
pub(crate) use with_gradient::with_gradient;

#[cfg(test)]
#[cfg(feature = "flex")]
mod tests;
