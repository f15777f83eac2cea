//! Decoder block, with a backward pass that computes attention outside of autodiff.

use burn::module::Module;
use burn::optim::GradientsParams;
use burn::tensor::{Device, Tensor};

use super::attention::{Attention, causal_bias};
use super::causal::{Attended, CausalBlocks, Heads};
use super::rope::Rotary;
use super::{Decoder, Linear, RmsNorm};
use crate::kernels::swiglu;
use crate::optim::add_gradients;

/// Decoder block: `x + attention(norm(x))`, then `x + mlp(norm(x))`.
#[derive(Module, Debug)]
pub(crate) struct Block {
    pub(crate) self_attn: Attention,
    pub(crate) mlp: FeedForward,
    pub(crate) input_layernorm: RmsNorm,
    pub(crate) post_attention_layernorm: RmsNorm,
}

/// SwiGLU feed-forward layer: `down(silu(gate(x)) * up(x))`.
#[derive(Module, Debug)]
pub(crate) struct FeedForward {
    pub(crate) gate_proj: Linear,
    pub(crate) up_proj: Linear,
    pub(crate) down_proj: Linear,
}

/// Rotary angles and attention mask of whole rows that start at position 0.
pub(crate) struct RowContext {
    shape: [usize; 2],
    rotary: Rotary,
    mask: Mask,
}

/// Causal mask.
enum Mask {
    /// Whole bias, for attention inside an autodiff graph.
    Whole(Box<Tensor<5>>),
    Blocks(CausalBlocks),
}

impl RowContext {
    /// Context for a device with or without autodiff.
    pub(crate) fn new(decoder: &Decoder, shape: [usize; 2], device: &Device) -> Self {
        let [_, seq] = shape;
        let mask = match device.is_autodiff() {
            true => Mask::Whole(Box::new(causal_bias(seq, device))),
            false => Mask::Blocks(CausalBlocks::new(seq, device)),
        };
        Self { shape, rotary: decoder.rotary.at_start(seq, device), mask }
    }
}

impl Block {
    /// Forward pass over whole rows, `[rows * seq, hidden]` to the same shape.
    pub(crate) fn forward(&self, x: Tensor<2>, context: &RowContext) -> Tensor<2> {
        let RowContext { shape, rotary, mask } = context;
        let normed = self.input_layernorm.forward(x.clone());
        let attended = match mask {
            Mask::Whole(bias) => self.self_attn.forward(normed, *shape, rotary, (**bias).clone()),
            Mask::Blocks(blocks) => {
                let heads = self.self_attn.heads(normed, *shape, rotary);
                self.self_attn.output(heads.attend(blocks).output)
            }
        };
        self.finish(x, attended)
    }

    /// Adds the projected attention output and then the feed-forward layer.
    pub(crate) fn finish(&self, x: Tensor<2>, attended: Tensor<2>) -> Tensor<2> {
        let x = x + attended;
        let normed = self.post_attention_layernorm.forward(x.clone());
        x + self.mlp.forward(normed)
    }
}

impl FeedForward {
    pub(super) fn forward(&self, x: Tensor<2>) -> Tensor<2> {
        let x = Linear::shared_input(x, [&self.gate_proj, &self.up_proj]);
        let gate = self.gate_proj.forward(x.clone());
        let inner = swiglu(gate, self.up_proj.forward(x));
        // burn fuses the cast with the activation here.
        self.down_proj.forward(Linear::shared_input(inner, [&self.down_proj]))
    }
}

/// Forward pass of a block on whole rows, with the state for its backward pass: one graph before
/// attention, one after it, and detached heads in between.
pub(crate) struct BlockForward {
    input: Tensor<2>,
    /// Heads attached to the first graph.
    tracked: Heads,
    heads: Heads,
    attended: Attended,
    /// Leaves of the second graph: the block's input and the attention output.
    residual: Tensor<2>,
    mixed: Tensor<5>,
    output: Tensor<2>,
}

/// Context of gradient computation on whole rows, for a device with autodiff.
pub(crate) struct GradientContext {
    shape: [usize; 2],
    rotary: Rotary,
    blocks: CausalBlocks,
}

impl GradientContext {
    pub(crate) fn new(decoder: &Decoder, shape: [usize; 2], device: &Device) -> Self {
        let [_, seq] = shape;
        let blocks = CausalBlocks::new(seq, &device.clone().without_autodiff());
        Self { shape, rotary: decoder.rotary.at_start(seq, device), blocks }
    }
}

impl BlockForward {
    /// Runs a block of a training copy on a detached input.
    pub(crate) fn forward(block: &Block, x: Tensor<2>, context: &GradientContext) -> Self {
        let GradientContext { shape, rotary, blocks } = context;
        let attention = &block.self_attn;
        let input = Tensor::from_inner(x.clone()).require_grad();
        let normed = block.input_layernorm.forward(input.clone());
        let tracked = attention.heads(normed, *shape, rotary);
        let heads = Heads {
            queries: tracked.queries.clone().inner(),
            keys: tracked.keys.clone().inner(),
            values: tracked.values.clone().inner(),
            compute_dtype: tracked.compute_dtype,
        };
        let attended = heads.attend(blocks);
        let residual = Tensor::from_inner(x).require_grad();
        let mixed = Tensor::from_inner(attended.output.clone()).require_grad();
        let output = block.finish(residual.clone(), attention.output(mixed.clone()));
        Self { input, tracked, heads, attended, residual, mixed, output }
    }

    /// Detached output of the block.
    pub(crate) fn output(&self) -> Tensor<2> {
        self.output.clone().inner()
    }

    /// Backward pass: adds the parameter gradients to `total` and returns the gradient of the
    /// input.
    pub(crate) fn backward(
        self,
        block: &Block,
        upstream: Tensor<2>,
        context: &GradientContext,
        total: &mut GradientsParams,
    ) -> Tensor<2> {
        const LEAF: &str = "a block depends on its input";
        // The gradient of sum(output * upstream) with respect to the output is `upstream`.
        let mut grads = (self.output * Tensor::from_inner(upstream)).sum().backward();
        let residual_grads = self.residual.grad_remove(&mut grads).expect(LEAF);
        let mixed = self.mixed.grad_remove(&mut grads).expect(LEAF);
        add_gradients(block, total, GradientsParams::from_grads(grads, block));

        let head_grads = self.heads.backward(&context.blocks, &self.attended, &mixed);
        let through = (self.tracked.queries * Tensor::from_inner(head_grads.queries)).sum()
            + (self.tracked.keys * Tensor::from_inner(head_grads.keys)).sum()
            + (self.tracked.values * Tensor::from_inner(head_grads.values)).sum();
        let mut grads = through.backward();
        let input_grads = self.input.grad_remove(&mut grads).expect(LEAF);
        add_gradients(block, total, GradientsParams::from_grads(grads, block));
        residual_grads + input_grads
    }
}
