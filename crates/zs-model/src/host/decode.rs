//! KV cache of single sequences in host memory, and the forward pass that extends it.

use std::ops::Range;

use super::HostNetwork;
use super::attention::Heads;
use super::block::Angles;
use super::kernels::{attend_single_query, softmax};
use super::product::{Matrix, MatrixMut, Write, product};
use crate::TokenId;

/// Maximum tokens of a forward pass, so that activations stay in the CPU cache.
const MAX_PASS_TOKENS: usize = 256;

/// Queries per tile during prefill.
const TILE: usize = 32;

/// KV cache of one sequence.
#[derive(Clone, Debug, Default)]
pub(crate) struct HostRow {
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

impl HostRow {
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

    /// Appends keys and values, `[new, 2 width]`, after `len` tokens.
    fn append(&mut self, key_values: &[f32], width: usize, len: usize) {
        let needed = len + key_values.len() / (2 * width);
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
        for (offset, token) in key_values.chunks_exact(2 * width).enumerate() {
            let (keys, values) = token.split_at(width);
            for (column, key) in self.keys.chunks_exact_mut(self.capacity).zip(keys) {
                column[len + offset] = *key;
            }
            self.values.extend_from_slice(values);
        }
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

impl HostNetwork {
    /// Feeds each sequence its next tokens (none for a finished one) and returns the logits after
    /// the last one, `[rows, vocab]`; zeros for a sequence without tokens.
    pub(crate) fn feed(&self, rows: &mut [HostRow], tokens: &[Vec<TokenId>]) -> Vec<f32> {
        let mut hidden = vec![0.0; rows.len() * self.width()];
        let mut feeds: Vec<PassTokens> = Vec::new();
        let mut ids: Vec<TokenId> = Vec::new();
        for (row, tokens) in tokens.iter().enumerate() {
            for part in tokens.chunks(MAX_PASS_TOKENS) {
                let continues = feeds.last().is_some_and(|it| it.row == row);
                if continues || ids.len() + part.len() > MAX_PASS_TOKENS {
                    self.pass(rows, &feeds, &ids, &mut hidden);
                    feeds.clear();
                    ids.clear();
                }
                feeds.push(PassTokens { row, indices: ids.len()..ids.len() + part.len() });
                ids.extend_from_slice(part);
            }
        }
        self.pass(rows, &feeds, &ids, &mut hidden);
        self.logits(&hidden)
    }

    /// Runs one forward pass and writes the hidden state of each sequence's last token to its row.
    fn pass(
        &self,
        rows: &mut [HostRow],
        feeds: &[PassTokens],
        ids: &[TokenId],
        hidden: &mut [f32],
    ) {
        if feeds.is_empty() {
            return;
        }
        let positions = feeds.iter().flat_map(|feed| {
            let before = rows[feed.row].len as u32;
            before..before + feed.indices.len() as u32
        });
        let positions: Vec<u32> = positions.collect();
        let angles = self.angles(positions.iter().copied());
        let last: Vec<usize> = feeds.iter().map(|it| it.indices.end - 1).collect();
        let last_angles = self.angles(last.iter().map(|it| positions[*it]));
        let ends: Vec<PassTokens> = (0..feeds.len())
            .map(|it| PassTokens { row: feeds[it].row, indices: it..it + 1 })
            .collect();
        let mut x = self.embed(ids.iter().map(|it| *it as usize));
        for (index, block) in self.blocks.iter().enumerate() {
            let is_last = index + 1 == self.blocks.len();
            let heads = block.heads;
            let attend = |queries: &[f32], key_values: &[f32]| {
                let mut out = vec![0.0; queries.len()];
                let (width, key_width) = (heads.query_width(), heads.key_width());
                for (feed, end) in feeds.iter().zip(&ends) {
                    let row = &mut rows[feed.row];
                    row.layers.resize_with(self.blocks.len(), LayerRow::default);
                    let layer = &mut row.layers[index];
                    let new = feed.indices.start * 2 * key_width..feed.indices.end * 2 * key_width;
                    layer.append(&key_values[new], key_width, row.len);
                    let indices = if is_last { &end.indices } else { &feed.indices };
                    let part = indices.start * width..indices.end * width;
                    let len = row.len + feed.indices.len();
                    layer.attend(&mut out[part.clone()], &queries[part], heads, len);
                }
                out
            };
            let selected: Option<(&[usize], &Angles)> = is_last.then_some((&last, &last_angles));
            x = block.forward_cached(&x, &angles, selected, attend);
        }
        feeds.iter().for_each(|it| rows[it.row].len += it.indices.len());
        let (normed, _) = self.norm.forward(&x);
        let width = self.width();
        for (feed, row) in feeds.iter().zip(normed.chunks_exact(width)) {
            hidden[feed.row * width..(feed.row + 1) * width].copy_from_slice(row);
        }
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
            row.append(&[at, at + 0.25, at + 0.5, at + 0.75], 2, token);
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
