//! A linear map, stored so that the forward product needs no transposition.

use burn::module::{Module, Param};
use burn::tensor::{Device, Tensor};

/// `y = x W + b`.
///
/// The weight is `[in, out]`; checkpoints hold its transpose and are transposed on the way in and
/// out.
#[derive(Module, Debug)]
pub(crate) struct Linear {
    pub(crate) weight: Param<Tensor<2>>,
    pub(crate) bias: Option<Param<Tensor<1>>>,
}

impl Linear {
    pub(crate) fn zeros(input: usize, output: usize, bias: bool, device: &Device) -> Self {
        Self {
            weight: Param::from_tensor(Tensor::zeros([input, output], device)),
            bias: bias.then(|| Param::from_tensor(Tensor::zeros([output], device))),
        }
    }

    /// `[n, in]` to `[n, out]`.
    pub(crate) fn forward(&self, x: Tensor<2>) -> Tensor<2> {
        let y = x.matmul(self.weight.val());
        match &self.bias {
            Some(bias) => y + bias.val().unsqueeze(),
            None => y,
        }
    }
}
