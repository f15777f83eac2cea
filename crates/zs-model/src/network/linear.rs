//! Linear layer, stored so that the forward product needs no transposition.

use burn::module::{Module, Param};
use burn::tensor::{DType, Device, Tensor};

use super::LowRank;
use crate::ComputeDtype;
use crate::kernels::{PackedWeight, matmul_dtype, product, rounded_to};

/// Linear layer `y = x W + b`, with an adapter `+ scale (x A) B`.
///
/// The weight is `[in, out]`; checkpoints store its transpose.
#[derive(Module, Debug)]
pub(crate) struct Linear {
    pub(crate) weight: Param<Tensor<2>>,
    pub(crate) bias: Option<Param<Tensor<1>>>,
    pub(crate) adapter: Option<LowRank>,
    /// Data type of the product; adapters use f32.
    #[module(skip)]
    pub(crate) compute_dtype: ComputeDtype,
    /// Weight for sampling on a CPU, in place of the parameter.
    #[module(skip)]
    pub(crate) packed: Option<PackedWeight>,
}

impl Linear {
    pub(crate) fn zeros(input: usize, output: usize, bias: bool, device: &Device) -> Self {
        Self {
            weight: Param::from_tensor(Tensor::zeros([input, output], device)),
            bias: bias.then(|| Param::from_tensor(Tensor::zeros([output], device))),
            adapter: None,
            compute_dtype: ComputeDtype::F32,
            packed: None,
        }
    }

    /// Maps `[n, in]` to `[n, out]`.
    pub(crate) fn forward(&self, x: Tensor<2>) -> Tensor<2> {
        self.add_bias(self.forward_unbiased(x))
    }

    /// Adds the bias, if any, to a product.
    pub(crate) fn add_bias(&self, y: Tensor<2>) -> Tensor<2> {
        match &self.bias {
            Some(bias) => y + bias.val().unsqueeze(),
            None => y,
        }
    }

    /// [`forward`](Self::forward) without the bias.
    pub(crate) fn forward_unbiased(&self, x: Tensor<2>) -> Tensor<2> {
        let of_weight = |x: Tensor<2>| match &self.packed {
            Some(packed) => packed.product(x),
            None => product(x, self.weight.val(), false, self.compute_dtype),
        };
        match &self.adapter {
            Some(adapter) => of_weight(x.clone()) + adapter.forward(x),
            None => of_weight(x),
        }
    }

    /// Dtype of an input shared by several layers: the rounded dtype if each of them would round
    /// it.
    pub(crate) fn input_type<const N: usize>(maps: [&Self; N], device: &Device) -> DType {
        let rounds = |it: &Self| it.compute_dtype == ComputeDtype::Bf16 && it.adapter.is_none();
        if maps.into_iter().all(rounds) { matmul_dtype(device) } else { DType::F32 }
    }

    /// Input of several layers in its [dtype](Self::input_type), rounded once.
    pub(crate) fn shared_input<const N: usize>(x: Tensor<2>, maps: [&Self; N]) -> Tensor<2> {
        let dtype = Self::input_type(maps, &x.device());
        rounded_to(x, dtype)
    }

    /// Merges the adapter, if any, into the weight.
    pub(crate) fn merge(&mut self) {
        if let Some(adapter) = self.adapter.take() {
            self.weight = self.weight.clone().map(|weight| weight + adapter.product());
        }
    }
}
