//! Forward and backward pass of a decoder block in host memory.

use super::attention::{Attended, Heads, SpanQueries, attention, attention_backward};
use super::kernels::{add, rotate, swiglu, swiglu_backward};
use super::linear::{HostLinear, HostNorm};
use super::parameter::Gradients;
use super::product::{Matrix, MatrixMut, Write};
use crate::network::Block;

/// [`Block`] in host memory.
#[derive(Debug)]
pub(crate) struct HostBlock {
    pub(crate) heads: Heads,
    queries: HostLinear,
    keys: HostLinear,
    values: HostLinear,
    output: HostLinear,
    query_norm: Option<HostNorm>,
    key_norm: Option<HostNorm>,
    gate: HostLinear,
    up: HostLinear,
    down: HostLinear,
    attention_norm: HostNorm,
    feed_forward_norm: HostNorm,
}

/// Cosines and sines of token positions, `[tokens, head_dim / 2]` each.
#[derive(Clone, Debug, Default)]
pub(crate) struct Angles {
    pub(crate) cos: Vec<f32>,
    pub(crate) sin: Vec<f32>,
}

/// Positions that a block computes outputs for.
#[derive(Debug)]
pub(crate) struct OutputPositions<'a> {
    /// Ascending indices among the block's tokens; `None` for all tokens.
    pub(crate) indices: Option<&'a [usize]>,
    pub(crate) spans: Vec<SpanQueries<'a>>,
    /// Rotary angles of these positions.
    pub(crate) angles: &'a Angles,
}

/// Activations saved by the forward pass for the backward pass.
#[derive(Debug)]
pub(crate) struct SavedActivations {
    queries: Vec<f32>,
    key_values: Vec<f32>,
    /// Queries and keys before their norms.
    pre_norm: Option<[NormInput; 2]>,
    weights: Vec<f32>,
    attended: Vec<f32>,
    residual: Vec<f32>,
    gate: Vec<f32>,
    up: Vec<f32>,
}

#[derive(Debug)]
struct NormInput {
    input: Vec<f32>,
    inverse: Vec<f32>,
}

impl HostBlock {
    pub(crate) fn of(block: &Block) -> Option<Self> {
        let norm = |it: &Option<_>| match it {
            Some(it) => HostNorm::of(it).map(Some),
            None => Some(None),
        };
        let [key_value_heads, group, head_dim] = block.self_attn.head_shape();
        Some(Self {
            heads: Heads { key_value_heads, group, head_dim },
            queries: HostLinear::of(&block.self_attn.q_proj)?,
            keys: HostLinear::of(&block.self_attn.k_proj)?,
            values: HostLinear::of(&block.self_attn.v_proj)?,
            output: HostLinear::of(&block.self_attn.o_proj)?,
            query_norm: norm(&block.self_attn.q_norm)?,
            key_norm: norm(&block.self_attn.k_norm)?,
            gate: HostLinear::of(&block.mlp.gate_proj)?,
            up: HostLinear::of(&block.mlp.up_proj)?,
            down: HostLinear::of(&block.mlp.down_proj)?,
            attention_norm: HostNorm::of(&block.input_layernorm)?,
            feed_forward_norm: HostNorm::of(&block.post_attention_layernorm)?,
        })
    }

    /// Maps `[tokens, hidden]` to `[selected, hidden]`. Returns the saved activations if `save` is
    /// true.
    pub(crate) fn forward(
        &self,
        x: &[f32],
        angles: &Angles,
        selected: &OutputPositions<'_>,
        save: bool,
    ) -> (Vec<f32>, Option<SavedActivations>) {
        let width = self.attention_norm.width();
        let (normed, _) = self.attention_norm.forward(x);
        let (key_values, key_norm_input) = self.key_values(&normed, angles);
        let (queries, query_norm_input) =
            self.rotated_queries(&select_rows(&normed, width, selected), selected.angles);
        drop(normed);

        let mut attended = vec![0.0; queries.len()];
        let mut weights = Vec::new();
        let saved_weights = save.then_some(&mut weights);
        attention(&mut attended, &queries, &key_values, &selected.spans, self.heads, saved_weights);

        let mut residual = select_rows(x, width, selected).into_owned();
        self.output.forward(
            MatrixMut::of(&mut residual, width),
            Matrix::of(&attended, self.heads.query_width()),
            Write::Add,
        );
        let FeedForward { out, gate, up } = self.feed_forward(&residual);
        let saved = save.then(|| SavedActivations {
            queries,
            key_values,
            pre_norm: query_norm_input.zip(key_norm_input).map(|(queries, keys)| [queries, keys]),
            weights,
            attended,
            residual,
            gate,
            up,
        });
        (out, saved)
    }

