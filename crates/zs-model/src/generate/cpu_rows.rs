//! KV cache of single sequences on a CPU, without padding, and the forward pass that extends it.

use std::ops::Range;

use burn::tensor::{Device, Int, Tensor, TensorData};
use rayon::prelude::*;

use crate::cpu::elementwise::{attend_single_query, softmax};
use crate::cpu::product::{Matrix, MatrixMut, Write, product};
use crate::network::Rotary;
use crate::network::attention::{Attention, Projections};
use crate::network::block::TokenContext;
use crate::spans::{Heads, ints};
use crate::{CausalLm, PolicyModel, TokenId};

/// Maximum tokens of a forward pass, so that activations stay in the CPU cache.
const MAX_PASS_TOKENS: usize = 256;

/// Queries per tile during prefill.
const TILE: usize = 32;

/// KV cache of one sequence.
#[derive(Clone, Debug, Default)]
pub(crate) struct CpuRow {
    layers: Vec<LayerRow>,
    len: usize,
}

/// KV cache of one layer. Keys are transposed, so that one query is multiplied with many keys at
/// once.
///
/// # Shapes
///
/// - keys: `[key_width, capacity]`; values: `[len, key_width]`
#[derive(Clone, Debug, Default)]
struct LayerRow {
    keys: Vec<f32>,
    values: Vec<f32>,
    capacity: usize,
}

/// Tokens of one sequence in a forward pass.
struct PassTokens {
    row: usize,
    /// Range of the tokens in the pass.
    indices: Range<usize>,
}

impl CpuRow {
    /// Number of cached tokens.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Copy of the first `len` tokens.
    pub(crate) fn first(&self, len: usize) -> Self {
        Self { layers: self.layers.iter().map(|it| it.first(len)).collect(), len }
    }
}

impl LayerRow {
    fn first(&self, len: usize) -> Self {
        let values = self.values[..self.width() * len].to_vec();
        Self { keys: self.keys.clone(), values, capacity: self.capacity }
    }

    fn width(&self) -> usize {
        self.keys.len().checked_div(self.capacity).unwrap_or(0)
    }

    /// Appends keys and values, `[new, width]` each, after `len` tokens.
    fn append(&mut self, keys: &[f32], values: &[f32], width: usize, len: usize) {
        let needed = len + values.len() / width;
        if needed > self.capacity {
            let capacity = needed.max(self.capacity * 3 / 2).next_multiple_of(32);
            let mut keys = vec![0.0; width * capacity];
            if len > 0 {
                let old = self.keys.chunks_exact(self.capacity);
                for (new, old) in keys.chunks_exact_mut(capacity).zip(old) {
                    new[..len].copy_from_slice(&old[..len]);
                }
            }
            (self.keys, self.capacity) = (keys, capacity);
        }
        for (offset, token) in keys.chunks_exact(width).enumerate() {
            for (column, key) in self.keys.chunks_exact_mut(self.capacity).zip(token) {
                column[len + offset] = *key;
            }
        }
        self.values.extend_from_slice(values);
    }

    /// Attention of the queries at the end of the first `len` tokens.
    fn attend(&self, out: &mut [f32], queries: &[f32], heads: Heads, len: usize) {
        let Heads { key_value_heads, group, head_dim } = heads;
        let (width, query_width) = (heads.key_width(), heads.query_width());
        let new = queries.len() / query_width;
        let mut scores = Vec::new();
        for head in 0..key_value_heads * group {
            let first = head / group * head_dim;
            let keys = &self.keys[first * self.capacity..(first + head_dim) * self.capacity];
            let values = &self.values[first..];
            let at = head * head_dim..(head + 1) * head_dim;
            if new == 1 {
                scores.resize(len, 0.0);
                let (query, out) = (&queries[at.clone()], &mut out[at]);
                attend_single_query(out, query, keys, self.capacity, values, width, &mut scores);
                continue;
            }
            for start in (0..new).step_by(TILE) {
                let rows = TILE.min(new - start);
                let visible: Vec<usize> = (0..rows).map(|it| len - new + start + it + 1).collect();
                let seen = visible[rows - 1];
                scores.resize(rows * seen, 0.0);
                let part = start * query_width + at.start;
                let query = Matrix::part(&queries[part..], rows, head_dim, query_width);
                let keys = Matrix::part(keys, head_dim, seen, self.capacity);
                product(MatrixMut::of(&mut scores, seen), query, keys, Write::Replace);
                softmax(&mut scores, seen, &visible);
                let out = MatrixMut::part(&mut out[part..], rows, head_dim, query_width);
                let values = Matrix::part(values, seen, head_dim, width);
                product(out, Matrix::of(&scores, seen), values, Write::Replace);
            }
        }
    }
}

