//! Matrix products in f32, or of bfloat16 inputs with f32 accumulation and output.

use burn::backend::autodiff::Autodiff;
use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, Dispatch, TensorMetadata, backend_extension};
use burn::tensor::{DType, Device, FloatDType, Tensor};

use crate::ComputeDtype;
use crate::workers::is_host;

/// Product `x W`, or `x W^T` if the weight is stored `transposed`, accumulated and returned in f32.
///
/// ```text
/// f32:   y_ij = sum over k of x_ik w_kj
/// bf16:  y_ij = sum over k of bf16(x_ik) bf16(w_kj)
///        dL/dx = bf16(dL/dy) bf16(W)^T,   dL/dW = bf16(x)^T bf16(dL/dy)
/// ```
///
/// In bf16 the backward pass treats the rounding as the identity and saves the rounded inputs. burn's
/// own product of bfloat16 tensors rounds its result to bfloat16.
///
/// # Shapes
///
/// - x: `[.., n, in]`; weight: `[.., in, out]`, transposed `[.., out, in]`; output: `[.., n, out]` in
///   f32 for all input dtypes; the leading dimensions are equal
///
/// # References
///
/// - [Mixed Precision Training](https://arxiv.org/abs/1710.03740), section 3.3
pub(crate) fn product<const D: usize>(
    x: Tensor<D>,
    weight: Tensor<D>,
    transposed: bool,
    compute_dtype: ComputeDtype,
) -> Tensor<D> {
    // Backends with fusion merge their own product with the operations around it.
    if compute_dtype != ComputeDtype::Bf16 && !is_host(&x.device()) {
        return x.matmul(if transposed { weight.transpose() } else { weight });
    }
    Tensor::from_dispatch(Dispatch::product(
        x.into_dispatch(),
        weight.into_dispatch(),
        transposed,
        compute_dtype,
    ))
}

/// Dtype that [`product`] rounds to in bf16: f32 on a device without bfloat16.
pub(crate) fn matmul_dtype(device: &Device) -> DType {
    if device.supports_dtype(DType::BF16) { DType::BF16 } else { DType::F32 }
}

/// Tensor in the [dtype of products](matmul_dtype), rounded once for all of them; unchanged for f32.
pub(crate) fn rounded_to<const D: usize>(x: Tensor<D>, dtype: DType) -> Tensor<D> {
    if dtype == DType::F32 {
        return x;
    }
    Tensor::from_dispatch(Dispatch::to_matmul_dtype(x.into_dispatch()))
}

/// [`product`] on a backend.
#[backend_extension(
    Cube: cfg(feature = "accelerator"),
    Flex: cfg(feature = "flex"),
    Autodiff,
    Fusion: cfg(feature = "accelerator")
)]
pub(crate) trait Product: Backend {
    #[fusion(dtype = burn::tensor::DType::F32, shape = product_shape(x, weight, *transposed))]
    fn product(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        transposed: bool,
        compute_dtype: ComputeDtype,
    ) -> FloatTensor<Self>;

    /// Rounds an input as [`product`](Self::product) does in bf16, so that several products share one
    /// rounding. Returns the tensor unchanged on a device without bfloat16.
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
impl Product for burn::backend::Flex {
    fn product(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        transposed: bool,
        compute_dtype: ComputeDtype,
    ) -> FloatTensor<Self> {
        use burn::backend::ops::FloatTensorOps;

        use crate::cpu::product::{Matrix, MatrixMut, Write, product, product_bf16};
        use crate::cpu::slices::{is_bf16, matrix, tensor};

        let weight = if transposed { Self::float_transpose(weight) } else { weight };
        let as_bf16 = |it| if is_bf16(&it) { it } else { Self::float_cast(it, FloatDType::BF16) };
        let as_f32 = |it| if is_bf16(&it) { Self::float_cast(it, FloatDType::F32) } else { it };
        if x.shape().num_dims() != 2 {
            let [x, weight] = match compute_dtype {
                ComputeDtype::Bf16 => [x, weight].map(as_bf16),
                ComputeDtype::F32 | ComputeDtype::Auto => [x, weight],
            };
            return Self::float_matmul(as_f32(x), as_f32(weight));
        }
        let shape = [x.shape()[0], weight.shape()[1]];
        let out = match compute_dtype {
            ComputeDtype::F32 | ComputeDtype::Auto => {
                let (x, weight) = (as_f32(x), as_f32(weight));
                let mut out = vec![0.0; shape[0] * shape[1]];
                let (x, weight): (Matrix<'_>, Matrix<'_>) = (matrix(&x), matrix(&weight));
                product(MatrixMut::of(&mut out, shape[1]), x, weight, Write::Replace);
                out
            }
            ComputeDtype::Bf16 => {
                let (x, weight) = (as_bf16(x), as_bf16(weight));
                product_bf16(matrix(&x), matrix(&weight))
            }
        };
        tensor(out, shape)
    }

