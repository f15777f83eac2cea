//! Decoder block, and the residual stream that it adds to.

use burn::module::Module;
use burn::tensor::{DType, Device, Int, Tensor};

use super::attention::{Attention, Projections};
use super::{Linear, RmsNorm};
use crate::ModelConfig;
use crate::kernels::{add_norm, rounded_to, swiglu};
use crate::workers::is_host;

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

/// Tokens of a forward pass: what they attend to, and which outputs of a block are needed.
pub(crate) trait TokenContext {
    /// Tokens of a block's outputs; `None` for all.
    fn outputs(&self, _layer: usize) -> Option<Tensor<1, Int>> {
        None
    }

    /// Attention output, `[outputs, query_width]`, before the output projection.
    fn attend(
        &mut self,
        layer: usize,
        attention: &Attention,
        projections: Projections,
    ) -> Tensor<2>;
}

/// Residual stream between layers, `[tokens, hidden]`, and the output of the last layer to add.
pub(crate) struct Residual {
    sum: Tensor<2>,
    pending: Option<Tensor<2>>,
}

impl Residual {
    pub(crate) fn new(x: Tensor<2>) -> Self {
        Self { sum: x, pending: None }
    }

    /// Adds the pending output to the stream and returns the normalised sum in the given dtype.
    pub(crate) fn normed(&mut self, norm: &RmsNorm, dtype: DType) -> Tensor<2> {
        let device = self.sum.device();
        match self.pending.take() {
            // A single kernel, since launch overhead dominates decoding; it has no gradient.
            Some(pending) if !device.is_autodiff() && !is_host(&device) => {
                let (weight, eps) = (norm.weight.val(), norm.eps());
                let (sum, normed) = add_norm(self.sum.clone(), pending, weight, eps, dtype);
                self.sum = sum;
                return normed;
            }
            Some(pending) => self.sum = self.sum.clone() + pending,
            None => {}
        }
        rounded_to(norm.forward(self.sum.clone()), dtype)
    }

    /// The stream, with the pending output added.
    pub(crate) fn into_sum(self) -> Tensor<2> {
        match self.pending {
            Some(pending) => self.sum + pending,
            None => self.sum,
        }
    }
}

impl Block {
    /// Block with zero weights; `index` is its place in the model.
    pub(crate) fn zeros(config: &ModelConfig, index: usize, device: &Device) -> Self {
        let (width, inner, eps) =
            (config.hidden_size, config.intermediate_size, config.rms_norm_eps);
        Self {
            self_attn: Attention::zeros(config, index, device),
            mlp: FeedForward {
                gate_proj: Linear::zeros(width, inner, false, device),
                up_proj: Linear::zeros(width, inner, false, device),
                down_proj: Linear::zeros(inner, width, false, device),
            },
            input_layernorm: RmsNorm::ones(width, eps, device),
            post_attention_layernorm: RmsNorm::ones(width, eps, device),
        }
    }

    /// Linear layers with their paths in the block.
    pub(crate) fn linears_mut(&mut self) -> [(&'static str, &mut Linear); 7] {
        let Self { self_attn, mlp, .. } = self;
        [
            ("self_attn.q_proj", &mut self_attn.q_proj),
            ("self_attn.k_proj", &mut self_attn.k_proj),
            ("self_attn.v_proj", &mut self_attn.v_proj),
            ("self_attn.o_proj", &mut self_attn.o_proj),
            ("mlp.gate_proj", &mut mlp.gate_proj),
            ("mlp.up_proj", &mut mlp.up_proj),
            ("mlp.down_proj", &mut mlp.down_proj),
        ]
    }

    /// Adds the block's output to the stream, at the tokens that the context needs.
    pub(crate) fn forward(
        &self,
        stream: &mut Residual,
        layer: usize,
        context: &mut impl TokenContext,
    ) {
        let device = stream.sum.device();
        let Attention { q_proj, k_proj, v_proj, .. } = &self.self_attn;
        let dtype = Linear::input_type([q_proj, k_proj, v_proj], &device);
        let normed = stream.normed(&self.input_layernorm, dtype);
        let outputs = context.outputs(layer);
        let projections = self.self_attn.project(normed, outputs.clone());
        if let Some(outputs) = outputs {
            stream.sum = stream.sum.clone().select(0, outputs);
        }
        let mixed = context.attend(layer, &self.self_attn, projections);
        stream.pending = Some(self.self_attn.o_proj.forward(mixed));
        let FeedForward { gate_proj, up_proj, .. } = &self.mlp;
        let dtype = Linear::input_type([gate_proj, up_proj], &device);
        let normed = stream.normed(&self.post_attention_layernorm, dtype);
        stream.pending = Some(self.mlp.forward(normed));
    }
}

impl FeedForward {
    fn forward(&self, x: Tensor<2>) -> Tensor<2> {
        let gate = self.gate_proj.forward(x.clone());
        let inner = swiglu(gate, self.up_proj.forward(x));
        // burn fuses the cast with the activation here.
        self.down_proj.forward(Linear::shared_input(inner, [&self.down_proj]))
    }
}
