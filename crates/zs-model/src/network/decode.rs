//! Decoding step of one new token per row, in few kernels.

use burn::tensor::{Int, Tensor};

use super::attention::{Attention, Projections};
use super::block::TokenContext;
use super::cache::{KvCache, LayerCache, flat};
use super::rope::Rotary;
use super::{Linear, RmsNorm};
use crate::kernels::{NewHeads, decode_attention};

/// Column that the new tokens fill, stored on the cache's device.
///
/// # Shapes
///
/// - column, filled: `[1]`; `filled` includes the column
/// - mask: `[rows, capacity]`, 0 where a column may be attended to, [`MASKED`](crate::kernels::MASKED) elsewhere
pub(crate) struct NextColumn {
    pub(crate) column: Tensor<1, Int>,
    pub(crate) filled: Tensor<1, Int>,
    pub(crate) mask: Tensor<2>,
}

/// One new token per cached row, in few kernels: on an accelerator a block is a dozen kernels, seven
/// matrix products and five kernels of this crate.
pub(crate) struct NextTokens<'a> {
    pub(crate) cache: &'a mut KvCache,
    pub(crate) next: &'a NextColumn,
    pub(crate) rotary: Rotary,
}

impl TokenContext for NextTokens<'_> {
    fn attend(
        &mut self,
        layer: usize,
        attention: &Attention,
        projections: Projections,
    ) -> Tensor<2> {
        let Projections { queries, keys, values } = projections;
        let bias = |map: &Linear| map.bias.as_ref().map(|it| it.val());
        let biases = match [&attention.q_proj, &attention.k_proj, &attention.v_proj].map(bias) {
            [Some(q), Some(k), Some(v)] => Some([q, k, v]),
            _ => None,
        };
        let norms = attention.q_norm.as_ref().zip(attention.k_norm.as_ref());
        let rotary = attention.angles(&self.rotary);
        let heads = NewHeads {
            queries,
            keys,
            values,
            biases,
            norms: norms.map(|(q, k)| [q.weight.val(), k.weight.val()]),
            eps: attention.q_norm.as_ref().map_or(0.0, RmsNorm::eps),
            cos: rotary.cos,
            sin: rotary.sin,
            column: self.next.column.clone(),
        };
        let cache = &mut self.cache.layers[layer];
        let queries = cache.place(heads);
        let (keys, values) = (cache.keys.clone(), cache.values.clone());
        let dtype = Linear::input_type([&attention.o_proj], &queries.device());
        let (mask, filled) = (self.next.mask.clone(), self.next.filled.clone());
        flat(decode_attention(queries, keys, values, mask, filled, dtype))
    }
}

impl LayerCache {
    /// Writes the keys and values of one token per row in place and returns its queries.
    fn place(&mut self, heads: NewHeads) -> Tensor<5> {
        let Self { keys, values } = self;
        let mut queries = None;
        keys.inplace(|old_keys| {
            let mut new_keys = None;
            values.inplace(|old_values| {
                let (new_queries, [keys, values]) = heads.place([old_keys, old_values]);
                (queries, new_keys) = (Some(new_queries), Some(keys));
                values
            });
            new_keys.expect("`inplace` calls its function")
        });
        queries.expect("`inplace` calls its function")
    }
}