/// Feeds each sequence its next tokens (none for a finished one) and returns the logits after the
/// last one, `[rows, vocab]`; of zeros for a sequence without tokens.
pub(crate) fn feed(network: &CausalLm, rows: &mut [CpuRow], tokens: &[Vec<TokenId>]) -> Tensor<2> {
    let device = network.device();
    let width = network.model.norm.weight.shape()[0];
    let mut hidden = vec![0.0; rows.len() * width];
    let mut pass: Vec<PassTokens> = Vec::new();
    let mut ids: Vec<TokenId> = Vec::new();
    let mut run = |pass: &mut Vec<PassTokens>, ids: &mut Vec<TokenId>| {
        if !pass.is_empty() {
            let states = run_pass(network, rows, pass, ids, &device).into_data();
            let states = states.as_slice::<f32>().expect("hidden states are f32");
            for (tokens, state) in pass.iter().zip(states.chunks_exact(width)) {
                hidden[tokens.row * width..(tokens.row + 1) * width].copy_from_slice(state);
            }
        }
        pass.clear();
        ids.clear();
    };
    for (row, tokens) in tokens.iter().enumerate() {
        for part in tokens.chunks(MAX_PASS_TOKENS) {
            let continues = pass.last().is_some_and(|it| it.row == row);
            if continues || ids.len() + part.len() > MAX_PASS_TOKENS {
                run(&mut pass, &mut ids);
            }
            pass.push(PassTokens { row, indices: ids.len()..ids.len() + part.len() });
            ids.extend_from_slice(part);
        }
    }
    run(&mut pass, &mut ids);
    let hidden = TensorData::new(hidden, [tokens.len(), width]);
    network.head(Tensor::from_data(hidden, &device))
}

/// Runs one forward pass and returns the hidden state of each sequence's last token.
fn run_pass(
    network: &CausalLm,
    rows: &mut [CpuRow],
    pass: &[PassTokens],
    ids: &[TokenId],
    device: &Device,
) -> Tensor<2> {
    let (decoder, layers) = (&network.model, network.model.layers.len());
    let positions = pass.iter().flat_map(|tokens| {
        let before = rows[tokens.row].len as u32;
        before..before + tokens.indices.len() as u32
    });
    let last = ints(pass.iter().map(|it| (it.indices.end - 1) as i32).collect(), device);
    let rotary = decoder.rotary.at(positions, device);
    let last_rotary = rotary.select(&last);
    let ends =
        pass.iter().enumerate().map(|(at, it)| PassTokens { row: it.row, indices: at..at + 1 });
    for tokens in pass {
        rows[tokens.row].layers.resize_with(layers, LayerRow::default);
    }
    let mut context = CpuPass {
        tokens: pass,
        ends: ends.collect(),
        last,
        rotary,
        last_rotary,
        last_layer: layers - 1,
        rows: &mut *rows,
    };
    let ids = ints(ids.iter().map(|it| *it as i32).collect(), device);
    let hidden = decoder.hidden(ids, &mut context);
    pass.iter().for_each(|it| rows[it.row].len += it.indices.len());
    hidden
}

/// Context of a forward pass. The last block computes only the last token of each sequence.
struct CpuPass<'a> {
    rows: &'a mut [CpuRow],
    tokens: &'a [PassTokens],
    /// Last token of each sequence among these.
    ends: Vec<PassTokens>,
    /// Index of these tokens in the pass.
    last: Tensor<1, Int>,
    rotary: Rotary,
    last_rotary: Rotary,
    last_layer: usize,
}

impl TokenContext for CpuPass<'_> {
    fn outputs(&self, layer: usize) -> Option<Tensor<1, Int>> {
        (layer == self.last_layer).then(|| self.last.clone())
    }

    fn attend(
        &mut self,
        layer: usize,
        attention: &Attention,
        projections: Projections,
    ) -> Tensor<2> {
        let is_last = layer == self.last_layer;
        let of_queries = if is_last { &self.last_rotary } else { &self.rotary };
        let rotated = attention.rotated(projections, [of_queries, &self.rotary]);
        let (heads, shape, device) = (attention.heads(), rotated[0].shape(), rotated[0].device());
        let data = rotated.map(Tensor::into_data);
        let [queries, keys, values] =
            data.each_ref().map(|it| it.as_slice::<f32>().expect("heads are f32"));
        let mut out = vec![0.0; queries.len()];
        let (width, key_width) = (heads.query_width(), heads.key_width());
        let mut of_rows: Vec<_> =
            self.rows.iter_mut().map(|it| Some((it.len, it.layers.get_mut(layer)?))).collect();
        let mut rest = &mut out[..];
        let mut work = Vec::with_capacity(self.tokens.len());
        for (tokens, end) in self.tokens.iter().zip(&self.ends) {
            let indices = if is_last { &end.indices } else { &tokens.indices };
            let (out, others) = rest.split_at_mut(indices.len() * width);
            rest = others;
            let row = of_rows[tokens.row].take().expect("a pass has each row once");
            work.push((row, tokens.indices.clone(), indices.clone(), out));
        }
        work.into_par_iter().for_each(|((len, layer), new, indices, out)| {
            let keys_at = new.start * key_width..new.end * key_width;
            layer.append(&keys[keys_at.clone()], &values[keys_at], key_width, len);
            let queries = &queries[indices.start * width..indices.end * width];
            layer.attend(out, queries, heads, len + new.len());
        });
        Tensor::from_data(TensorData::new(out, shape), &device)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn appending_keeps_earlier_keys_and_values() {
        let mut row = LayerRow::default();
        for token in 0..100 {
            let at = token as f32;
            row.append(&[at, at + 0.25], &[at + 0.5, at + 0.75], 2, token);
        }
        assert!(row.capacity >= 100);
        for token in 0..100 {
            let at = token as f32;
            assert_eq!((row.keys[token], row.keys[row.capacity + token]), (at, at + 0.25));
            assert_eq!(row.values[2 * token..2 * token + 2], [at + 0.5, at + 0.75]);
        }
        let first = row.first(3);
        assert_eq!((first.values.len(), first.keys[2]), (6, 2.0));
    }
}
