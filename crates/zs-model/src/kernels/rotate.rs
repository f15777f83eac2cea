//! Rotary position embedding in one pass.

use burn::backend::autodiff::Autodiff;
use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, Dispatch, backend_extension};
use burn::tensor::Tensor;

/// Rotates the two halves of each head against each other and scales the result.
///
/// ```text
/// y_i     = s (x_i cos_i - x_(i+h) sin_i)
/// y_(i+h) = s (x_(i+h) cos_i + x_i sin_i),   h = head_dim / 2,   i < h
/// ```
///
/// The gradient is the inverse rotation with the same scale. Cosines and sines get no gradient.
///
/// # Shapes
///
/// - x, output: `[rows, new, heads, head_dim]`
/// - cos, sin: `[rows or 1, new, 1, h]`
///
/// # References
///
/// - [RoFormer](https://arxiv.org/abs/2104.09864), equation 34, with halves of a head in place of
///   adjacent elements
pub(crate) fn rotate(x: Tensor<4>, cos: Tensor<4>, sin: Tensor<4>, scale: f64) -> Tensor<4> {
    Tensor::from_dispatch(Dispatch::rotate(
        x.into_dispatch(),
        cos.into_dispatch(),
        sin.into_dispatch(),
        scale as f32,
    ))
}

/// [`rotate`] on a backend.
#[backend_extension(
    Cube: cfg(feature = "accelerator"),
    Flex: cfg(feature = "flex"),
    Autodiff,
    Fusion: cfg(feature = "accelerator")
)]
pub(crate) trait Rotation: Backend {
    #[fusion(dtype = x, shape = x)]
    fn rotate(
        x: FloatTensor<Self>,
        cos: FloatTensor<Self>,
        sin: FloatTensor<Self>,
        scale: f32,
    ) -> FloatTensor<Self>;
}

#[cfg(feature = "flex")]
impl Rotation for burn::backend::Flex {
    fn rotate(
        x: FloatTensor<Self>,
        cos: FloatTensor<Self>,
        sin: FloatTensor<Self>,
        scale: f32,
    ) -> FloatTensor<Self> {
        use burn::backend::TensorMetadata;

        use crate::cpu::{elementwise, slices};

        let shape = x.shape();
        let (heads, head_dim) = (shape[2], shape[3]);
        let of = [x, cos, sin].map(slices::contiguous);
        let [x, cos, sin] = of.each_ref().map(slices::elements);
        let mut y = x.to_vec();
        // Angles are shared by all rows, or given for each row.
        for y in y.chunks_mut((cos.len() * 2 * heads).max(1)) {
            elementwise::rotate(y, heads, head_dim / 2, (cos, sin), scale);
        }
        slices::tensor(y, shape)
    }
}

#[derive(Debug)]
struct RotationBackward;

impl<B: Rotation> Backward<B, 1> for RotationBackward {
    type State = (FloatTensor<B>, FloatTensor<B>, f32);

    fn backward(
        self,
        ops: Ops<Self::State, 1>,
        grads: &mut Gradients,
        _checkpointer: &mut Checkpointer,
    ) {
        let (cos, sin, scale) = ops.state;
        let upstream = grads.consume::<B>(&ops.node);
        if let [Some(node)] = ops.parents {
            grads.register::<B>(node.id, B::rotate(upstream, cos, B::float_neg(sin), scale));
        }
    }
}

impl<B: Rotation, C: CheckpointStrategy> Rotation for Autodiff<B, C> {
    fn rotate(
        x: FloatTensor<Self>,
        cos: FloatTensor<Self>,
        sin: FloatTensor<Self>,
        scale: f32,
    ) -> FloatTensor<Self> {
        let (cos, sin) = (cos.into_primitive(), sin.into_primitive());
        let forward = B::rotate(x.primitive().clone(), cos.clone(), sin.clone(), scale);
        match RotationBackward.prepare::<C>([x.node()]).compute_bound().stateful() {
            OpsKind::Tracked(prep) => prep.finish((cos, sin, scale), forward),
            OpsKind::UnTracked(prep) => prep.finish(forward),
        }
    }
}

#[cfg(feature = "accelerator")]
mod kernel {
    use burn::backend::tensor::FloatTensor;
    use burn_cubecl::CubeBackend;
    use burn_cubecl::kernel::into_contiguous;
    use burn_cubecl::ops::numeric::empty_device_contiguous_dtype;
    use cubecl::calculate_cube_count_elemwise;
    use cubecl::prelude::*;

    use super::Rotation;

    impl Rotation for CubeBackend {
        fn rotate(
            x: FloatTensor<Self>,
            cos: FloatTensor<Self>,
            sin: FloatTensor<Self>,
            scale: f32,
        ) -> FloatTensor<Self> {
            let (x, cos, sin) = (into_contiguous(x), into_contiguous(cos), into_contiguous(sin));
            let shape = x.meta.shape().clone();
            let pairs = shape[0] * shape[1] * shape[2] * shape[3] / 2;
            let client = x.client.clone();
            let output =
                empty_device_contiguous_dtype(client.clone(), x.device.clone(), shape, x.dtype);
            let units = CubeDim::new(&client, pairs);
            rotate_kernel::launch(
                &client,
                calculate_cube_count_elemwise(&client, pairs, units),
                units,
                x.into_tensor_arg(),
                cos.into_tensor_arg(),
                sin.into_tensor_arg(),
                output.clone().into_tensor_arg(),
                scale,
            );
            output
        }
    }

    /// One unit per pair of elements.
    #[cube(launch)]
    fn rotate_kernel(
        x: &Tensor<f32>,
        cos: &Tensor<f32>,
        sin: &Tensor<f32>,
        output: &mut Tensor<f32>,
        scale: f32,
    ) {
        let half = x.shape(3) / 2;
        let heads = x.shape(2);
        let new = x.shape(1);
        let head = ABSOLUTE_POS / half;
        if head >= x.shape(0) * new * heads {
            terminate!();
        }
        let index = ABSOLUTE_POS % half;
        let token = head / heads;
        // Angles are shared by all rows, or given for each row.
        let angle = if cos.shape(0) == 1 { token % new } else { token } * half + index;
        let first = head * (2 * half) + index;
        let second = first + half;
        let (c, s) = (cos[angle], sin[angle]);
        output[first] = scale * (x[first] * c - x[second] * s);
        output[second] = scale * (x[second] * c + x[first] * s);
    }
}
