//! SwiGLU with a gradient that saves only its two inputs.

use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::autodiff::{Autodiff, NodeId};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, Dispatch, TensorMetadata, backend_extension};
use burn::tensor::Tensor;

/// SwiGLU activation, `silu(gate) up`.
///
/// ```text
/// y = a p u,   p = 1 / (1 + exp(-a))
/// dL/da = g u p (1 + a (1 - p)),   dL/du = g a p,   g = dL/dy
/// ```
///
/// Autodiff would save four more tensors of this size. On backends with fusion each line above is
/// one kernel.
///
/// # Shapes
///
/// - gate (a), up (u), output: the same, any
///
/// # References
///
/// - [GLU Variants Improve Transformer](https://arxiv.org/abs/2002.05202), equation 6
pub(crate) fn swiglu(gate: Tensor<2>, up: Tensor<2>) -> Tensor<2> {
    Tensor::from_dispatch(Dispatch::swiglu(gate.into_dispatch(), up.into_dispatch()))
}

/// [`swiglu`] on a backend.
#[backend_extension(
    Cube: cfg(feature = "accelerator"),
    Flex: cfg(feature = "flex"),
    Autodiff,
    Fusion: cfg(feature = "accelerator")
)]
pub(crate) trait GatedUnit: Backend {
    #[fusion(default)]
    fn swiglu(gate: FloatTensor<Self>, up: FloatTensor<Self>) -> FloatTensor<Self> {
        let open = Self::sigmoid(gate.clone());
        Self::float_mul(Self::float_mul(gate, open), up)
    }

    /// Gradients of gate and up.
    #[fusion(default)]
    fn swiglu_backward(
        gate: FloatTensor<Self>,
        up: FloatTensor<Self>,
        upstream: FloatTensor<Self>,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        let open = Self::sigmoid(gate.clone());
        let closed = Self::float_add_scalar(Self::float_neg(open.clone()), 1.0_f32.into());
        let slope = Self::float_add_scalar(Self::float_mul(gate.clone(), closed), 1.0_f32.into());
        let slope = Self::float_mul(open.clone(), slope);
        let gate_grads = Self::float_mul(Self::float_mul(upstream.clone(), up), slope);
        (gate_grads, Self::float_mul(upstream, Self::float_mul(gate, open)))
    }
}

#[cfg(feature = "flex")]
impl GatedUnit for burn::backend::Flex {
    fn swiglu(gate: FloatTensor<Self>, up: FloatTensor<Self>) -> FloatTensor<Self> {
        use rayon::prelude::*;

        use crate::cpu::{elementwise, slices};

        let (shape, part) = (gate.shape(), slices::part_len(1));
        let of = [gate, up].map(slices::contiguous);
        let [gate, up] = of.each_ref().map(slices::elements);
        let mut out = vec![0.0; gate.len()];
        let inputs = gate.par_chunks(part).zip(up.par_chunks(part));
        inputs
            .zip(out.par_chunks_mut(part))
            .for_each(|((gate, up), out)| elementwise::swiglu(gate, up, out));
        slices::tensor(out, shape)
    }

    fn swiglu_backward(
        gate: FloatTensor<Self>,
        up: FloatTensor<Self>,
        upstream: FloatTensor<Self>,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        use rayon::prelude::*;

        use crate::cpu::{elementwise, slices};

        let (shape, part) = (gate.shape(), slices::part_len(1));
        let of = [gate, up, upstream].map(slices::contiguous);
        let [gate, up, upstream] = of.each_ref().map(slices::elements);
        let [mut gate_grads, mut up_grads] = [(); 2].map(|()| vec![0.0; gate.len()]);
        let inputs = gate.par_chunks(part).zip(up.par_chunks(part)).zip(upstream.par_chunks(part));
        inputs.zip(gate_grads.par_chunks_mut(part).zip(up_grads.par_chunks_mut(part))).for_each(
            |(((gate, up), upstream), (gate_grads, up_grads))| {
                elementwise::swiglu_backward(gate, up, upstream, [gate_grads, up_grads]);
            },
        );
        (slices::tensor(gate_grads, shape.clone()), slices::tensor(up_grads, shape))
    }
}

#[cfg(feature = "accelerator")]
impl GatedUnit for burn_cubecl::CubeBackend {}

#[derive(Debug)]
struct GatedUnitBackward;

impl<B: GatedUnit> Backward<B, 2> for GatedUnitBackward {
    type State = (NodeId, NodeId);

    fn backward(
        self,
        ops: Ops<Self::State, 2>,
        grads: &mut Gradients,
        checkpointer: &mut Checkpointer,
    ) {
        let (gate, up) = ops.state;
        let [gate_node, up_node] = ops.parents;
        let upstream = grads.consume::<B>(&ops.node);
        let gate: FloatTensor<B> = checkpointer.retrieve_node_output(gate);
        let up: FloatTensor<B> = checkpointer.retrieve_node_output(up);
        let (gate_grads, up_grads) = B::swiglu_backward(gate, up, upstream);
        if let Some(node) = gate_node {
            grads.register::<B>(node.id, gate_grads);
        }
        if let Some(node) = up_node {
            grads.register::<B>(node.id, up_grads);
        }
    }
}

impl<B: GatedUnit, C: CheckpointStrategy> GatedUnit for Autodiff<B, C> {
    fn swiglu(gate: FloatTensor<Self>, up: FloatTensor<Self>) -> FloatTensor<Self> {
        let prepared = GatedUnitBackward.prepare::<C>([gate.node(), up.node()]).compute_bound();
        match prepared.stateful() {
            OpsKind::Tracked(mut prep) => {
                let state = (prep.checkpoint(&gate), prep.checkpoint(&up));
                prep.finish(state, B::swiglu(gate.into_primitive(), up.into_primitive()))
            }
            OpsKind::UnTracked(prep) => {
                prep.finish(B::swiglu(gate.into_primitive(), up.into_primitive()))
            }
        }
    }
}
