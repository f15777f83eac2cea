//! KV cache with columns that all rows share, and attention of new tokens over it.

use burn::tensor::{Device, FloatDType, Int, Tensor, TensorData};

use super::attention::{Attention, Projections};
use super::block::TokenContext;
use super::rope::{Rotary, RotaryTable};
use crate::ModelConfig;
use crate::kernels::attend;
use crate::spans::Heads;

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
///   attended to, [`MASKED`](crate::kernels::MASKED) elsewhere; covers the first `columns` columns of the cache
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

/// New tokens that continue cached rows, `new` of each row.
pub(crate) struct CachedTokens<'a> {
    pub(crate) cache: &'a mut KvCache,
    pub(crate) mask: &'a CacheMask,
    pub(crate) rotary: Rotary,
    /// Number of rows, and of new tokens of each row.
    pub(crate) shape: [usize; 2],
}

impl TokenContext for CachedTokens<'_> {
    fn attend(
        &mut self,
        layer: usize,
        attention: &Attention,
        projections: Projections,
    ) -> Tensor<2> {
        let Heads { key_value_heads, group, head_dim } = attention.heads();
        let [rows, new] = self.shape;
        let [queries, keys, values] = attention.rotated(projections, [&self.rotary, &self.rotary]);
        let of_rows = |x: Tensor<2>, heads: usize| -> Tensor<4> {
            let x: Tensor<4> = x.reshape([rows, new, heads, head_dim]);
            x.swap_dims(1, 2)
        };
        let queries = of_rows(queries, key_value_heads * group);
        let queries = queries.reshape([rows, key_value_heads, group, new, head_dim]);
        let cache = &mut self.cache.layers[layer];
        let [keys, values] = [keys, values].map(|it| of_rows(it, key_value_heads));
        cache.write(keys, values, self.mask.first);
        let (keys, values) = cache.first(self.mask.bias.dims()[4]);
        flat(attend(queries, keys, values, self.mask.bias.clone()))
    }
}

/// Joins the heads of each token: `[rows, key_value_heads, group, new, head_dim]` to `[rows * new,
/// query_width]`.
pub(crate) fn flat(mixed: Tensor<5>) -> Tensor<2> {
    let [rows, heads, group, new, head_dim] = mixed.dims();
    let mixed: Tensor<4> = mixed.reshape([rows, heads * group, new, head_dim]).swap_dims(1, 2);
    mixed.reshape([rows * new, heads * group * head_dim])
}
