//! Decoding step of one new token per row, in few kernels.

use burn::tensor::{DType, Int, Tensor};

use super::attention::{Attention, KvCache, LayerCache};
use super::rope::Rotary;
use super::{CausalLm, Linear, RmsNorm};
use crate::kernels::{NewHeads, add_norm, decode_attention};

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

impl CausalLm {
    /// Final hidden states of one new token per cached row.
    ///
    /// Equals [`hidden_cached`](Self::hidden_cached) with one token, up to rounding. On an
    /// accelerator a block is a dozen kernels: seven matrix products and five kernels of this
    /// crate.
    ///
    /// # Shapes
    ///
    /// - tokens, positions: `[rows]`
    /// - output: `[rows, hidden]`
    pub(crate) fn hidden_next(
        &self,
        tokens: Tensor<1, Int>,
        positions: Tensor<1, Int>,
        next: &NextColumn,
        cache: &mut KvCache,
    ) -> Tensor<2> {
        let ([rows], device) = (tokens.dims(), tokens.device());
        let mut stream = Stream { sum: self.model.embed(tokens.unsqueeze_dim(1)), said: None };
        let rotary = Rotary::at_positions(&cache.frequencies, positions, [rows, 1]);
        for (block, layer) in self.model.layers.iter().zip(cache.layers.iter_mut()) {
            let attention = &block.self_attn;
            let maps = [&attention.q_proj, &attention.k_proj, &attention.v_proj];
            let dtype = Linear::input_type(maps, &device);
            let normed = stream.normed(&block.input_layernorm, dtype);
            stream.said = Some(attention.forward_next(normed, &rotary, next, layer));
            let maps = [&block.mlp.gate_proj, &block.mlp.up_proj];
            let dtype = Linear::input_type(maps, &device);
            let normed = stream.normed(&block.post_attention_layernorm, dtype);
            stream.said = Some(block.mlp.forward(normed));
        }
        stream.normed(&self.model.norm, DType::F32)
    }
}

/// Residual stream between blocks, and the output of the last layer to add to it.
struct Stream {
    sum: Tensor<2>,
    said: Option<Tensor<2>>,
}

impl Stream {
    /// Adds the pending output to the stream and returns the normalised sum in the given dtype.
    fn normed(&mut self, norm: &RmsNorm, dtype: DType) -> Tensor<2> {
        let Some(said) = self.said.take() else {
            return norm.forward(self.sum.clone()).cast(dtype);
        };
        let (sum, normed) = add_norm(self.sum.clone(), said, norm.weight.val(), norm.eps(), dtype);
        self.sum = sum;
        normed
    }
}

impl Attention {
    /// Attention of one new token per row over the cache, including itself.
    ///
    /// # Shapes
    ///
    /// - x, output: `[rows, hidden]`
    fn forward_next(
        &self,
        x: Tensor<2>,
        rotary: &Rotary,
        next: &NextColumn,
        cache: &mut LayerCache,
    ) -> Tensor<2> {
        let maps = [&self.q_proj, &self.k_proj, &self.v_proj];
        let [queries, keys, values] = maps.map(|it| it.forward_unbiased(x.clone()));
        let bias = |map: &Linear| map.bias.as_ref().map(|it| it.val());
        let biases = match maps.map(bias) {
            [Some(q), Some(k), Some(v)] => Some([q, k, v]),
            _ => None,
        };
        let norms = self.q_norm.as_ref().zip(self.k_norm.as_ref());
        let heads = NewHeads {
            queries,
            keys,
            values,
            biases,
            norms: norms.map(|(q, k)| [q.weight.val(), k.weight.val()]),
            eps: self.q_norm.as_ref().map_or(0.0, RmsNorm::eps),
            cos: rotary.cos.clone(),
            sin: rotary.sin.clone(),
            column: next.column.clone(),
        };
        let queries = cache.place(heads);
        let (keys, values) = (cache.keys.clone(), cache.values.clone());
        let dtype = Linear::input_type([&self.o_proj], &queries.device());
        let (mask, filled) = (next.mask.clone(), next.filled.clone());
        let mixed = decode_attention(queries, keys, values, mask, filled, dtype);
        self.output(mixed)
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
