//! Decoder-only transformer: embedding, blocks of attention and feed-forward layers, head.
//!
//! Fields have the names of Hugging Face's tensors, so a parameter's path in the module *is* its
//! name in a checkpoint.

mod attention;
mod backward;
mod block;
mod causal;
mod compute_dtype;
mod decode;
mod linear;
mod low_rank;
mod norm;
mod rope;
mod scores;

use burn::module::{Module, Param};
use burn::tensor::{Device, FloatDType, Int, Tensor};

use attention::Attention;
pub(crate) use attention::{CacheMask, KvCache};
pub(crate) use block::{Block, FeedForward, RowContext};
pub use compute_dtype::ComputeDtype;
pub(crate) use decode::NextColumn;
pub(crate) use linear::Linear;
pub use low_rank::LoraConfig;
pub(crate) use low_rank::LowRank;
pub(crate) use norm::RmsNorm;
use rope::{Rotary, RotaryTable};
pub(crate) use scores::FlatScores;
pub use scores::MemoryConfig;

use crate::ModelConfig;

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
}

impl CausalLm {
    /// Model with zero weights, to be filled from a checkpoint or by initialisation.
    pub(crate) fn zeros(config: &ModelConfig, device: &Device) -> Self {
        let width = config.hidden_size;
        let layers = (0..config.num_hidden_layers)
            .map(|_| Block {
                self_attn: Attention::zeros(config, device),
                mlp: FeedForward {
                    gate_proj: Linear::zeros(width, config.intermediate_size, false, device),
                    up_proj: Linear::zeros(width, config.intermediate_size, false, device),
                    down_proj: Linear::zeros(config.intermediate_size, width, false, device),
                },
                input_layernorm: RmsNorm::ones(width, config.rms_norm_eps, device),
                post_attention_layernorm: RmsNorm::ones(width, config.rms_norm_eps, device),
            })
            .collect();
        let embedding = Tensor::zeros([config.vocab_size, width], device);
        Self {
            model: Decoder {
                embed_tokens: Embedding { weight: Param::from_tensor(embedding) },
                layers,
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

    /// Final hidden states of new tokens that continue cached rows.
    ///
    /// # Shapes
    ///
    /// - tokens: `[rows, new]`; positions: `[rows * new]`
    /// - output: `[rows * new, hidden]`
    pub(crate) fn hidden_cached(
        &self,
        tokens: Tensor<2, Int>,
        positions: Tensor<1, Int>,
        mask: &CacheMask,
        cache: &mut KvCache,
    ) -> Tensor<2> {
        let [rows, new] = tokens.dims();
        let mut x = self.model.embed(tokens);
        let rotary = Rotary::at_positions(&cache.frequencies, positions, [rows, new]);
        for (block, layer) in self.model.layers.iter().zip(cache.layers.iter_mut()) {
            let normed = block.input_layernorm.forward(x.clone());
            let attended =
                block.self_attn.forward_cached(normed, [rows, new], &rotary, mask, layer);
            x = block.finish(x, attended);
        }
        self.model.norm.forward(x)
    }

    /// Number of query heads of a block.
    pub(crate) fn num_heads(&self) -> usize {
        self.model.layers.first().map_or(1, |it| it.self_attn.num_heads())
    }

    /// Logits of hidden states, `[n, hidden]` to `[n, vocab]`.
    pub(crate) fn head(&self, hidden: Tensor<2>) -> Tensor<2> {
        match &self.lm_head {
            Some(head) => head.forward(hidden),
            None => {
                let weight = self.model.embed_tokens.weight.val().transpose();
                self.memory.compute_dtype.product(hidden, weight)
            }
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
            let mut add = |name: &str, linear| {
                linears.push((format!("model.layers.{index}.{name}"), linear));
            };
            add("self_attn.q_proj", &mut block.self_attn.q_proj);
            add("self_attn.k_proj", &mut block.self_attn.k_proj);
            add("self_attn.v_proj", &mut block.self_attn.v_proj);
            add("self_attn.o_proj", &mut block.self_attn.o_proj);
            add("mlp.gate_proj", &mut block.mlp.gate_proj);
            add("mlp.up_proj", &mut block.mlp.up_proj);
            add("mlp.down_proj", &mut block.mlp.down_proj);
        }
        if let Some(head) = &mut self.lm_head {
            linears.push(("lm_head".to_owned(), head));
        }
        linears
    }
}

impl Decoder {
    /// Final hidden states of right-padded rows that start at position 0.
    ///
    /// Padding is on the right, so the causal mask alone hides it from all tokens.
    ///
    /// # Shapes
    ///
    /// - tokens: `[rows, seq]`
    /// - output: `[rows * seq, hidden]`
    pub(crate) fn hidden(&self, tokens: Tensor<2, Int>) -> Tensor<2> {
        let context = RowContext::new(self, tokens.dims(), &tokens.device());
        let mut x = self.embed(tokens);
        for block in &self.layers {
            x = block.forward(x, &context);
        }
        self.norm.forward(x)
    }

    /// Token embeddings, `[rows, seq]` to `[rows * seq, hidden]`.
    pub(crate) fn embed(&self, tokens: Tensor<2, Int>) -> Tensor<2> {
        let [rows, seq] = tokens.dims();
        let embedded = self.embed_tokens.weight.val().select(0, tokens.reshape([rows * seq]));
        embedded.cast(FloatDType::F32)
    }
}
