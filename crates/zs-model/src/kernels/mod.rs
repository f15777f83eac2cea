//! Operations that burn lacks, as functions on tensors.
//!
//! Each has a twin in plain tensors, which is its reference: it is what runs where no kernel does, or
//! what the kernel and its gradient are tested against.

mod add_norm;
#[cfg(feature = "accelerator")]
mod cube_norm;
mod decode_attention;
mod new_heads;
mod rms_norm;
mod rotate;
mod swiglu;
mod wide_product;

pub(crate) use add_norm::add_norm;
pub(crate) use decode_attention::decode_attention;
pub(crate) use new_heads::NewHeads;
pub(crate) use rms_norm::rms_norm;
pub(crate) use rotate::rotate;
pub(crate) use swiglu::swiglu;
pub(crate) use wide_product::{rounded, rounded_type, wide_product};

#[cfg(test)]
#[cfg(feature = "flex")]
mod tests;
