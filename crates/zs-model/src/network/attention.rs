//! Projections and rotation of grouped-query attention.

use burn::module::Module;
use burn::tensor::{Device, Int, Tensor};

use super::rope::Rotary;
use super::{Linear, RmsNorm};
use crate::ModelConfig;
use crate::spans::Heads;

/// Grouped-query self-attention.
///
/// ```text
/// softmax(Q K^T / sqrt(head_dim) + bias) V,   one K, V per group of query heads
/// ```
///
/// Keys and values are not repeated: the query heads of a group are stacked along the sequence
/// dimension, so one batched product serves the group.
///
/// # References
///
/// - [GQA](https://arxiv.org/abs/2305.13245), section 2.2
#[derive(Module, Debug)]
pub(crate) struct Attention {
    pub(crate) q_proj: Linear,
    pub(crate) k_proj: Linear,
    pub(crate) v_proj: Linear,
    pub(crate) o_proj: Linear,
    /// Per-head norms of queries and keys (Qwen3).
    pub(crate) q_norm: Option<RmsNorm>,
    pub(crate) k_norm: Option<RmsNorm>,
    #[module(skip)]
    heads: Heads,
    #[module(skip)]
    is_rotated: bool,
}

/// Projected queries, keys and values, without their biases: `[outputs, query_width]` and `[tokens,
/// key_width]`.
pub(crate) struct Projections {
    pub(crate) queries: Tensor<2>,
    pub(crate) keys: Tensor<2>,
    pub(crate) values: Tensor<2>,
}

impl Attention {
    /// Attention of one of the blocks.
    pub(crate) fn zeros(config: &ModelConfig, block: usize, device: &Device) -> Self {
        let queries = config.num_attention_heads * config.head_dim;
        let keys = config.num_key_value_heads * config.head_dim;
        let width = config.hidden_size;
        let norm = || {
            let has_norm = config.architecture.has_qk_norm();
            has_norm.then(|| RmsNorm::ones(config.head_dim, config.rms_norm_eps, device))
        };
        Self {
            q_proj: Linear::zeros(width, queries, config.qkv_bias, device),
            k_proj: Linear::zeros(width, keys, config.qkv_bias, device),
            v_proj: Linear::zeros(width, keys, config.qkv_bias, device),
            o_proj: Linear::zeros(queries, width, config.output_bias, device),
            q_norm: norm(),
            k_norm: norm(),
            heads: Heads {
                key_value_heads: config.num_key_value_heads,
                group: config.num_attention_heads / config.num_key_value_heads,
                head_dim: config.head_dim,
            },
            is_rotated: !config.no_rope_layers.contains(&block),
        }
    }

    /// Angles by which the block rotates queries and keys, given those of their positions.
    pub(crate) fn angles(&self, of_positions: &Rotary) -> Rotary {
        if self.is_rotated { of_positions.clone() } else { of_positions.none() }
    }

    pub(crate) fn heads(&self) -> Heads {
        self.heads
    }

    /// Projects normalised tokens, `[tokens, hidden]`; queries only at the selected ones.
    pub(crate) fn project(
        &self,
        normed: Tensor<2>,
        selected: Option<Tensor<1, Int>>,
    ) -> Projections {
        let of_queries = match selected {
            Some(selected) => normed.clone().select(0, selected),
            None => normed.clone(),
        };
        Projections {
            queries: self.q_proj.forward_unbiased(of_queries),
            keys: self.k_proj.forward_unbiased(normed.clone()),
            values: self.v_proj.forward_unbiased(normed),
        }
    }

    /// Queries, rotated and scaled, keys, rotated, and values, with the shapes of the projections.
    ///
    /// ```text
    /// q_h = R norm(q_h + b) / sqrt(head_dim),   k_h = R norm(k_h + b),   v_h = v_h + b
    /// ```
    ///
    /// `angles`: of the queries and of the keys.
    pub(crate) fn rotated(&self, projections: Projections, angles: [&Rotary; 2]) -> [Tensor<2>; 3] {
        let Heads { head_dim, .. } = self.heads;
        let rotate = |x: Tensor<2>, norm: &Option<RmsNorm>, angles: &Rotary, scale: f64| {
            let [tokens, width] = x.dims();
            let heads = width / head_dim;
            let mut x: Tensor<4> = x.reshape([1, tokens, heads, head_dim]);
            if let Some(norm) = norm {
                x = norm.forward(x);
            }
            let angles = self.angles(angles).flat();
            let x: Tensor<2> = angles.apply(x, scale).reshape([tokens, width]);
            x
        };
        let [of_queries, of_keys] = angles;
        // Scaling queries is cheaper than scaling scores.
        let scale = 1.0 / (head_dim as f64).sqrt();
        let queries = self.q_proj.add_bias(projections.queries);
        let keys = self.k_proj.add_bias(projections.keys);
        [
            rotate(queries, &self.q_norm, of_queries, scale),
            rotate(keys, &self.k_norm, of_keys, 1.0),
            self.v_proj.add_bias(projections.values),
        ]
    }
}
