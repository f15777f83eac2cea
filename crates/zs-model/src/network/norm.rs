//! Root-mean-square normalisation.

use burn::module::{Module, Param};
use burn::tensor::{Device, Tensor};

use crate::kernels::rms_norm;

/// RMS norm over the last dimension.
///
/// ```text
/// y = x / sqrt(mean(x^2) + eps) * weight
/// ```
///
/// # References
///
/// - [Root Mean Square Layer Normalization](https://arxiv.org/abs/1910.07467), equation 4
#[derive(Module, Debug)]
pub(crate) struct RmsNorm {
    pub(crate) weight: Param<Tensor<1>>,
    #[module(skip)]
    eps: f64,
}

impl RmsNorm {
    pub(crate) fn ones(width: usize, eps: f64, device: &Device) -> Self {
        Self { weight: Param::from_tensor(Tensor::ones([width], device)), eps }
    }

    pub(crate) fn eps(&self) -> f64 {
        self.eps
    }

    /// Normalises the last dimension of a tensor of any rank.
    pub(crate) fn forward<const D: usize>(&self, x: Tensor<D>) -> Tensor<D> {
        let dims = x.dims();
        let width = dims[D - 1];
        let rows = dims.iter().product::<usize>() / width;
        rms_norm(x.reshape([rows, width]), self.weight.val(), self.eps).reshape(dims)
    }
}