    /// [`forward`](Self::forward) with an external KV cache: `attend` receives the queries and the
    /// new keys and values, and returns the attention output.
    pub(crate) fn forward_cached(
        &self,
        x: &[f32],
        angles: &Angles,
        selected: Option<(&[usize], &Angles)>,
        attend: impl FnOnce(&[f32], &[f32]) -> Vec<f32>,
    ) -> Vec<f32> {
        let width = self.attention_norm.width();
        let (mut normed, _) = self.attention_norm.forward(x);
        let (key_values, _) = self.key_values(&normed, angles);
        let (mut residual, angles) = match selected {
            None => (x.to_vec(), angles),
            Some((indices, angles)) => {
                normed = gather(&normed, width, indices);
                (gather(x, width, indices), angles)
            }
        };
        let (queries, _) = self.rotated_queries(&normed, angles);
        let attended = attend(&queries, &key_values);
        let attended = Matrix::of(&attended, self.heads.query_width());
        self.output.forward(MatrixMut::of(&mut residual, width), attended, Write::Add);
        self.feed_forward(&residual).out
    }

    /// Keys, rotated, and values of normalised tokens: `[tokens, 2 key_width]`.
    fn key_values(&self, normed: &[f32], angles: &Angles) -> (Vec<f32>, Option<NormInput>) {
        let Heads { key_value_heads, head_dim, .. } = self.heads;
        let width = self.heads.key_width();
        let x = Matrix::of(normed, self.attention_norm.width());
        let tokens = x.rows();
        let mut key_values = vec![0.0; tokens * 2 * width];
        let keys = MatrixMut::part(&mut key_values, tokens, width, 2 * width);
        self.keys.forward(keys, x, Write::Replace);
        let tail = width.min(key_values.len());
        let values = MatrixMut::part(&mut key_values[tail..], tokens, width, 2 * width);
        self.values.forward(values, x, Write::Replace);
        let normed = self.key_norm.as_ref().map(|norm| {
            let input: Vec<f32> =
                key_values.chunks(2 * width).flat_map(|it| &it[..width]).copied().collect();
            let (output, inverse) = norm.forward(&input);
            for (row, keys) in key_values.chunks_mut(2 * width).zip(output.chunks(width)) {
                row[..width].copy_from_slice(keys);
            }
            NormInput { input, inverse }
        });
        let angles = (&angles.cos[..], &angles.sin[..]);
        rotate(&mut key_values, 2 * width, key_value_heads, head_dim / 2, angles, 1.0);
        (key_values, normed)
    }

    /// Rotated and scaled queries of normalised tokens, `[selected, query_width]`.
    fn rotated_queries(&self, normed: &[f32], angles: &Angles) -> (Vec<f32>, Option<NormInput>) {
        let x = Matrix::of(normed, self.attention_norm.width());
        let width = self.heads.query_width();
        let mut queries = vec![0.0; x.rows() * width];
        self.queries.forward(MatrixMut::of(&mut queries, width), x, Write::Replace);
        let normed = self.query_norm.as_ref().map(|norm| {
            let (output, inverse) = norm.forward(&queries);
            NormInput { input: std::mem::replace(&mut queries, output), inverse }
        });
        self.rotate_queries(&mut queries, (&angles.cos, &angles.sin));
        (queries, normed)
    }

    fn rotate_queries(&self, queries: &mut [f32], angles: (&[f32], &[f32])) {
        let Heads { key_value_heads, group, head_dim } = self.heads;
        // Scaling the queries is cheaper than scaling the scores.
        let scale = 1.0 / (head_dim as f32).sqrt();
        let stride = self.heads.query_width();
        rotate(queries, stride, key_value_heads * group, head_dim / 2, angles, scale);
    }

