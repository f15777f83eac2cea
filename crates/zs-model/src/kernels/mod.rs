//! Operations that burn does not provide, as functions on tensors.
//!
//! Each has a reference implementation as a composition of tensor operations. The reference runs
//! where no kernel does, and kernels and gradients are tested against it.

mod add_norm;
mod attend;
mod bf16_matmul;
#[cfg(feature = "accelerator")]
mod cube_norm;
mod decode_attention;
mod new_heads;
mod rms_norm;
mod rotate;
mod swiglu;

pub(crate) use add_norm::add_norm;
pub(crate) use attend::{MASKED, attend, attention_scores};
pub(crate) use bf16_matmul::{matmul_bf16, matmul_dtype, to_matmul_dtype};
pub(crate) use decode_attention::decode_attention;
pub(crate) use new_heads::NewHeads;
pub(crate) use rms_norm::rms_norm;
pub(crate) use rotate::rotate;
pub(crate) use swiglu::swiglu;

#[cfg(test)]
#[cfg(feature = "flex")]
mod tests;
