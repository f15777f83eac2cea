//! Low-rank adapter of a frozen linear layer, and the configuration of adapters.

use burn::module::{Module, Param};
use burn::tensor::{Device, Tensor};
use serde::{Deserialize, Serialize};

use crate::ComputeDtype;
use crate::kernels::product;

/// Targets and rank of adapters.
///
/// ```
/// use zs_model::LoraConfig;
///
/// let target_modules = vec!["q_proj".into(), "v_proj".into()];
/// let config = LoraConfig { r: 8, target_modules, ..LoraConfig::default() };
/// assert_eq!(config.scale(), 4.0);
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LoraConfig {
    /// Rank of an adapter.
    pub r: usize,
    /// Numerator of the adapter's scale, `alpha / r`.
    pub alpha: f64,
    /// Names of linear layers: the last part of a tensor's path (`"q_proj"`) or a longer suffix of
    /// it (`"layers.3.mlp.up_proj"`).
    pub target_modules: Vec<String>,
}

impl Default for LoraConfig {
    /// Rank 16 on every linear layer of the blocks.
    fn default() -> Self {
        let maps = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"];
        Self { r: 16, alpha: 32.0, target_modules: maps.map(str::to_owned).to_vec() }
    }
}

impl LoraConfig {
    /// Scale of the adapter's output, `alpha / r`.
    #[must_use]
    pub fn scale(&self) -> f64 {
        self.alpha / self.r as f64
    }
}

/// Low-rank adapter (LoRA).
///
/// ```text
/// y = x W + scale (x A) B,   scale = alpha / r
/// ```
///
/// Products are evaluated from the left, so neither pass forms a matrix of the size of `W`. The
/// backward pass needs `A`, `B`, `x`, `x A` and the gradient of `y`. The gradient of the frozen `W`
/// is never computed.
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
    // PEFT's tensor names in lower case.
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

    /// Maps `[n, in]` to `[n, out]`.
    pub(crate) fn forward(&self, x: Tensor<2>) -> Tensor<2> {
        let product = |x, weight| product(x, weight, false, ComputeDtype::F32);
        product(product(x, self.lora_a.val()) * self.scale, self.lora_b.val())
    }

    /// Merged update `scale A B`, `[in, out]`.
    pub(crate) fn product(&self) -> Tensor<2> {
        self.lora_a.val().matmul(self.lora_b.val()) * self.scale
    }
}