    /// Computes `residual + mlp(norm(residual))`.
    fn feed_forward(&self, residual: &[f32]) -> FeedForward {
        let width = self.feed_forward_norm.width();
        let (normed, _) = self.feed_forward_norm.forward(residual);
        let x = Matrix::of(&normed, width);
        let inner = self.gate.output();
        let mut gate = vec![0.0; x.rows() * inner];
        let mut up = vec![0.0; x.rows() * inner];
        self.gate.forward(MatrixMut::of(&mut gate, inner), x, Write::Replace);
        self.up.forward(MatrixMut::of(&mut up, inner), x, Write::Replace);
        let mut hidden = vec![0.0; x.rows() * inner];
        swiglu(&gate, &up, &mut hidden);
        let mut out = residual.to_vec();
        let hidden = Matrix::of(&hidden, inner);
        self.down.forward(MatrixMut::of(&mut out, width), hidden, Write::Add);
        FeedForward { out, gate, up }
    }

    /// Backward pass: maps the gradient of the output, `[selected, hidden]`, to that of `x`,
    /// `[tokens, hidden]`.
    pub(crate) fn backward(
        &self,
        x: &[f32],
        mut saved: SavedActivations,
        angles: &Angles,
        selected: &OutputPositions<'_>,
        upstream: Vec<f32>,
        grads: &mut Gradients,
    ) -> Vec<f32> {
        let width = self.attention_norm.width();
        let residual_grads = self.feed_forward_backward(&mut saved, upstream, grads);

        let query_width = self.heads.query_width();
        let mut attended_grads = vec![0.0; saved.attended.len()];
        self.output.backward(
            Matrix::of(&saved.attended, query_width),
            Matrix::of(&residual_grads, width),
            MatrixMut::of(&mut attended_grads, query_width),
            Write::Replace,
            grads,
        );
        let mut query_grads = vec![0.0; saved.queries.len()];
        let mut key_value_grads = vec![0.0; saved.key_values.len()];
        let attended = Attended {
            queries: &saved.queries,
            key_values: &saved.key_values,
            weights: &saved.weights,
        };
        attention_backward(
            &attended_grads,
            attended,
            &selected.spans,
            self.heads,
            &mut query_grads,
            &mut key_value_grads,
        );
        drop(attended_grads);

        let back: Vec<f32> = selected.angles.sin.iter().map(|it| -it).collect();
        self.rotate_queries(&mut query_grads, (&selected.angles.cos, &back));
        self.keys_backward(&mut key_value_grads, angles, saved.pre_norm.as_ref(), grads);
        if let (Some(norm), Some([queries, _])) = (&self.query_norm, &saved.pre_norm) {
            let mut input_grads = vec![0.0; query_grads.len()];
            norm.backward(&queries.input, &queries.inverse, &query_grads, &mut input_grads, grads);
            query_grads = input_grads;
        }

        let (normed, inverse) = self.attention_norm.forward(x);
        let mut normed_grads = vec![0.0; x.len()];
        let x_normed = Matrix::of(&normed, width);
        let (tokens, keys) = (x_normed.rows(), self.heads.key_width());
        let parts = [(&self.keys, 0, Write::Replace), (&self.values, keys, Write::Add)];
        for (linear, at, mode) in parts {
            let at = at.min(key_value_grads.len());
            let upstream = Matrix::part(&key_value_grads[at..], tokens, keys, 2 * keys);
            let input_grads = MatrixMut::of(&mut normed_grads, width);
            linear.backward(x_normed, upstream, input_grads, mode, grads);
        }
        let upstream = Matrix::of(&query_grads, query_width);
        let mut input_grads;
        match selected.indices {
            None => {
                let normed_grads = MatrixMut::of(&mut normed_grads, width);
                self.queries.backward(x_normed, upstream, normed_grads, Write::Add, grads);
                input_grads = residual_grads;
            }
            Some(indices) => {
                let mut part = vec![0.0; residual_grads.len()];
                let selected_normed = select_rows(&normed, width, selected);
                let x = Matrix::of(&selected_normed, width);
                let part_grads = MatrixMut::of(&mut part, width);
                self.queries.backward(x, upstream, part_grads, Write::Replace, grads);
                scatter_add(&mut normed_grads, &part, width, indices);
                input_grads = vec![0.0; x_normed.rows() * width];
                scatter_add(&mut input_grads, &residual_grads, width, indices);
            }
        }
        self.attention_norm.backward(x, &inverse, &normed_grads, &mut input_grads, grads);
        input_grads
    }

