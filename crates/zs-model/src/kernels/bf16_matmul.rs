//! Matrix products of bfloat16 inputs with f32 accumulation and output.

use burn::backend::autodiff::Autodiff;
use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, Dispatch, TensorMetadata, backend_extension};
use burn::tensor::{DType, Device, FloatDType, Tensor};

/// Product `x W` with both inputs rounded to bfloat16, accumulated and returned in f32.
///
/// ```text
/// y_ij = sum over k of bf16(x_ik) bf16(w_kj)
/// dL/dx = bf16(dL/dy) bf16(W)^T,   dL/dW = bf16(x)^T bf16(dL/dy)
/// ```
///
/// The backward pass treats the rounding as the identity and saves the rounded inputs. burn's own
/// product of bfloat16 tensors rounds its result to bfloat16.
///
/// # Shapes
///
/// - x: `[.., n, in]`; weight: `[.., in, out]`; output: `[.., n, out]` in f32 for all input dtypes;
///   the leading dimensions are equal
///
/// # References
///
/// - [Mixed Precision Training](https://arxiv.org/abs/1710.03740), section 3.3
pub(crate) fn matmul_bf16<const D: usize>(x: Tensor<D>, weight: Tensor<D>) -> Tensor<D> {
    Tensor::from_dispatch(Dispatch::matmul_bf16(x.into_dispatch(), weight.into_dispatch()))
}

/// Rounds a tensor as [`matmul_bf16`] does, so that several products share one rounding. Returns
/// the tensor unchanged on a device without bfloat16.
///
/// # Shapes
///
/// - x, output: any, equal
pub(crate) fn to_matmul_dtype<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    Tensor::from_dispatch(Dispatch::to_matmul_dtype(x.into_dispatch()))
}

/// Dtype of the result of [`to_matmul_dtype`] on a device.
pub(crate) fn matmul_dtype(device: &Device) -> DType {
    if device.supports_dtype(DType::BF16) { DType::BF16 } else { DType::F32 }
}

/// [`matmul_bf16`] on a backend.
#[backend_extension(
    Cube: cfg(feature = "accelerator"),
    Flex: cfg(feature = "flex"),
    Autodiff,
    Fusion: cfg(feature = "accelerator")
)]
pub(crate) trait MatmulBf16: Backend {
    #[fusion(dtype = burn::tensor::DType::F32, shape = matmul_shape(x, weight))]
    fn matmul_bf16(x: FloatTensor<Self>, weight: FloatTensor<Self>) -> FloatTensor<Self>;

    #[fusion(default)]
    fn to_matmul_dtype(x: FloatTensor<Self>) -> FloatTensor<Self> {
        if Self::supports_dtype(&x.device(), DType::BF16) {
            Self::float_cast(x, FloatDType::BF16)
        } else {
            x
        }
    }
}

#[cfg(feature = "flex")]
impl MatmulBf16 for burn::backend::Flex {
    /// Products of two bfloat16 numbers are exact in f32.
    fn matmul_bf16(x: FloatTensor<Self>, weight: FloatTensor<Self>) -> FloatTensor<Self> {
        use burn::backend::ops::FloatTensorOps;

        let widened = |it| Self::float_cast(Self::to_matmul_dtype(it), FloatDType::F32);
        Self::float_matmul(widened(x), widened(weight))
    }
}

#[cfg(feature = "accelerator")]
fn matmul_shape(x: &burn::tensor::Shape, weight: &burn::tensor::Shape) -> burn::tensor::Shape {
    let mut shape = x.clone();
    let last = shape.num_dims() - 1;
    shape[last] = weight[last];
    shape
}

#[cfg(feature = "accelerator")]
impl MatmulBf16 for burn_cubecl::CubeBackend {
    fn matmul_bf16(x: FloatTensor<Self>, weight: FloatTensor<Self>) -> FloatTensor<Self> {
        use burn_cubecl::kernel::matmul::{MatmulStrategy, matmul};

        let (x, weight) = (Self::to_matmul_dtype(x), Self::to_matmul_dtype(weight));
        matmul(x, weight, None, MatmulStrategy::default(), DType::F32)
            .expect("burn has a kernel for every shape of matrices")
    }
}

