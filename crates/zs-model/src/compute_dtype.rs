//! Mixed precision: matrix products in bfloat16, with weights, gradients and moments in f32.

use burn::tensor::FloatDType;
use serde::{Deserialize, Serialize};

/// Data type of the matrix products of blocks and head.
///
/// ```text
/// bf16:  y = bf16(x) bf16(W) + b,   summed in f32
/// ```
///
/// During training everything else is f32: weights, optimiser state, gradients, norms, rotation,
/// softmax, logits and loss. Sampling, which is bound by memory bandwidth, also stores embedding,
/// head and KV cache in bf16. Accelerators have matrix units for bf16; a CPU with
/// fast dot products of bf16 (AVX-512 BF16 of AMD) multiplies about 1.7 times as fast as in f32, and
/// any other CPU slower.
///
/// f32 is the default, so that a run gives the same numbers on every machine up to rounding; `auto`
/// is for runs that are compared with nothing.
///
/// # References
///
/// - [Mixed Precision Training](https://arxiv.org/abs/1710.03740), section 3.1: master weights;
///   bfloat16 needs no loss scaling
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ComputeDtype {
    /// f32.
    #[default]
    F32,
    /// bfloat16: the range of f32 at 8 bits of precision.
    Bf16,
    /// bf16 where the device multiplies it faster than f32, else f32.
    Auto,
}

impl ComputeDtype {
    /// True for the default, f32.
    #[must_use]
    pub fn is_f32(&self) -> bool {
        *self == Self::F32
    }

    /// `F32` or `Bf16`: the choice of [`Auto`](Self::Auto) on an accelerator or on this CPU.
    ///
    /// ```
    /// use zs_model::ComputeDtype;
    ///
    /// assert_eq!(ComputeDtype::Auto.resolved(true), ComputeDtype::Bf16);
    /// assert_eq!(ComputeDtype::F32.resolved(true), ComputeDtype::F32);
    /// ```
    #[must_use]
    pub fn resolved(self, is_accelerator: bool) -> Self {
        match self {
            Self::Auto if is_accelerator || cpu_prefers_bf16() => Self::Bf16,
            Self::Auto => Self::F32,
            chosen => chosen,
        }
    }

    /// Dtype of the KV cache in sampling.
    pub(crate) fn of_cache(self) -> FloatDType {
        if self == Self::Bf16 { FloatDType::BF16 } else { FloatDType::F32 }
    }
}

/// Vector instruction sets of this CPU that products and loops of this crate use, widest last; empty
/// on other architectures than x86-64.
#[must_use]
pub fn vector_units() -> Vec<&'static str> {
    #[cfg(target_arch = "x86_64")]
    {
        let all = [
            ("avx2", is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma")),
            ("avx512f", is_x86_feature_detected!("avx512f")),
            ("avx512bf16", is_x86_feature_detected!("avx512bf16")),
        ];
        all.into_iter().filter(|(_, found)| *found).map(|(name, _)| name).collect()
    }
    #[cfg(not(target_arch = "x86_64"))]
    Vec::new()
}

/// True if this CPU multiplies bf16 faster than f32.
fn cpu_prefers_bf16() -> bool {
    #[cfg(feature = "flex")]
    return crate::cpu::product::prefers_bf16();
    #[cfg(not(feature = "flex"))]
    false
}
