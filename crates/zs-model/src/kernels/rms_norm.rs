//! RMS norm in one pass, with a gradient that saves only the input.

use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::autodiff::{Autodiff, NodeId};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, Dispatch, TensorMetadata, backend_extension};
use burn::tensor::{Shape, Tensor};

/// RMS norm of each row.
///
/// ```text
/// y = x r w,   r = 1 / sqrt(mean(x^2) + eps)
/// dL/dx = r (g w - x r mean(g w x r)),   dL/dw = sum over rows of g x r,   g = dL/dy
/// ```
///
/// # Shapes
///
/// - x, output: `[n, width]`; weight: `[width]`
///
/// # References
///
/// - [Root Mean Square Layer Normalization](https://arxiv.org/abs/1910.07467), equations 4 and 8
pub(crate) fn rms_norm(x: Tensor<2>, weight: Tensor<1>, eps: f64) -> Tensor<2> {
    Tensor::from_dispatch(Dispatch::rms_norm(x.into_dispatch(), weight.into_dispatch(), eps as f32))
}

/// [`rms_norm`] on a backend.
#[backend_extension(
    Cube: cfg(feature = "accelerator"),
    Flex: cfg(feature = "flex"),
    Autodiff,
    Fusion: cfg(feature = "accelerator")
)]
pub(crate) trait Norm: Backend {
    #[fusion(dtype = x, shape = x)]
    fn rms_norm(x: FloatTensor<Self>, weight: FloatTensor<Self>, eps: f32) -> FloatTensor<Self>;

    /// Gradients of x and weight.
    #[fusion(default)]
    fn rms_norm_backward(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        eps: f32,
        upstream: FloatTensor<Self>,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        let width = x.shape()[1];
        let (normed, root) = normed::<Self>(x, eps);
        let weight = Self::float_reshape(weight, Shape::new([1, width]));
        let weighted = Self::float_mul(upstream.clone(), weight);
        let mean = Self::float_mean_dim(Self::float_mul(weighted.clone(), normed.clone()), 1);
        let along = Self::float_mul(normed.clone(), mean);
        let sum = Self::float_sum_dim(Self::float_mul(upstream, normed), 0);
        (
            Self::float_div(Self::float_sub(weighted, along), root),
            Self::float_reshape(sum, Shape::new([width])),
        )
    }
}

#[cfg(feature = "flex")]
impl Norm for burn::backend::Flex {
    fn rms_norm(x: FloatTensor<Self>, weight: FloatTensor<Self>, eps: f32) -> FloatTensor<Self> {
        use rayon::prelude::*;

        use crate::cpu::{elementwise, slices};

        let (shape, part) = (x.shape(), slices::part_len(weight.shape()[0]));
        let (x, weight) = (slices::contiguous(x), slices::contiguous(weight));
        let (x, weight) = (slices::elements(&x), slices::elements(&weight));
        let mut y = vec![0.0; x.len()];
        x.par_chunks(part)
            .zip(y.par_chunks_mut(part))
            .for_each(|(x, y)| elementwise::rms_norm(x, weight, eps, y));
        slices::tensor(y, shape)
    }

    fn rms_norm_backward(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        eps: f32,
        upstream: FloatTensor<Self>,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        use crate::cpu::{elementwise, slices};

        let (shape, width) = (x.shape(), weight.shape());
        let of = [x, weight, upstream].map(slices::contiguous);
        let [x, weight, upstream] = of.each_ref().map(slices::elements);
        let (mut x_grads, mut weight_grads) = (vec![0.0; x.len()], vec![0.0; weight.len()]);
        elementwise::rms_norm_backward(x, weight, eps, upstream, &mut x_grads, &mut weight_grads);
        (slices::tensor(x_grads, shape), slices::tensor(weight_grads, width))
    }
}

/// Returns `x r` and `1 / r`.
fn normed<B: Backend>(x: FloatTensor<B>, eps: f32) -> (FloatTensor<B>, FloatTensor<B>) {
    let mean = B::float_mean_dim(B::float_mul(x.clone(), x.clone()), 1);
    let root = B::float_sqrt(B::float_add_scalar(mean, eps.into()));
    (B::float_div(x, root.clone()), root)
}

