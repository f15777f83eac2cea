//! Causal grouped-query attention over packed spans, computed in tiles, with its backward pass.

use std::ops::Range;

use super::kernels::{softmax, softmax_backward};
use super::layout::Span;
use super::product::{Matrix, MatrixMut, Write, product};

/// Queries per tile. Keys after the last query of a tile are not computed.
const TILE: usize = 32;

/// Number of key-value heads, query heads per key-value head, and width of a head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Heads {
    pub(crate) key_value_heads: usize,
    pub(crate) group: usize,
    pub(crate) head_dim: usize,
}

impl Heads {
    /// Width of a token's queries.
    pub(crate) fn query_width(self) -> usize {
        self.key_value_heads * self.group * self.head_dim
    }

    /// Width of a token's keys, and of its values.
    pub(crate) fn key_width(self) -> usize {
        self.key_value_heads * self.head_dim
    }
}

/// Queries of a span: their range among all queries, and the packed index of each query's token.
#[derive(Clone, Debug)]
pub(crate) struct SpanQueries<'a> {
    pub(crate) span: &'a Span,
    pub(crate) queries: Range<usize>,
    pub(crate) indices: &'a [usize],
}

/// Queries of one head of a span, with the keys that they attend to.
struct Tile {
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

    /// Offset at which [`keys`](Self::keys) start.
    fn keys_start(&self, heads: Heads, at: usize, range: &Range<usize>) -> usize {
        range.start * 2 * heads.key_width() + at + self.head / heads.group * heads.head_dim
    }

    /// Keys or values of the tile's head, `at` elements into a token's row.
    fn keys<'a>(
        &self,
        key_values: &'a [f32],
        heads: Heads,
        at: usize,
        range: &Range<usize>,
    ) -> Matrix<'a> {
        let start = self.keys_start(heads, at, range).min(key_values.len());
        let stride = 2 * heads.key_width();
        Matrix::part(&key_values[start..], range.len(), heads.head_dim, stride)
    }

    fn keys_mut<'a>(
        &self,
        key_values: &'a mut [f32],
        heads: Heads,
        at: usize,
        range: &Range<usize>,
    ) -> MatrixMut<'a> {
        let start = self.keys_start(heads, at, range).min(key_values.len());
        let stride = 2 * heads.key_width();
        MatrixMut::part(&mut key_values[start..], range.len(), heads.head_dim, stride)
    }

    /// Offset of the tile's head in a `[queries, query_width]` matrix.
    fn start(&self, heads: Heads) -> usize {
        self.queries.start * heads.query_width() + self.head * heads.head_dim
    }

    fn of<'a>(&self, queries: &'a [f32], heads: Heads) -> Matrix<'a> {
        let part = &queries[self.start(heads)..];
        Matrix::part(part, self.queries.len(), heads.head_dim, heads.query_width())
    }

    fn of_mut<'a>(&self, queries: &'a mut [f32], heads: Heads) -> MatrixMut<'a> {
        let part = &mut queries[self.start(heads)..];
        MatrixMut::part(part, self.queries.len(), heads.head_dim, heads.query_width())
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
    fn against_keys(
        &self,
        out: &mut [f32],
        a: Matrix<'_>,
        key_values: &[f32],
        heads: Heads,
        at: usize,
    ) {
        let (rows, width, split) = (self.queries.len(), self.width(), self.prefix.len());
        let keys = self.keys(key_values, heads, at, &self.prefix);
        product(MatrixMut::part(out, rows, split, width), a, keys.t(), Write::Replace);
        let keys = self.keys(key_values, heads, at, &self.own);
        let out = MatrixMut::part(&mut out[split..], rows, self.own.len(), width);
        product(out, a, keys.t(), Write::Replace);
    }

    /// Computes `out = weights b` over prefix keys and own keys.
    fn mix(&self, out: &mut [f32], weights: &[f32], key_values: &[f32], heads: Heads, at: usize) {
        let [prefix, own] = self.parts(weights);
        let values = self.keys(key_values, heads, at, &self.own);
        product(self.of_mut(out, heads), own, values, Write::Replace);
        if !self.prefix.is_empty() {
            let values = self.keys(key_values, heads, at, &self.prefix);
            product(self.of_mut(out, heads), prefix, values, Write::Add);
        }
    }

    /// Computes `out[keys] += weights^T b` for prefix keys and own keys.
    fn spread(&self, out: &mut [f32], weights: &[f32], b: Matrix<'_>, heads: Heads, at: usize) {
        let [prefix, own] = self.parts(weights);
        product(self.keys_mut(out, heads, at, &self.own), own.t(), b, Write::Add);
        if !self.prefix.is_empty() {
            product(self.keys_mut(out, heads, at, &self.prefix), prefix.t(), b, Write::Add);
        }
    }
}

