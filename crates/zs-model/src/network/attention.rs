//! Grouped-query attention, over whole sequences or over a KV cache.

use burn::module::Module;
use burn::tensor::{Device, FloatDType, Int, Tensor, TensorData};

use super::causal::Heads;
use super::rope::{Rotary, RotaryTable};
use super::{Linear, RmsNorm};
use crate::ModelConfig;
use crate::kernels::{MASKED, attend, attention_scores};

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
    shape: HeadShape,
}

#[derive(Clone, Copy, Debug)]
struct HeadShape {
    key_value_heads: usize,
    group: usize,
    head_dim: usize,
}

/// KV cache of all layers, of which `columns` columns are filled.
///
/// All rows use the same columns; the caller's bias tells which of them hold a token of the row.
#[derive(Clone, Debug)]
pub(crate) struct KvCache {
    pub(crate) layers: Vec<LayerCache>,
    pub(crate) columns: usize,
    /// Rotary frequencies on the cache's device: `[head_dim / 2]`.
    pub(crate) frequencies: Tensor<1>,
}

/// KV cache of one layer; keys and values are each `[rows, key_value_heads, capacity, head_dim]`.
#[derive(Clone, Debug)]
pub(crate) struct LayerCache {
    pub(super) keys: Tensor<4>,
    pub(super) values: Tensor<4>,
}

impl KvCache {
    pub(crate) fn new(
        config: &ModelConfig,
        [rows, capacity]: [usize; 2],
        dtype: FloatDType,
        device: &Device,
    ) -> Self {
        let shape = [rows, config.num_key_value_heads, capacity, config.head_dim];
        let zeros = || Tensor::zeros(shape, (device, burn::tensor::DType::from(dtype)));
        let layers = (0..config.num_hidden_layers)
            .map(|_| LayerCache { keys: zeros(), values: zeros() })
            .collect();
        Self { layers, columns: 0, frequencies: RotaryTable::new(config).on(device) }
    }

    /// Dtype of keys and values.
    pub(crate) fn dtype(&self) -> FloatDType {
        self.layers.first().map_or(FloatDType::F32, |it| it.keys.dtype().into())
    }

    /// Selects rows and columns: output row `r` gets the columns `columns[r]` of input row
    /// `rows[r]`, compacted to the left, in a cache with `capacity` columns.
    ///
    /// # Shapes
    ///
    /// - columns: one list per output row, of any length
    pub(crate) fn repack(
        &self,
        rows: &[usize],
        columns: &[Vec<usize>],
        capacity: usize,
        device: &Device,
    ) -> Self {
        let kept = columns.iter().map(Vec::len).max().unwrap_or(0);
        let [_, heads, old_capacity, head_dim] = self.layers[0].keys.dims();
        // A single gather of `[head_dim]` vectors; the index combines row, head and column.
        let mut index = Vec::with_capacity(rows.len() * heads * kept);
        for (&row, columns) in rows.iter().zip(columns) {
            for head in 0..heads {
                let base = (row * heads + head) * old_capacity;
                // Any column works after the row's end, since the bias masks it.
                index.extend(
                    (0..kept).map(|it| (base + columns.get(it).copied().unwrap_or(0)) as i32),
                );
            }
        }
        let len = index.len();
        let index = Tensor::<1, Int>::from_data(TensorData::new(index, [len]), device);
        let shape = [rows.len(), heads, capacity, head_dim];
        let move_columns = |cache: &Tensor<4>| {
            let all = cache.dims()[0] * heads * old_capacity;
            let flat: Tensor<2> = cache.clone().reshape([all, head_dim]);
            let packed = flat.select(0, index.clone()).reshape([rows.len(), heads, kept, head_dim]);
            Tensor::zeros(shape, (device, cache.dtype()))
                .slice_assign([0..shape[0], 0..heads, 0..kept, 0..head_dim], packed)
        };
        let layers = self
            .layers
            .iter()
            .map(|layer| LayerCache {
                keys: move_columns(&layer.keys),
                values: move_columns(&layer.values),
            })
            .collect();
        Self { layers, columns: kept, frequencies: self.frequencies.clone() }
    }
}

