//! KV cache of single sequences on a CPU, without padding, and the forward pass that extends it.

use std::ops::Range;

use burn::tensor::{Device, FloatDType, Int, Tensor, TensorData};
use half::bf16;
use rayon::prelude::*;

use crate::cpu::cached_attention::KeysValues;
use crate::network::Rotary;
use crate::network::attention::{Attention, Projections};
use crate::network::block::TokenContext;
use crate::spans::{Heads, ints};
use crate::{CausalLm, PolicyModel, TokenId};

/// Maximum tokens of a forward pass, so that activations stay in the CPU cache.
const MAX_PASS_TOKENS: usize = 256;

/// KV cache of one sequence.
#[derive(Clone, Debug)]
pub(crate) struct CpuRow {
    layers: Vec<LayerRow>,
    len: usize,
}

/// KV cache of one layer, in the dtype of the cache.
#[derive(Clone, Debug)]
enum LayerRow {
    F32(KeysValues<f32>),
    Bf16(KeysValues<bf16>),
}

/// Tokens of one sequence in a forward pass.
struct PassTokens {
    row: usize,
    /// Range of the tokens in the pass.
    indices: Range<usize>,
}

impl CpuRow {
    /// Cache of an empty sequence.
    pub(crate) fn new(layers: usize, dtype: FloatDType) -> Self {
        let layer = || match dtype {
            FloatDType::BF16 => LayerRow::Bf16(KeysValues::default()),
            _ => LayerRow::F32(KeysValues::default()),
        };
        Self { layers: (0..layers).map(|_| layer()).collect(), len: 0 }
    }

    /// Number of cached tokens.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Copy of the first `len` tokens.
    pub(crate) fn first(&self, len: usize) -> Self {
        let first = |it: &LayerRow| match it {
            LayerRow::F32(it) => LayerRow::F32(it.first(len)),
            LayerRow::Bf16(it) => LayerRow::Bf16(it.first(len)),
        };
        Self { layers: self.layers.iter().map(first).collect(), len }
    }
}

impl LayerRow {
    /// Appends keys and values of new tokens after `len` tokens, then computes the attention of the
    /// queries at the end, one after the other if `each_alone`.
    fn extend_and_attend(
        &mut self,
        [queries, keys, values]: [&[f32]; 3],
        heads: Heads,
        (len, each_alone): (usize, bool),
        out: &mut [f32],
    ) {
        let (width, all) = (heads.key_width(), len + keys.len() / heads.key_width());
        match self {
            Self::F32(it) => {
                it.append(keys, values, width, len);
                it.attend_in(out, queries, heads, all, each_alone);
            }
            Self::Bf16(it) => {
                it.append(keys, values, width, len);
                it.attend_in(out, queries, heads, all, each_alone);
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
    let decoder = &network.model;
    let positions = pass.iter().flat_map(|tokens| {
        let before = rows[tokens.row].len as u32;
        before..before + tokens.indices.len() as u32
    });
    let last = ints(pass.iter().map(|it| (it.indices.end - 1) as i32).collect(), device);
    let rotary = decoder.rotary.at(positions, device);
    let last_rotary = rotary.select(&last);
    let ends =
        pass.iter().enumerate().map(|(at, it)| PassTokens { row: it.row, indices: at..at + 1 });
    let mut context = CpuPass {
        tokens: pass,
        ends: ends.collect(),
        last,
        rotary,
        last_rotary,
        last_layer: decoder.layers.len() - 1,
        each_alone: network.memory.batch_invariant,
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
    /// Each query is computed alone, so that its result does not depend on the others.
    each_alone: bool,
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
        let each_alone = self.each_alone;
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
            let queries = &queries[indices.start * width..indices.end * width];
            let new = [queries, &keys[keys_at.clone()], &values[keys_at]];
            layer.extend_and_attend(new, heads, (len, each_alone), out);
        });
        Tensor::from_data(TensorData::new(out, shape), &device)
    }
}
