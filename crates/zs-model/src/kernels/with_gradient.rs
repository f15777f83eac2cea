//! Backward pass from a given gradient of a tensor, instead of from a scalar.

use burn::backend::autodiff::Autodiff;
use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, Dispatch, TensorMetadata, backend_extension};
use burn::tensor::{FloatDType, Shape, Tensor};

/// Scalar 0 whose gradient with respect to `x` is `upstream`.
///
/// ```text
/// y = 0,   dL/dx = upstream
/// ```
///
/// burn's backward pass starts from a scalar. `sum(x * upstream)` has the same gradient, at the price
/// of three more passes over tensors of this size.
///
/// # Shapes
///
/// - x, upstream: the same, any; output: `[1]`
pub(crate) fn with_gradient(x: Tensor<2>, upstream: Tensor<2>) -> Tensor<1> {
    debug_assert_eq!(x.dims(), upstream.dims());
    Tensor::from_dispatch(Dispatch::with_gradient(x.into_dispatch(), upstream.into_dispatch()))
}

/// [`with_gradient`] on a backend.
#[backend_extension(
    Cube: cfg(feature = "accelerator"),
    Flex: cfg(feature = "flex"),
    Autodiff,
    Fusion: cfg(feature = "accelerator")
)]
pub(crate) trait GradientStart: Backend {
    #[fusion(default)]
    fn with_gradient(x: FloatTensor<Self>, _upstream: FloatTensor<Self>) -> FloatTensor<Self> {
        Self::float_zeros(Shape::new([1]), &x.device(), FloatDType::F32)
    }
}

#[cfg(feature = "flex")]
impl GradientStart for burn::backend::Flex {}

#[cfg(feature = "accelerator")]
impl GradientStart for burn_cubecl::CubeBackend {}

#[derive(Debug)]
struct GradientStartBackward;

impl<B: GradientStart> Backward<B, 1> for GradientStartBackward {
    /// Gradient of the input.
    type State = FloatTensor<B>;

    fn backward(
        self,
        ops: Ops<Self::State, 1>,
        grads: &mut Gradients,
        _checkpointer: &mut Checkpointer,
    ) {
        let _ = grads.consume::<B>(&ops.node);
        if let [Some(node)] = ops.parents {
            grads.register::<B>(node.id, ops.state);
        }
    }
}

impl<B: GradientStart, C: CheckpointStrategy> GradientStart for Autodiff<B, C> {
    fn with_gradient(x: FloatTensor<Self>, upstream: FloatTensor<Self>) -> FloatTensor<Self> {
        let prepared = GradientStartBackward.prepare::<C>([x.node()]).compute_bound();
        let upstream = upstream.into_primitive();
        match prepared.stateful() {
            OpsKind::Tracked(prep) => {
                let output = B::with_gradient(x.into_primitive(), upstream.clone());
                prep.finish(upstream, output)
            }
            OpsKind::UnTracked(prep) => prep.finish(B::with_gradient(x.into_primitive(), upstream)),
        }
    }
}

#[cfg(test)]
#[cfg(feature = "flex")]
mod tests {
    use burn::tensor::Device;

    use super::*;

    /// `x = w^2`, so `dL/dw = 2 w dL/dx`.
    #[test]
    fn the_backward_pass_starts_from_the_given_gradient() {
        let device = Device::flex().autodiff();
        let w = Tensor::<2>::from_floats([[1.0, -2.0, 3.0]], &device).require_grad();
        let upstream = Tensor::<2>::from_floats([[0.5, 4.0, -1.0]], &device);
        let mut grads = with_gradient(w.clone() * w.clone(), upstream).backward();
        let grads = w.grad_remove(&mut grads).expect("it is a leaf").into_data();
        assert_eq!(grads.iter::<f32>().collect::<Vec<_>>(), [1.0, -16.0, -6.0]);
    }
}
