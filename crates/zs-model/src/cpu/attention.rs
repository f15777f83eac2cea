//! Causal grouped-query attention over packed spans, computed in tiles, with its backward pass.

use std::ops::Range;

use super::elementwise::{softmax, softmax_backward};
use super::product::{Matrix, MatrixMut, Write, product};
use crate::spans::{Heads, SpanQueries};

/// Queries per tile. Keys after the last query of a tile are not computed.
const TILE: usize = 32;

/// Queries of one head of a span, with the keys that they attend to.
struct Tile {
    heads: Heads,
    queries: Range<usize>,
    head: usize,
    prefix: Range<usize>,
    own: Range<usize>,
    /// Number of keys that each query attends to, prefix keys first.
    visible: Vec<usize>,
}

impl Tile {
    fn width(&self) -> usize {
        self.prefix.len() + self.own.len()
    }

    fn len(&self) -> usize {
        self.queries.len() * self.width()
    }

    /// Offset at which the tile's head starts in the keys of a range of tokens.
    fn keys_start(&self, range: &Range<usize>) -> usize {
        range.start * self.heads.key_width() + self.head / self.heads.group * self.heads.head_dim
    }

    /// Keys or values of the tile's head.
    fn keys<'a>(&self, keys: &'a [f32], range: &Range<usize>) -> Matrix<'a> {
        let start = self.keys_start(range).min(keys.len());
        Matrix::part(&keys[start..], range.len(), self.heads.head_dim, self.heads.key_width())
    }

    fn keys_mut<'a>(&self, keys: &'a mut [f32], range: &Range<usize>) -> MatrixMut<'a> {
        let start = self.keys_start(range).min(keys.len());
        let Heads { head_dim, .. } = self.heads;
        MatrixMut::part(&mut keys[start..], range.len(), head_dim, self.heads.key_width())
    }

    /// Offset of the tile's head in a `[queries, query_width]` matrix.
    fn start(&self) -> usize {
        self.queries.start * self.heads.query_width() + self.head * self.heads.head_dim
    }

    fn of<'a>(&self, queries: &'a [f32]) -> Matrix<'a> {
        let Heads { head_dim, .. } = self.heads;
        let part = &queries[self.start()..];
        Matrix::part(part, self.queries.len(), head_dim, self.heads.query_width())
    }

    fn of_mut<'a>(&self, queries: &'a mut [f32]) -> MatrixMut<'a> {
        let Heads { head_dim, .. } = self.heads;
        let part = &mut queries[self.start()..];
        MatrixMut::part(part, self.queries.len(), head_dim, self.heads.query_width())
    }

    /// Splits a matrix over all keys of the tile into prefix keys and own keys.
    fn parts<'a>(&self, scores: &'a [f32]) -> [Matrix<'a>; 2] {
        let (rows, width) = (self.queries.len(), self.width());
        [
            Matrix::part(scores, rows, self.prefix.len(), width),
            Matrix::part(&scores[self.prefix.len()..], rows, self.own.len(), width),
        ]
    }

    /// Computes `out[:, keys] = a b^T` for prefix keys and own keys.
    fn against_keys(&self, out: &mut [f32], a: Matrix<'_>, keys: &[f32]) {
        let (rows, width, split) = (self.queries.len(), self.width(), self.prefix.len());
        if split > 0 {
            let out = MatrixMut::part(out, rows, split, width);
            product(out, a, self.keys(keys, &self.prefix).t(), Write::Replace);
        }
        let out = MatrixMut::part(&mut out[split..], rows, self.own.len(), width);
        product(out, a, self.keys(keys, &self.own).t(), Write::Replace);
    }

    /// Computes `out = weights b` over prefix keys and own keys.
    fn mix(&self, out: &mut [f32], weights: &[f32], values: &[f32]) {
        let [prefix, own] = self.parts(weights);
        product(self.of_mut(out), own, self.keys(values, &self.own), Write::Replace);
        if !self.prefix.is_empty() {
            product(self.of_mut(out), prefix, self.keys(values, &self.prefix), Write::Add);
        }
    }

    /// Computes `out[keys] += weights^T b` for prefix keys and own keys.
    fn spread(&self, out: &mut [f32], weights: &[f32], b: Matrix<'_>) {
        let [prefix, own] = self.parts(weights);
        product(self.keys_mut(out, &self.own), own.t(), b, Write::Add);
        if !self.prefix.is_empty() {
            product(self.keys_mut(out, &self.prefix), prefix.t(), b, Write::Add);
        }
    }

    /// Attention weights.
    fn weights(&self, scores: &mut Vec<f32>, queries: &[f32], keys: &[f32]) {
        scores.resize(self.len(), 0.0);
        self.against_keys(scores, self.of(queries), keys);
        softmax(scores, self.width(), &self.visible);
    }
}

/// Tiles of packed spans, in a fixed order.
fn tiles(spans: &[SpanQueries], heads: Heads) -> impl Iterator<Item = Tile> {
    let count = heads.key_value_heads * heads.group;
    spans.iter().flat_map(move |span| {
        span.indices.chunks(TILE).enumerate().flat_map(move |(index, indices)| {
            (0..count).map(move |head| {
                let start = span.queries.start + index * TILE;
                let (prefix, own) = (span.prefix.clone(), &span.own);
                let seen = |place: &usize| prefix.len() + place + 1 - own.start;
                let visible = indices.iter().map(seen).collect();
                let last = indices.last().map_or(own.start, |it| it + 1);
                let queries = start..start + indices.len();
                Tile { heads, queries, head, own: own.start..last, visible, prefix: prefix.clone() }
            })
        })
    })
}

/// Attention of pre-scaled queries; see [`attention`](crate::kernels::attention).
pub(crate) fn attention(
    queries: &[f32],
    keys: &[f32],
    values: &[f32],
    spans: &[SpanQueries],
    heads: Heads,
) -> Vec<f32> {
    let mut out = vec![0.0; queries.len()];
    let mut scores = Vec::new();
    for tile in tiles(spans, heads) {
        tile.weights(&mut scores, queries, keys);
        tile.mix(&mut out, &scores, values);
    }
    out
}

/// Gradients of queries, keys and values, given that of the output. Recomputes the attention
/// weights, one tile at a time.
///
/// ```text
/// dP = dO V^T,   dS = softmax'(P, dP),   dQ = dS K,   dK += dS^T Q,   dV += P^T dO
/// ```
pub(crate) fn attention_backward(
    [queries, keys, values]: [&[f32]; 3],
    upstream: &[f32],
    spans: &[SpanQueries],
    heads: Heads,
) -> [Vec<f32>; 3] {
    let [mut query_grads, mut key_grads, mut value_grads] =
        [queries, keys, values].map(|it| vec![0.0; it.len()]);
    let (mut weights, mut grads) = (Vec::new(), Vec::new());
    for tile in tiles(spans, heads) {
        tile.weights(&mut weights, queries, keys);
        grads.resize(tile.len(), 0.0);
        let upstream = tile.of(upstream);
        tile.against_keys(&mut grads, upstream, values);
        softmax_backward(&weights, &mut grads, tile.width());
        tile.mix(&mut query_grads, &grads, keys);
        tile.spread(&mut key_grads, &grads, tile.of(queries));
        tile.spread(&mut value_grads, &weights, upstream);
    }
    [query_grads, key_grads, value_grads]
}