/// Tiles of packed spans, in a fixed order.
fn tiles<'a>(spans: &'a [SpanQueries<'a>], heads: Heads) -> impl Iterator<Item = Tile> + 'a {
    let count = heads.key_value_heads * heads.group;
    spans.iter().flat_map(move |span| {
        span.indices.chunks(TILE).enumerate().flat_map(move |(index, indices)| {
            (0..count).map(move |head| {
                let start = span.queries.start + index * TILE;
                let (prefix, own) = (span.span.prefix.clone(), &span.span.own);
                let seen = |place: &usize| prefix.len() + place + 1 - own.start;
                let visible = indices.iter().map(seen).collect();
                let last = indices.last().map_or(own.start, |it| it + 1);
                let queries = start..start + indices.len();
                Tile { queries, head, own: own.start..last, visible, prefix: prefix.clone() }
            })
        })
    })
}

/// Attention of pre-scaled queries.
///
/// ```text
/// out = softmax(Q K^T + causal mask) V
/// ```
///
/// Appends the attention weights to `saved`, if given, tile by tile.
///
/// # Shapes
///
/// - queries, out: `[queries, query_width]`; key_values: `[tokens, 2 key_width]`, keys first
///
/// # References
///
/// - [GQA](https://arxiv.org/abs/2305.13245), section 2.2
pub(crate) fn attention(
    out: &mut [f32],
    queries: &[f32],
    key_values: &[f32],
    spans: &[SpanQueries<'_>],
    heads: Heads,
    mut saved: Option<&mut Vec<f32>>,
) {
    let mut scores = Vec::new();
    if let Some(saved) = &mut saved {
        saved.reserve_exact(tiles(spans, heads).map(|it| it.queries.len() * it.width()).sum());
    }
    for tile in tiles(spans, heads) {
        scores.resize(tile.queries.len() * tile.width(), 0.0);
        tile.against_keys(&mut scores, tile.of(queries, heads), key_values, heads, 0);
        softmax(&mut scores, tile.width(), &tile.visible);
        tile.mix(out, &scores, key_values, heads, heads.key_width());
        if let Some(saved) = &mut saved {
            saved.extend_from_slice(&scores);
        }
    }
}

/// Activations that [`attention_backward`] needs from [`attention`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct Attended<'a> {
    pub(crate) queries: &'a [f32],
    pub(crate) key_values: &'a [f32],
    pub(crate) weights: &'a [f32],
}

/// Backward pass of [`attention`]. Writes the gradients of queries, and adds to the gradients of
/// keys and values.
///
/// ```text
/// dP = dO V^T,   dS = softmax'(P, dP),   dQ = dS K,   dK += dS^T Q,   dV += P^T dO
/// ```
///
/// # Shapes
///
/// - As [`attention`]; each gradient has the shape of its tensor.
pub(crate) fn attention_backward(
    upstream: &[f32],
    attended: Attended<'_>,
    spans: &[SpanQueries<'_>],
    heads: Heads,
    query_grads: &mut [f32],
    key_value_grads: &mut [f32],
) {
    let Attended { queries, key_values, mut weights } = attended;
    let values = heads.key_width();
    let mut grads = Vec::new();
    for tile in tiles(spans, heads) {
        let len = tile.queries.len() * tile.width();
        let (tile_weights, rest) = weights.split_at(len);
        weights = rest;
        grads.resize(len, 0.0);
        let upstream = tile.of(upstream, heads);
        tile.against_keys(&mut grads, upstream, key_values, heads, values);
        softmax_backward(tile_weights, &mut grads, tile.width());
        tile.mix(query_grads, &grads, key_values, heads, 0);
        tile.spread(key_value_grads, &grads, tile.of(queries, heads), heads, 0);
        tile.spread(key_value_grads, tile_weights, upstream, heads, values);
    }
}