impl KvCache {
    /// Concatenates the rows of caches of equal capacity; the number of columns is the maximum.
    pub(crate) fn stack(mut parts: Vec<Self>) -> Self {
        if parts.len() == 1 {
            return parts.remove(0);
        }
        let columns = parts.iter().map(|it| it.columns).max().unwrap_or(0);
        let num_layers = parts.first().map_or(0, |it| it.layers.len());
        let stacked = |layer: usize, part: fn(&LayerCache) -> &Tensor<4>| {
            Tensor::cat(parts.iter().map(|it| part(&it.layers[layer]).clone()).collect(), 0)
        };
        let layers = (0..num_layers)
            .map(|layer| LayerCache {
                keys: stacked(layer, |it| &it.keys),
                values: stacked(layer, |it| &it.values),
            })
            .collect();
        Self { layers, columns, frequencies: parts[0].frequencies.clone() }
    }
}

/// Attention bias of new tokens over a cache, and the first column that they fill.
///
/// # Shapes
///
/// - bias: broadcasts to `[rows, key_value_heads, group, new, columns]`, 0 where a column may be
///   attended to, [`MASKED`] elsewhere; covers the first `columns` columns of the cache
pub(crate) struct CacheMask {
    pub(crate) first: usize,
    pub(crate) bias: Tensor<5>,
}

impl LayerCache {
    /// Writes new keys and values in place, starting at column `first`.
    fn write(&mut self, keys: Tensor<4>, values: Tensor<4>, first: usize) {
        let [rows, heads, new, head_dim] = keys.dims();
        let place = [0..rows, 0..heads, first..first + new, 0..head_dim];
        let put = |cache: Tensor<4>, new: Tensor<4>| {
            let new = new.cast(cache.dtype());
            cache.slice_assign(place.clone(), new)
        };
        self.keys.inplace(|it| put(it, keys));
        self.values.inplace(|it| put(it, values));
    }

    /// Keys and values of the first columns, cast to f32.
    fn first(&self, columns: usize) -> (Tensor<4>, Tensor<4>) {
        let part = |it: &Tensor<4>| it.clone().slice_dim(2, 0..columns).cast(FloatDType::F32);
        (part(&self.keys), part(&self.values))
    }
}

impl Attention {
    pub(crate) fn zeros(config: &ModelConfig, device: &Device) -> Self {
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
            shape: HeadShape {
                key_value_heads: config.num_key_value_heads,
                group: config.num_attention_heads / config.num_key_value_heads,
                head_dim: config.head_dim,
            },
        }
    }

    /// Number of query heads.
    pub(crate) fn num_heads(&self) -> usize {
        self.shape.key_value_heads * self.shape.group
    }

    /// Self-attention of whole rows.
    ///
    /// # Shapes
    ///
    /// - x: `[rows * seq, hidden]`
    /// - bias: broadcasts to `[rows, key_value_heads, group, seq, seq]`
    /// - output: `[rows * seq, hidden]`
    pub(crate) fn forward(
        &self,
        x: Tensor<2>,
        shape: [usize; 2],
        rotary: &Rotary,
        bias: Tensor<5>,
    ) -> Tensor<2> {
        let Heads { queries, keys, values, .. } = self.heads(x, shape, rotary);
        self.output(attend(queries, keys, values, bias))
    }

    /// Attention of new tokens over the cache, including themselves.
    ///
    /// # Shapes
    ///
    /// - x, output: `[rows * new, hidden]`
    pub(crate) fn forward_cached(
        &self,
        x: Tensor<2>,
        shape: [usize; 2],
        rotary: &Rotary,
        mask: &CacheMask,
        cache: &mut LayerCache,
    ) -> Tensor<2> {
        let Heads { queries, keys, values, .. } = self.heads(x, shape, rotary);
        cache.write(keys, values, mask.first);
        let (keys, values) = cache.first(mask.bias.dims()[4]);
        self.output(attend(queries, keys, values, mask.bias.clone()))
    }

    /// Scaled and rotated queries, rotated keys, and values of `new` tokens per row.
    pub(crate) fn heads(&self, x: Tensor<2>, [rows, new]: [usize; 2], rotary: &Rotary) -> Heads {
        let HeadShape { key_value_heads, head_dim, .. } = self.shape;
        let x = Linear::shared_input(x, [&self.q_proj, &self.k_proj, &self.v_proj]);
        let (queries, keys) = self.queries_and_keys(x.clone(), [rows, new], rotary);
        let values: Tensor<4> =
            self.v_proj.forward(x).reshape([rows, new, key_value_heads, head_dim]);
        let values = values.swap_dims(1, 2);
        Heads { queries, keys, values, compute_dtype: self.q_proj.compute_dtype }
    }

    /// Output projection of the attention output, `[rows, key_value_heads, group, new, head_dim]`
    /// to `[rows * new, hidden]`.
    pub(crate) fn output(&self, mixed: Tensor<5>) -> Tensor<2> {
        let [rows, heads, group, new, head_dim] = mixed.dims();
        let mixed: Tensor<4> = mixed.reshape([rows, heads * group, new, head_dim]).swap_dims(1, 2);
        self.o_proj.forward(mixed.reshape([rows * new, heads * group * head_dim]))
    }
}

