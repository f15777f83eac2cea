//! Grouped-query attention over packed spans, computed in tiles, with its backward pass.

use std::ops::Range;

use rayon::prelude::*;

use super::elementwise::{softmax, softmax_backward};
use super::product::{Matrix, MatrixMut, Write, product};
use crate::spans::{Heads, SpanQueries};

/// Queries per tile. Keys after the last query of a tile are not computed.
const TILE: usize = 32;

/// Attention of pre-scaled queries; see [`attention`](crate::kernels::attention).
///
/// Parts are computed on the threads of the current pool. Results do not depend on their number.
pub(crate) fn attention(
    queries: &[f32],
    keys: &[f32],
    values: &[f32],
    spans: &[SpanQueries],
    heads: Heads,
) -> Vec<f32> {
    let parts = parts(spans, heads);
    let outputs = parts.par_iter().map(|part| {
        let mut out = vec![0.0; part.queries.len() * part.query_width()];
        let mut scores = Vec::new();
        for tile in part.tiles() {
            tile.weights(&mut scores, queries, keys);
            tile.mix(&mut out, &scores, values);
        }
        out
    });
    let outputs: Vec<Vec<f32>> = outputs.collect();
    let mut out = vec![0.0; queries.len()];
    for (part, of_part) in parts.iter().zip(&outputs) {
        part.place_queries(&mut out, of_part);
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
    let parts = parts(spans, heads);
    let grads = parts.par_iter().map(|part| {
        let mut query_grads = vec![0.0; part.queries.len() * part.query_width()];
        let [mut key_grads, mut value_grads] =
            [(); 2].map(|()| vec![0.0; part.tokens.len() * heads.head_dim]);
        let (mut weights, mut grads) = (Vec::new(), Vec::new());
        for tile in part.tiles() {
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
    });
    let grads: Vec<[Vec<f32>; 3]> = grads.collect();
    let [mut query_grads, mut key_grads, mut value_grads] =
        [queries, keys, values].map(|it| vec![0.0; it.len()]);
    for (part, [of_queries, of_keys, of_values]) in parts.iter().zip(&grads) {
        part.place_queries(&mut query_grads, of_queries);
        part.add_keys(&mut key_grads, of_keys);
        part.add_keys(&mut value_grads, of_values);
    }
    [query_grads, key_grads, value_grads]
}

/// Spans that attend to the tokens of one prefix, and one key-value head.
///
/// # Shapes
///
/// - its queries: `[queries, group * head_dim]`; its keys and values: `[tokens, head_dim]`
struct Part<'a> {
    spans: &'a [SpanQueries],
    queries: Range<usize>,
    tokens: Range<usize>,
    key_head: usize,
    heads: Heads,
}

/// Parts of packed spans, in a fixed order.
fn parts(spans: &[SpanQueries], heads: Heads) -> Vec<Part<'_>> {
    // A span with a prefix follows the span of that prefix, or another one with the same.
    let shares = |span: &SpanQueries, next: &SpanQueries| {
        !next.prefix.is_empty() && (next.prefix == span.own || next.prefix == span.prefix)
    };
    let of_spans = spans.chunk_by(shares).filter_map(|spans| {
        let (first, last) = (spans.first()?, spans.last()?);
        let tokens = if first.prefix.is_empty() { &first.own } else { &first.prefix };
        Some((spans, first.queries.start..last.queries.end, tokens.start..last.own.end))
    });
    of_spans
        .flat_map(|(spans, queries, tokens)| {
            (0..heads.key_value_heads).map(move |key_head| {
                let (queries, tokens) = (queries.clone(), tokens.clone());
                Part { spans, queries, tokens, key_head, heads }
            })
        })
        .collect()
}

