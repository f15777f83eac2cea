//! Products of bfloat16 numbers that are summed, and returned, in f32.

use burn::backend::autodiff::Autodiff;
use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, Dispatch, TensorMetadata, backend_extension};
use burn::tensor::{DType, Device, FloatDType, Tensor};

/// `x W` with both rounded to bfloat16, summed in f32, and so with a result that is not rounded again.
///
/// ```text
/// y_ij = sum over k of bf16(x_ik) bf16(w_kj)
/// dL/dx = bf16(dL/dy) bf16(W)^T,   dL/dW = bf16(x)^T bf16(dL/dy)
/// ```
///
/// The rounding counts as the identity on the way back, which keeps what has been rounded. burn's own
/// product of bfloat16 tensors rounds its result to bfloat16.
///
/// # Shapes
///
/// - x: `[.., n, in]`; weight: `[.., in, out]`; output: `[.., n, out]` in f32, whatever the types of the
///   others; the leading dimensions are the same
///
/// # References
///
/// - [Mixed Precision Training](https://arxiv.org/abs/1710.03740), section 3.3
pub(crate) fn wide_product<const D: usize>(x: Tensor<D>, weight: Tensor<D>) -> Tensor<D> {
    Tensor::from_dispatch(Dispatch::wide_product(x.into_dispatch(), weight.into_dispatch()))
}

/// What [`wide_product`] rounds its arguments to, so that several products of the same share one
/// rounding; the argument itself on a device without bfloat16.
///
/// # Shapes
///
/// - x, output: the same, any
pub(crate) fn rounded<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    Tensor::from_dispatch(Dispatch::rounded(x.into_dispatch()))
}

/// The type of what is [`rounded`] on a device.
pub(crate) fn rounded_type(device: &Device) -> DType {
    if device.supports_dtype(DType::BF16) { DType::BF16 } else { DType::F32 }
}

/// [`wide_product`] on a backend.
#[backend_extension(
    Cube: cfg(feature = "accelerator"),
    Flex: cfg(feature = "flex"),
    Autodiff,
    Fusion: cfg(feature = "accelerator")
)]
pub(crate) trait WideProduct: Backend {
    #[fusion(dtype = burn::tensor::DType::F32, shape = product_shape(x, weight))]
    fn wide_product(x: FloatTensor<Self>, weight: FloatTensor<Self>) -> FloatTensor<Self>;

    #[fusion(default)]
    fn rounded(x: FloatTensor<Self>) -> FloatTensor<Self> {
        if Self::supports_dtype(&x.device(), DType::BF16) {
            Self::float_cast(x, FloatDType::BF16)
        } else {
            x
        }
    }
}

#[cfg(feature = "flex")]
impl WideProduct for burn::backend::Flex {
    /// Products of two bfloat16 numbers are exact in f32.
    fn wide_product(x: FloatTensor<Self>, weight: FloatTensor<Self>) -> FloatTensor<Self> {
        use burn::backend::ops::FloatTensorOps;

        let widened = |it| Self::float_cast(Self::rounded(it), FloatDType::F32);
        Self::float_matmul(widened(x), widened(weight))
    }
}

#[cfg(feature = "accelerator")]
fn product_shape(x: &burn::tensor::Shape, weight: &burn::tensor::Shape) -> burn::tensor::Shape {
    let mut shape = x.clone();
    let last = shape.num_dims() - 1;
    shape[last] = weight[last];
    shape
}

#[cfg(feature = "accelerator")]
impl WideProduct for burn_cubecl::CubeBackend {
    fn wide_product(x: FloatTensor<Self>, weight: FloatTensor<Self>) -> FloatTensor<Self> {
        use burn_cubecl::kernel::matmul::{MatmulStrategy, matmul};

        let (x, weight) = (Self::rounded(x), Self::rounded(weight));
        matmul(x, weight, None, MatmulStrategy::default(), DType::F32)
            .expect("some kernel multiplies any two matrices")
    }
}