#[derive(Debug)]
struct NormBackward;

impl<B: Norm> Backward<B, 2> for NormBackward {
    type State = (NodeId, NodeId, f32);

    fn backward(
        self,
        ops: Ops<Self::State, 2>,
        grads: &mut Gradients,
        checkpointer: &mut Checkpointer,
    ) {
        let (x, weight, eps) = ops.state;
        let [x_node, weight_node] = ops.parents;
        let upstream = grads.consume::<B>(&ops.node);
        let x: FloatTensor<B> = checkpointer.retrieve_node_output(x);
        let weight: FloatTensor<B> = checkpointer.retrieve_node_output(weight);
        let (x_grads, weight_grads) = B::rms_norm_backward(x, weight, eps, upstream);
        if let Some(node) = x_node {
            grads.register::<B>(node.id, x_grads);
        }
        if let Some(node) = weight_node {
            grads.register::<B>(node.id, weight_grads);
        }
    }
}

impl<B: Norm, C: CheckpointStrategy> Norm for Autodiff<B, C> {
    fn rms_norm(x: FloatTensor<Self>, weight: FloatTensor<Self>, eps: f32) -> FloatTensor<Self> {
        let prepared = NormBackward.prepare::<C>([x.node(), weight.node()]).compute_bound();
        match prepared.stateful() {
            OpsKind::Tracked(mut prep) => {
                let state = (prep.checkpoint(&x), prep.checkpoint(&weight), eps);
                prep.finish(state, B::rms_norm(x.into_primitive(), weight.into_primitive(), eps))
            }
            OpsKind::UnTracked(prep) => {
                prep.finish(B::rms_norm(x.into_primitive(), weight.into_primitive(), eps))
            }
        }
    }
}

#[cfg(feature = "accelerator")]
mod kernel {
    use burn::backend::tensor::FloatTensor;
    use burn_cubecl::CubeBackend;
    use burn_cubecl::kernel::into_contiguous;
    use burn_cubecl::ops::numeric::empty_device_contiguous_dtype;
    use cubecl::prelude::*;

    use super::super::cube_norm::{norm_scale, one_cube_per_row};
    use super::Norm;

    impl Norm for CubeBackend {
        fn rms_norm(
            x: FloatTensor<Self>,
            weight: FloatTensor<Self>,
            eps: f32,
        ) -> FloatTensor<Self> {
            let (x, weight) = (into_contiguous(x), into_contiguous(weight));
            let shape = x.meta.shape().clone();
            let (rows, width) = (shape[0], shape[1]);
            let client = x.client.clone();
            let output =
                empty_device_contiguous_dtype(client.clone(), x.device.clone(), shape, x.dtype);
            let units = width.next_power_of_two().clamp(32, 128);
            rms_norm_kernel::launch(
                &client,
                one_cube_per_row(rows),
                CubeDim::new_1d(units as u32),
                x.into_tensor_arg(),
                weight.into_tensor_arg(),
                output.clone().into_tensor_arg(),
                eps,
                units,
            );
            output
        }
    }

    /// One cube per row.
    #[cube(launch)]
    fn rms_norm_kernel(
        x: &Tensor<f32>,
        weight: &Tensor<f32>,
        output: &mut Tensor<f32>,
        eps: f32,
        #[comptime] units: usize,
    ) {
        let row = CUBE_POS_Y as usize * CUBE_COUNT_X as usize + CUBE_POS_X as usize;
        if row >= x.shape(0) {
            terminate!();
        }
        let unit = UNIT_POS_X as usize;
        let width = x.shape(1);
        let first = row * width;
        let mut sum = f32::new(0.0);
        let mut at = unit;
        while at < width {
            let number = x[first + at];
            sum += number * number;
            at += units;
        }
        let scale = norm_scale(sum, width as u32, eps, units);
        at = unit;
        while at < width {
            output[first + at] = x[first + at] * scale * weight[at];
            at += units;
        }
    }
}