impl Part<'_> {
    fn query_width(&self) -> usize {
        self.heads.group * self.heads.head_dim
    }

    /// Tiles in a fixed order.
    fn tiles(&self) -> impl Iterator<Item = Tile<'_>> {
        self.spans.iter().flat_map(move |span| {
            span.indices.chunks(TILE).enumerate().flat_map(move |(index, indices)| {
                (0..self.heads.group).map(move |head| {
                    let start = span.queries.start + index * TILE;
                    let prefix = span.prefix.clone();
                    let seen = |token: &usize| prefix.len() + span.visible(*token).len();
                    let visible = indices.iter().map(seen).collect();
                    let own = indices.last().map_or(0..0, |it| span.visible(*it));
                    let queries = start..start + indices.len();
                    Tile { part: self, queries, head, own, visible, prefix: prefix.clone() }
                })
            })
        })
    }

    /// Copies the part's queries into those of all heads.
    fn place_queries(&self, all: &mut [f32], of_part: &[f32]) {
        let (width, all_width) = (self.query_width(), self.heads.query_width());
        let all = &mut all[self.queries.start * all_width..];
        for (all, row) in all.chunks_mut(all_width).zip(of_part.chunks_exact(width)) {
            all[self.key_head * width..][..width].copy_from_slice(row);
        }
    }

    /// Adds the part's keys to those of all heads.
    fn add_keys(&self, all: &mut [f32], of_part: &[f32]) {
        let (width, all_width) = (self.heads.head_dim, self.heads.key_width());
        let all = &mut all[self.tokens.start * all_width..];
        for (all, row) in all.chunks_mut(all_width).zip(of_part.chunks_exact(width)) {
            let all = &mut all[self.key_head * width..][..width];
            all.iter_mut().zip(row).for_each(|(sum, it)| *sum += it);
        }
    }
}

/// Queries of one head of a span, with the keys that they attend to. Reads the queries and keys of
/// all heads, and writes those of its part.
struct Tile<'a> {
    part: &'a Part<'a>,
    queries: Range<usize>,
    /// Number of the head in its group.
    head: usize,
    prefix: Range<usize>,
    own: Range<usize>,
    /// Number of keys that each query attends to, prefix keys first.
    visible: Vec<usize>,
}

impl Tile<'_> {
    fn width(&self) -> usize {
        self.prefix.len() + self.own.len()
    }

    fn len(&self) -> usize {
        self.queries.len() * self.width()
    }

    /// Keys or values of the tile's head.
    fn keys<'a>(&self, keys: &'a [f32], range: &Range<usize>) -> Matrix<'a> {
        let Heads { head_dim, .. } = self.part.heads;
        let width = self.part.heads.key_width();
        let start = (range.start * width + self.part.key_head * head_dim).min(keys.len());
        Matrix::part(&keys[start..], range.len(), head_dim, width)
    }

    /// Keys or values of the part.
    fn keys_mut<'a>(&self, keys: &'a mut [f32], range: &Range<usize>) -> MatrixMut<'a> {
        let Heads { head_dim, .. } = self.part.heads;
        let start = (range.start - self.part.tokens.start) * head_dim;
        MatrixMut::part(&mut keys[start..], range.len(), head_dim, head_dim)
    }

    /// Queries of the tile's head.
    fn of<'a>(&self, queries: &'a [f32]) -> Matrix<'a> {
        let Heads { head_dim, group, .. } = self.part.heads;
        let width = self.part.heads.query_width();
        let head = self.part.key_head * group + self.head;
        let part = &queries[self.queries.start * width + head * head_dim..];
        Matrix::part(part, self.queries.len(), head_dim, width)
    }

    /// Queries of the part.
    fn of_mut<'a>(&self, queries: &'a mut [f32]) -> MatrixMut<'a> {
        let Heads { head_dim, .. } = self.part.heads;
        let width = self.part.query_width();
        let row = self.queries.start - self.part.queries.start;
        let part = &mut queries[row * width + self.head * head_dim..];
        MatrixMut::part(part, self.queries.len(), head_dim, width)
    }

    /// Splits a matrix over all keys of the tile into prefix keys and own keys.
    fn split<'a>(&self, scores: &'a [f32]) -> [Matrix<'a>; 2] {
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
        let [prefix, own] = self.split(weights);
        product(self.of_mut(out), own, self.keys(values, &self.own), Write::Replace);
        if !self.prefix.is_empty() {
            product(self.of_mut(out), prefix, self.keys(values, &self.prefix), Write::Add);
        }
    }

    /// Computes `out[keys] += weights^T b` for prefix keys and own keys.
    fn spread(&self, out: &mut [f32], weights: &[f32], b: Matrix<'_>) {
        let [prefix, own] = self.split(weights);
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