    fn to_matmul_dtype(x: FloatTensor<Self>) -> FloatTensor<Self> {
        use burn::backend::ops::FloatTensorOps;
        use half::bf16;
        use rayon::prelude::*;

        use crate::cpu::{elementwise, slices};

        if slices::is_bf16(&x) {
            return x;
        }
        if !x.is_contiguous() && x.shape().num_dims() == 2 {
            let transposed = Self::float_transpose(x.clone());
            if transposed.is_contiguous() {
                return Self::float_transpose(Self::to_matmul_dtype(transposed));
            }
        }
        let (shape, x) = (x.shape(), slices::contiguous(x));
        let (values, part) = (slices::elements(&x), slices::part_len(1));
        let mut out = vec![bf16::ZERO; values.len()];
        values
            .par_chunks(part)
            .zip(out.par_chunks_mut(part))
            .for_each(|(values, out)| elementwise::round(values, out));
        slices::tensor(out, shape)
    }
}

#[cfg(feature = "accelerator")]
fn product_shape(
    x: &burn::tensor::Shape,
    weight: &burn::tensor::Shape,
    transposed: bool,
) -> burn::tensor::Shape {
    let mut shape = x.clone();
    let last = shape.num_dims() - 1;
    shape[last] = weight[if transposed { last - 1 } else { last }];
    shape
}

#[cfg(feature = "accelerator")]
impl Product for burn_cubecl::CubeBackend {
    fn product(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        transposed: bool,
        compute_dtype: ComputeDtype,
    ) -> FloatTensor<Self> {
        use burn::backend::ops::FloatTensorOps;
        use burn_cubecl::kernel::matmul::{MatmulStrategy, matmul};

        let weight = if transposed { Self::float_transpose(weight) } else { weight };
        let (x, weight) = match compute_dtype {
            ComputeDtype::F32 | ComputeDtype::Auto => (x, weight),
            ComputeDtype::Bf16 => (Self::to_matmul_dtype(x), Self::to_matmul_dtype(weight)),
        };
        matmul(x, weight, None, MatmulStrategy::default(), DType::F32)
            .expect("burn has a kernel for every shape of matrices")
    }
}

#[derive(Debug)]
struct ProductBackward;

impl<B: Product> Backward<B, 2> for ProductBackward {
    /// The inputs, each saved if the gradient of the other is needed; in bf16 rounded.
    type State = (Option<FloatTensor<B>>, Option<FloatTensor<B>>, bool, ComputeDtype);

    fn backward(
        self,
        ops: Ops<Self::State, 2>,
        grads: &mut Gradients,
        _checkpointer: &mut Checkpointer,
    ) {
        let (x, weight, transposed, compute_dtype) = ops.state;
        let [x_node, weight_node] = ops.parents;
        let upstream = rounded::<B>(grads.consume::<B>(&ops.node), compute_dtype);
        if let (Some(node), Some(weight)) = (x_node, weight) {
            let gradient = B::product(upstream.clone(), weight, !transposed, compute_dtype);
            grads.register::<B>(node.id, gradient);
        }
        if let (Some(node), Some(x)) = (weight_node, x) {
            let (a, b) = if transposed { (upstream, x) } else { (x, upstream) };
            let gradient = B::product(B::float_transpose(a), b, false, compute_dtype);
            grads.register::<B>(node.id, gradient);
        }
    }
}

pub(super) fn rounded<B: Product>(
    it: FloatTensor<B>,
    compute_dtype: ComputeDtype,
) -> FloatTensor<B> {
    if compute_dtype == ComputeDtype::Bf16 { B::to_matmul_dtype(it) } else { it }
}

impl<B: Product, C: CheckpointStrategy> Product for Autodiff<B, C> {
    fn product(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        transposed: bool,
        compute_dtype: ComputeDtype,
    ) -> FloatTensor<Self> {
        let prepared = ProductBackward.prepare::<C>([x.node(), weight.node()]).compute_bound();
        let (x_tracked, weight_tracked) = (x.is_tracked(), weight.is_tracked());
        let [x, weight] = [x, weight].map(|it| rounded::<B>(it.into_primitive(), compute_dtype));
        match prepared.stateful() {
            OpsKind::Tracked(prep) => {
                let kept_x = weight_tracked.then(|| x.clone());
                let kept_weight = x_tracked.then(|| weight.clone());
                let output = B::product(x, weight, transposed, compute_dtype);
                prep.finish((kept_x, kept_weight, transposed, compute_dtype), output)
            }
            OpsKind::UnTracked(prep) => {
                prep.finish(B::product(x, weight, transposed, compute_dtype))
            }
        }
    }

    fn to_matmul_dtype(x: FloatTensor<Self>) -> FloatTensor<Self> {
        let prepared = RoundingBackward.prepare::<C>([x.node()]).compute_bound();
        let rounded = B::to_matmul_dtype(x.into_primitive());
        match prepared.stateful() {
            OpsKind::Tracked(prep) => prep.finish((), rounded),
            OpsKind::UnTracked(prep) => prep.finish(rounded),
        }
    }
}

/// Treats rounding as the identity.
#[derive(Debug)]
struct RoundingBackward;

impl<B: Product> Backward<B, 1> for RoundingBackward {
    type State = ();

    fn backward(
        self,
        ops: Ops<Self::State, 1>,
        grads: &mut Gradients,
        _checkpointer: &mut Checkpointer,
    ) {
        let upstream = grads.consume::<B>(&ops.node);
        if let [Some(node)] = ops.parents {
            grads.register::<B>(node.id, upstream);
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
        let y = product(x.clone(), weight.clone(), false, ComputeDtype::Bf16);
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
        let mut grads =
            product(x.clone(), frozen.clone(), false, ComputeDtype::Bf16).sum().backward();
        assert_eq!(x.grad_remove(&mut grads).map(|it| it.sum().into_scalar::<f32>()), Some(24.0));
        assert!(frozen.grad(&grads).is_none());
    }
}