#[derive(Debug)]
struct WideProductBackward;

impl<B: WideProduct> Backward<B, 2> for WideProductBackward {
    /// Rounded x and weight, each where the gradient of the other one needs it.
    type State = (Option<FloatTensor<B>>, Option<FloatTensor<B>>);

    fn backward(
        self,
        ops: Ops<Self::State, 2>,
        grads: &mut Gradients,
        _checkpointer: &mut Checkpointer,
    ) {
        let (x, weight) = ops.state;
        let [x_node, weight_node] = ops.parents;
        let upstream = B::rounded(grads.consume::<B>(&ops.node));
        if let (Some(node), Some(weight)) = (x_node, weight) {
            let gradient = B::wide_product(upstream.clone(), B::float_transpose(weight));
            grads.register::<B>(node.id, gradient);
        }
        if let (Some(node), Some(x)) = (weight_node, x) {
            grads.register::<B>(node.id, B::wide_product(B::float_transpose(x), upstream));
        }
    }
}

impl<B: WideProduct, C: CheckpointStrategy> WideProduct for Autodiff<B, C> {
    fn wide_product(x: FloatTensor<Self>, weight: FloatTensor<Self>) -> FloatTensor<Self> {
        let prepared = WideProductBackward.prepare::<C>([x.node(), weight.node()]).compute_bound();
        let (x_tracked, weight_tracked) = (x.is_tracked(), weight.is_tracked());
        let (x, weight) = (B::rounded(x.into_primitive()), B::rounded(weight.into_primitive()));
        match prepared.stateful() {
            OpsKind::Tracked(prep) => {
                let kept_x = weight_tracked.then(|| x.clone());
                let kept_weight = x_tracked.then(|| weight.clone());
                prep.finish((kept_x, kept_weight), B::wide_product(x, weight))
            }
            OpsKind::UnTracked(prep) => prep.finish(B::wide_product(x, weight)),
        }
    }
}

#[cfg(test)]
#[cfg(feature = "flex")]
mod tests {
    use super::*;

    /// 1 + 2^-9 rounds to 1 and 3 + 2^-6 to itself; sums are not rounded: 256 + 1/2 would be 256.
    #[test]
    fn rounds_what_goes_in_and_not_what_comes_out() {
        let device = Device::flex().autodiff();
        let x = Tensor::<2>::from_floats([[1.0 + 2_f32.powi(-9), 256.0]], &device).require_grad();
        let weight = Tensor::<2>::from_floats([[0.5, 3.0 + 2_f32.powi(-6)], [1.0, 0.0]], &device);
        let weight = weight.require_grad();
        let y = wide_product(x.clone(), weight.clone());
        let numbers = |it: Tensor<2>| it.into_data().iter::<f32>().collect::<Vec<_>>();
        assert_eq!(numbers(y.clone().inner()), [256.5, 3.015_625]);
        // An upstream of 1 and 257, which rounds to 256, half way to the even mantissa.
        let upstream = Tensor::<2>::from_floats([[1.0, 257.0]], &device);
        let mut grads = (y * upstream).sum().backward();
        let of_x = x.grad_remove(&mut grads).expect("it is a leaf");
        assert_eq!(numbers(of_x), [0.5 + 256.0 * 3.015_625, 1.0]);
        let of_weight = weight.grad_remove(&mut grads).expect("it is a leaf");
        assert_eq!(numbers(of_weight), [1.0, 256.0, 256.0, 65_536.0]);
    }

    #[test]
    fn what_is_frozen_gets_no_gradient() {
        let device = Device::flex().autodiff();
        let x = Tensor::<2>::ones([2, 3], &device).require_grad();
        let frozen = Tensor::<2>::ones([3, 4], &device);
        let mut grads = wide_product(x.clone(), frozen.clone()).sum().backward();
        assert_eq!(x.grad_remove(&mut grads).map(|it| it.sum().into_scalar::<f32>()), Some(24.0));
        assert!(frozen.grad(&grads).is_none());
    }
}