    /// Backward pass of the feed-forward layer: maps the gradient of the block's output to that of
    /// the residual stream before the layer.
    fn feed_forward_backward(
        &self,
        saved: &mut SavedActivations,
        mut upstream: Vec<f32>,
        grads: &mut Gradients,
    ) -> Vec<f32> {
        let (width, inner) = (self.feed_forward_norm.width(), self.gate.output());
        let rows = saved.residual.len() / width;
        let mut hidden = vec![0.0; rows * inner];
        let output_grads = Matrix::of(&upstream, width);
        self.down.input_gradient(MatrixMut::of(&mut hidden, inner), output_grads, Write::Replace);
        swiglu_backward(&mut saved.gate, &mut saved.up, &mut hidden);
        self.down.parameter_gradients(Matrix::of(&hidden, inner), output_grads, grads);
        drop(hidden);
        let (normed, inverse) = self.feed_forward_norm.forward(&saved.residual);
        let x = Matrix::of(&normed, width);
        let mut normed_grads = vec![0.0; normed.len()];
        let parts = [(&self.gate, &saved.gate, Write::Replace), (&self.up, &saved.up, Write::Add)];
        for (linear, part, mode) in parts {
            let input_grads = MatrixMut::of(&mut normed_grads, width);
            linear.backward(x, Matrix::of(part, inner), input_grads, mode, grads);
        }
        self.feed_forward_norm.backward(
            &saved.residual,
            &inverse,
            &normed_grads,
            &mut upstream,
            grads,
        );
        upstream
    }

    /// Maps the gradients of rotated keys to those of projected keys, in place.
    fn keys_backward(
        &self,
        key_value_grads: &mut [f32],
        angles: &Angles,
        pre_norm: Option<&[NormInput; 2]>,
        grads: &mut Gradients,
    ) {
        let Heads { key_value_heads, head_dim, .. } = self.heads;
        let width = self.heads.key_width();
        let back: Vec<f32> = angles.sin.iter().map(|it| -it).collect();
        let angles = (&angles.cos[..], &back[..]);
        rotate(key_value_grads, 2 * width, key_value_heads, head_dim / 2, angles, 1.0);
        let (Some(norm), Some([_, keys])) = (&self.key_norm, pre_norm) else { return };
        let upstream: Vec<f32> =
            key_value_grads.chunks(2 * width).flat_map(|it| &it[..width]).copied().collect();
        let mut input_grads = vec![0.0; upstream.len()];
        norm.backward(&keys.input, &keys.inverse, &upstream, &mut input_grads, grads);
        for (row, keys) in key_value_grads.chunks_mut(2 * width).zip(input_grads.chunks(width)) {
            row[..width].copy_from_slice(keys);
        }
    }
}

struct FeedForward {
    out: Vec<f32>,
    gate: Vec<f32>,
    up: Vec<f32>,
}

/// Rows of the selected positions.
fn select_rows<'a>(
    x: &'a [f32],
    width: usize,
    selected: &OutputPositions<'_>,
) -> std::borrow::Cow<'a, [f32]> {
    match selected.indices {
        None => x.into(),
        Some(indices) => gather(x, width, indices).into(),
    }
}

/// Copies rows by index into a contiguous matrix.
pub(crate) fn gather(x: &[f32], width: usize, indices: &[usize]) -> Vec<f32> {
    let mut rows = Vec::with_capacity(indices.len() * width);
    indices.iter().for_each(|it| rows.extend_from_slice(&x[it * width..(it + 1) * width]));
    rows
}

/// Adds each row to the row of `out` at its index.
pub(crate) fn scatter_add(out: &mut [f32], rows: &[f32], width: usize, indices: &[usize]) {
    for (row, &place) in rows.chunks(width).zip(indices) {
        add(&mut out[place * width..(place + 1) * width], row);
    }
}
