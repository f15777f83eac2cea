//! SwiGLU with a gradient that saves only its two inputs.

use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::autodiff::{Autodiff, NodeId};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, Dispatch, backend_extension};
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
}

#[cfg(feature = "flex")]
impl GatedUnit for burn::backend::Flex {}

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
        let open = B::sigmoid(gate.clone());
        if let Some(node) = gate_node {
            let closed = B::float_add_scalar(B::float_neg(open.clone()), 1.0_f32.into());
            let slope = B::float_add_scalar(B::float_mul(gate.clone(), closed), 1.0_f32.into());
            let slope = B::float_mul(open.clone(), slope);
            let gradient = B::float_mul(B::float_mul(upstream.clone(), up), slope);
            grads.register::<B>(node.id, gradient);
        }
        if let Some(node) = up_node {
            grads.register::<B>(node.id, B::float_mul(upstream, B::float_mul(gate, open)));
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