impl Attention {
    /// Maximum attention logit of each query head over a batch, `[heads]`.
    ///
    /// # Shapes
    ///
    /// - x: `[rows * seq, hidden]`
    /// - bias: broadcasts to `[rows, key_value_heads, group, seq, seq]`
    pub(crate) fn max_scores(
        &self,
        x: Tensor<2>,
        [rows, seq]: [usize; 2],
        rotary: &Rotary,
        bias: Tensor<5>,
    ) -> Tensor<1> {
        let (queries, keys) = self.queries_and_keys(x, [rows, seq], rotary);
        let heads = self.num_heads();
        let scores: Tensor<3> =
            (attention_scores(queries, keys) + bias).reshape([rows, heads, seq * seq]);
        scores.max_dim(2).max_dim(0).reshape([heads])
    }

    /// Number of key-value heads, query heads per key-value head, and width of a head.
    pub(crate) fn head_shape(&self) -> [usize; 3] {
        let HeadShape { key_value_heads, group, head_dim } = self.shape;
        [key_value_heads, group, head_dim]
    }

    /// Queries and keys of [`heads`](Self::heads).
    fn queries_and_keys(
        &self,
        x: Tensor<2>,
        [rows, new]: [usize; 2],
        rotary: &Rotary,
    ) -> (Tensor<5>, Tensor<4>) {
        let HeadShape { key_value_heads, group, head_dim } = self.shape;
        let split =
            |x: Tensor<2>, heads: usize| -> Tensor<4> { x.reshape([rows, new, heads, head_dim]) };
        let norm = |x: Tensor<4>, norm: &Option<RmsNorm>| match norm {
            Some(norm) => norm.forward(x),
            None => x,
        };
        let queries = split(self.q_proj.forward(x.clone()), key_value_heads * group);
        let keys = split(self.k_proj.forward(x), key_value_heads);
        // Scaling queries is cheaper than scaling scores.
        let scale = 1.0 / (head_dim as f64).sqrt();
        let queries = rotary.apply(norm(queries, &self.q_norm), scale).swap_dims(1, 2);
        let keys = rotary.apply(norm(keys, &self.k_norm), 1.0).swap_dims(1, 2);
        (queries.reshape([rows, key_value_heads, group, new, head_dim]), keys)
    }
}

/// Causal bias: 0 on and below the diagonal, [`MASKED`] above, `[1, 1, 1, seq, seq]`.
pub(crate) fn causal_bias(seq: usize, device: &Device) -> Tensor<5> {
    let values: Vec<f32> = (0..seq)
        .flat_map(|row| (0..seq).map(move |column| if column <= row { 0.0 } else { MASKED }))
        .collect();
    Tensor::from_data(TensorData::new(values, [1, 1, 1, seq, seq]), device)
}
