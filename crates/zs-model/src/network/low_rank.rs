//! The trainable low-rank addition to a frozen linear map.

use burn::module::{Module, Param};
use burn::tensor::{Device, Tensor};

/// A low-rank adapter (LoRA).
///
/// ```text
/// y = x W + scale (x A) B,   scale = alpha / r
/// ```
///
/// The products are taken from the left, so neither pass forms a matrix of the size of `W`: backward
/// needs `A`, `B`, `x`, `x A` and the gradient of `y`. `W` is frozen, so its gradient is never
/// computed.
///
/// # Shapes
///
/// - a: `[in, r]`; b: `[r, out]`
///
/// # References
///
/// - [LoRA](https://arxiv.org/abs/2106.09685), section 4.1
#[derive(Module, Debug)]
pub(crate) struct LowRank {
    // The names of PEFT's tensors without their case.
    pub(crate) lora_a: Param<Tensor<2>>,
    pub(crate) lora_b: Param<Tensor<2>>,
    #[module(skip)]
    scale: f64,
}

impl LowRank {
    pub(crate) fn zeros(
        [input, output]: [usize; 2],
        r: usize,
        scale: f64,
        device: &Device,
    ) -> Self {
        Self {
            lora_a: Param::from_tensor(Tensor::zeros([input, r], device)),
            lora_b: Param::from_tensor(Tensor::zeros([r, output], device)),
            scale,
        }
    }

    #[cfg(feature = "flex")]
    pub(crate) fn scale(&self) -> f64 {
        self.scale
    }

    /// `[n, in]` to `[n, out]`.
    pub(crate) fn forward(&self, x: Tensor<2>) -> Tensor<2> {
        (x.matmul(self.lora_a.val()) * self.scale).matmul(self.lora_b.val())
    }

    /// `scale A B`, `[in, out]`.
    pub(crate) fn product(&self) -> Tensor<2> {
        self.lora_a.val().matmul(self.lora_b.val()) * self.scale
    }
}
