//! Decoder-only transformer: embedding, blocks of attention and feed-forward layers, head.
//!
//! Fields have the names of Hugging Face's tensors, so a parameter's path in the module *is* its
//! name in a checkpoint.

pub(crate) mod attention;
pub(crate) mod block;
mod cache;
mod decode;
mod gradients;
mod linear;
mod low_rank;
mod norm;
mod packed;
mod precision;
mod rope;
mod scores;

use burn::module::{Module, Param};
use burn::tensor::{DType, Device, FloatDType, Int, Tensor};

pub(crate) use block::Block;
use block::{Residual, TokenContext};
pub(crate) use cache::{CacheMask, CachedTokens, KvCache};
pub(crate) use decode::{NextColumn, NextTokens};
pub(crate) use gradients::Trunk;
pub(crate) use linear::Linear;
pub use low_rank::LoraConfig;
pub(crate) use low_rank::LowRank;
pub(crate) use norm::RmsNorm;
pub(crate) use packed::{PackedRows, PackedTokens};
pub(crate) use rope::{Rotary, RotaryTable};
pub(crate) use scores::FlatScores;
pub use scores::MemoryConfig;

use crate::ModelConfig;
use crate::kernels::{PackedWeight, product};

/// Causal language model of the Qwen2, Qwen3 or Llama family.
#[derive(Module, Debug)]
pub struct CausalLm {
    pub(crate) model: Decoder,
    /// Output head; `None` if it shares the embedding's weights.
    pub(crate) lm_head: Option<Linear>,
    /// Configuration of the adapters, if any.
    #[module(skip)]
    pub(crate) lora: Option<LoraConfig>,
    #[module(skip)]
    pub(crate) memory: MemoryConfig,
    /// Devices of the other replicas.
    #[module(skip)]
    pub(crate) secondary_devices: Vec<Device>,
}

/// Layers below the head.
#[derive(Module, Debug)]
pub(crate) struct Decoder {
    pub(crate) embed_tokens: Embedding,
    pub(crate) layers: Vec<Block>,
    pub(crate) norm: RmsNorm,
    #[module(skip)]
    pub(crate) rotary: RotaryTable,
}

/// Token embedding, `[vocab, hidden]`.
#[derive(Module, Debug)]
pub(crate) struct Embedding {
    pub(crate) weight: Param<Tensor<2>>,
    /// Transposed weight for sampling on a CPU, in place of the parameter.
    #[module(skip)]
    pub(crate) packed: Option<PackedWeight>,
}

impl CausalLm {
    /// Model with zero weights, to be filled from a checkpoint or by initialisation.
    pub(crate) fn zeros(config: &ModelConfig, device: &Device) -> Self {
        let mut network = Self::without_blocks(config, device);
        let blocks = 0..config.num_hidden_layers;
        network.model.layers = blocks.map(|it| Block::zeros(config, it, device)).collect();
        network
    }

    /// Embedding, norm and head with zero weights, to which blocks are added.
    pub(crate) fn without_blocks(config: &ModelConfig, device: &Device) -> Self {
        let width = config.hidden_size;
        let embedding = Tensor::zeros([config.vocab_size, width], device);
        Self {
            model: Decoder {
                embed_tokens: Embedding { weight: Param::from_tensor(embedding), packed: None },
                layers: Vec::new(),
                norm: RmsNorm::ones(width, config.rms_norm_eps, device),
                rotary: RotaryTable::new(config),
            },
            lm_head: (!config.tie_word_embeddings)
                .then(|| Linear::zeros(width, config.vocab_size, false, device)),
            lora: None,
            memory: MemoryConfig::default(),
            secondary_devices: Vec::new(),
        }
    }

    /// Number of query heads of a block.
    pub(crate) fn num_heads(&self) -> usize {
        let heads = self.model.layers.first().map(|it| it.self_attn.heads());
        heads.map_or(1, |it| it.key_value_heads * it.group)
    }

    /// Logits of hidden states, `[n, hidden]` to `[n, vocab]`.
    pub(crate) fn head(&self, hidden: Tensor<2>) -> Tensor<2> {
        match &self.lm_head {
            Some(head) => head.forward(hidden),
            None => match &self.model.embed_tokens {
                Embedding { packed: Some(packed), .. } => packed.product(hidden),
                Embedding { weight, .. } => {
                    product(hidden, weight.val(), true, self.memory.compute_dtype)
                }
            },
        }
    }

    /// Linear layers of the blocks.
    pub(crate) fn block_linears_mut(&mut self) -> Vec<&mut Linear> {
        let linears = self.linears_mut().into_iter();
        linears.filter(|(name, _)| name != "lm_head").map(|(_, linear)| linear).collect()
    }

    /// Linear layers with their paths.
    pub(crate) fn linears_mut(&mut self) -> Vec<(String, &mut Linear)> {
        let mut linears = Vec::new();
        for (index, block) in self.model.layers.iter_mut().enumerate() {
            let of_block = block.linears_mut().into_iter();
            linears.extend(of_block.map(|(name, it)| (format!("model.layers.{index}.{name}"), it)));
        }
        if let Some(head) = &mut self.lm_head {
            linears.push(("lm_head".to_owned(), head));
        }
        linears
    }
}

impl Decoder {
    /// Final hidden states of the tokens that the context needs.
    ///
    /// # Shapes
    ///
    /// - tokens: `[tokens]`; output: `[outputs, hidden]`
    pub(crate) fn hidden(
        &self,
        tokens: Tensor<1, Int>,
        context: &mut impl TokenContext,
    ) -> Tensor<2> {
        let mut stream = Residual::new(self.embed(tokens));
        for (layer, block) in self.layers.iter().enumerate() {
            block.forward(&mut stream, layer, context);
        }
        stream.normed(&self.norm, DType::F32)
    }

    /// Hidden states that predict the loss tokens of packed rows, `[loss tokens, hidden]`.
    pub(crate) fn predicting(&self, rows: &PackedRows) -> Tensor<2> {
        let device = self.norm.weight.val().device();
        let packed = PackedTokens::new(rows, &self.rotary, self.layers.len(), &device);
        packed.predicting(self.hidden(packed.tokens(), &mut &packed))
    }

    /// Token embeddings, `[tokens]` to `[tokens, hidden]`.
    pub(crate) fn embed(&self, tokens: Tensor<1, Int>) -> Tensor<2> {
        match &self.embed_tokens.packed {
            Some(packed) => packed.columns(tokens),
            None => self.embed_tokens.weight.val().select(0, tokens).cast(FloatDType::F32),
        }
    }
}