#[derive(Debug)]
struct MatmulBf16Backward;

impl<B: MatmulBf16> Backward<B, 2> for MatmulBf16Backward {
    /// Rounded x and weight, each saved if the gradient of the other is needed.
    type State = (Option<FloatTensor<B>>, Option<FloatTensor<B>>);

    fn backward(
        self,
        ops: Ops<Self::State, 2>,
        grads: &mut Gradients,
        _checkpointer: &mut Checkpointer,
    ) {
        let (x, weight) = ops.state;
        let [x_node, weight_node] = ops.parents;
        let upstream = B::to_matmul_dtype(grads.consume::<B>(&ops.node));
        if let (Some(node), Some(weight)) = (x_node, weight) {
            let gradient = B::matmul_bf16(upstream.clone(), B::float_transpose(weight));
            grads.register::<B>(node.id, gradient);
        }
        if let (Some(node), Some(x)) = (weight_node, x) {
            grads.register::<B>(node.id, B::matmul_bf16(B::float_transpose(x), upstream));
        }
    }
}

impl<B: MatmulBf16, C: CheckpointStrategy> MatmulBf16 for Autodiff<B, C> {
    fn matmul_bf16(x: FloatTensor<Self>, weight: FloatTensor<Self>) -> FloatTensor<Self> {
        let prepared = MatmulBf16Backward.prepare::<C>([x.node(), weight.node()]).compute_bound();
        let (x_tracked, weight_tracked) = (x.is_tracked(), weight.is_tracked());
        let (x, weight) =
            (B::to_matmul_dtype(x.into_primitive()), B::to_matmul_dtype(weight.into_primitive()));
        match prepared.stateful() {
            OpsKind::Tracked(prep) => {
                let kept_x = weight_tracked.then(|| x.clone());
                let kept_weight = x_tracked.then(|| weight.clone());
                prep.finish((kept_x, kept_weight), B::matmul_bf16(x, weight))
            }
            OpsKind::UnTracked(prep) => prep.finish(B::matmul_bf16(x, weight)),
        }
    }
}

#[cfg(test)]
#[cfg(feature = "flex")]
mod tests {
    use super::*;

    /// 1 + 2^-9 rounds to 1 and 3 + 2^-6 to itself. Sums are not rounded: 256 + 1/2 would be
    /// rounded to 256.
    #[test]
    fn rounds_inputs_and_not_results() {
        let device = Device::flex().autodiff();
        let x = Tensor::<2>::from_floats([[1.0 + 2_f32.powi(-9), 256.0]], &device).require_grad();
        let weight = Tensor::<2>::from_floats([[0.5, 3.0 + 2_f32.powi(-6)], [1.0, 0.0]], &device);
        let weight = weight.require_grad();
        let y = matmul_bf16(x.clone(), weight.clone());
        let numbers = |it: Tensor<2>| it.into_data().iter::<f32>().collect::<Vec<_>>();
        assert_eq!(numbers(y.clone().inner()), [256.5, 3.015_625]);
        // An upstream gradient of 1 and 257; 257 rounds to 256, half way to the even mantissa.
        let upstream = Tensor::<2>::from_floats([[1.0, 257.0]], &device);
        let mut grads = (y * upstream).sum().backward();
        let x_grads = x.grad_remove(&mut grads).expect("it is a leaf");
        assert_eq!(numbers(x_grads), [0.5 + 256.0 * 3.015_625, 1.0]);
        let weight_grads = weight.grad_remove(&mut grads).expect("it is a leaf");
        assert_eq!(numbers(weight_grads), [1.0, 256.0, 256.0, 65_536.0]);
    }

    #[test]
    fn frozen_inputs_get_no_gradient() {
        let device = Device::flex().autodiff();
        let x = Tensor::<2>::ones([2, 3], &device).require_grad();
        let frozen = Tensor::<2>::ones([3, 4], &device);
        let mut grads = matmul_bf16(x.clone(), frozen.clone()).sum().backward();
        assert_eq!(x.grad_remove(&mut grads).map(|it| it.sum().into_scalar::<f32>()), Some(24.0));
        assert!(frozen.grad(&grads).is_none());
    }
}
