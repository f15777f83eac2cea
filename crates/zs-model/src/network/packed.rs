//! Packing of ragged rows into spans, without padding and with shared prefixes stored once.

use std::ops::Range;

use burn::tensor::{Device, IndexingUpdateOp, Int, Tensor};

use super::attention::{Attention, Projections};
use super::block::TokenContext;
use super::rope::{Rotary, RotaryTable};
use crate::kernels::{SpanLayout, attention};
use crate::spans::{SpanQueries, ints};
use crate::workers::is_host;
use crate::{TokenId, TokenRow};

/// Minimum length of a shared prefix.
const MIN_SHARED_PREFIX: usize = 8;

/// Multiple that the number of packed tokens is rounded up to on an accelerator. Kernels are chosen
/// by shape, so few shapes should recur, and aligned rows are read in whole memory transactions.
const LEN_MULTIPLE: usize = 64;

/// Segment of packed tokens that attends causally to itself and fully to a prefix.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Span {
    /// Packed range of the prefix, which the spans of a group share.
    pub(crate) prefix: Range<usize>,
    /// Packed range of the span's own tokens.
    pub(crate) own: Range<usize>,
}

/// Rows packed for one forward pass, each up to the last token that predicts a loss token.
///
/// Rows with a common prefix share its packed tokens, so it is computed once, forward and backward.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct PackedRows {
    tokens: Vec<TokenId>,
    /// Position of each token in its row.
    positions: Vec<u32>,
    spans: Vec<Span>,
    /// Packed index of the token that predicts each loss token, in row order.
    predicting: Vec<usize>,
    /// Loss tokens, in row order.
    targets: Vec<TokenId>,
    /// Row of each loss token, and its place in the row.
    places: Vec<(usize, usize)>,
    /// Number of rows, and length of the longest one.
    shape: [usize; 2],
}

impl PackedRows {
    /// # Panics
    ///
    /// Panics if there are no rows, a row is empty, a first token carries loss, since nothing
    /// predicts it, or a mask's length differs from its row's.
    pub(crate) fn new(rows: &[TokenRow]) -> Self {
        for row in rows {
            assert_eq!(row.tokens.len(), row.loss_mask.len(), "one mask value a token");
            assert!(row.loss_mask.first() != Some(&true), "nothing predicts a first token");
        }
        let longest = rows.iter().map(|it| it.tokens.len()).max().unwrap_or(0);
        assert!(longest > 0, "a batch needs at least one token");
        let ends: Vec<usize> =
            rows.iter().map(|row| row.loss_mask.iter().rposition(|it| *it).unwrap_or(0)).collect();
        let inputs: Vec<&[TokenId]> =
            rows.iter().zip(ends).map(|(row, end)| &row.tokens[..end]).collect();
        let (mut packed, starts) = Self::pack(&inputs);
        packed.shape = [rows.len(), longest];
        for (index, (row, start)) in rows.iter().zip(starts).enumerate() {
            for (at, _) in row.loss_mask.iter().enumerate().filter(|(_, carries)| **carries) {
                packed.predicting.push(start.index(at - 1));
                packed.targets.push(row.tokens[at]);
                packed.places.push((index, at));
            }
        }
        packed
    }

    /// Whole rows, of which every token counts as predicting. They have no targets.
    pub(crate) fn whole(rows: &[Vec<TokenId>]) -> Self {
        let inputs: Vec<&[TokenId]> = rows.iter().map(Vec::as_slice).collect();
        let (mut packed, starts) = Self::pack(&inputs);
        for (row, start) in rows.iter().zip(starts) {
            packed.predicting.extend((0..row.len()).map(|at| start.index(at)));
        }
        packed
    }

    /// Packs rows and returns the location of each.
    fn pack(rows: &[&[TokenId]]) -> (Self, Vec<RowStart>) {
        // Adjacent rows in sorted order have the longest common prefixes.
        let mut order: Vec<usize> = (0..rows.len()).filter(|it| !rows[*it].is_empty()).collect();
        order.sort_by_key(|&it| (rows[it], it));
        let mut packed = Self::default();
        let mut starts = vec![RowStart::default(); rows.len()];
        let mut rest = &order[..];
        while let Some(&first) = rest.first() {
            let (size, common) = group(rest.len(), |it| common(rows[rest[it]], rows[first]));
            let prefix = packed.push(&rows[first][..common], 0, 0..0);
            for &row in &rest[..size] {
                let own = packed.push(&rows[row][common..], common, prefix.clone());
                starts[row] = RowStart { prefix: prefix.clone(), own: own.start };
            }
            rest = &rest[size..];
        }
        (packed, starts)
    }

    /// Appends a span and returns its packed range.
    fn push(&mut self, tokens: &[TokenId], position: usize, prefix: Range<usize>) -> Range<usize> {
        let own = self.tokens.len()..self.tokens.len() + tokens.len();
        if !tokens.is_empty() {
            self.tokens.extend_from_slice(tokens);
            self.positions.extend((position..position + tokens.len()).map(|it| it as u32));
            self.spans.push(Span { prefix, own: own.clone() });
        }
        own
    }

    pub(crate) fn num_loss_tokens(&self) -> usize {
        self.targets.len()
    }

    /// Number of rows, and length of the longest one.
    pub(crate) fn shape(&self) -> [usize; 2] {
        self.shape
    }

    /// Loss tokens, in row order.
    pub(crate) fn targets(&self) -> &[TokenId] {
        &self.targets
    }

    /// Row of each loss token.
    pub(crate) fn loss_rows(&self) -> impl Iterator<Item = usize> {
        self.places.iter().map(|(row, _)| *row)
    }

    /// Place of each loss token in a `[rows, longest]` matrix.
    pub(crate) fn loss_positions(&self, device: &Device) -> Tensor<1, Int> {
        let [_, width] = self.shape;
        ints(self.places.iter().map(|(row, at)| (row * width + at) as i32).collect(), device)
    }

    /// Loss tokens on a device, `[loss tokens]`.
    pub(crate) fn target_tensor(&self, device: &Device) -> Tensor<1, Int> {
        ints(self.targets.iter().map(|it| *it as i32).collect(), device)
    }

    /// Distinct packed indices of tokens that predict loss tokens, ascending.
    fn predicting_indices(&self) -> Vec<usize> {
        let mut indices = self.predicting.clone();
        indices.sort_unstable();
        indices.dedup();
        indices
    }

    /// The rows with a span of padding up to a [multiple](LEN_MULTIPLE) of tokens.
    fn padded(mut self) -> Self {
        let missing = self.tokens.len().next_multiple_of(LEN_MULTIPLE) - self.tokens.len();
        self.push(&vec![0; missing], 0, 0..0);
        self
    }

    /// Attention layout of the tokens at ascending packed indices.
    fn layout(&self, indices: &[usize], device: &Device) -> SpanLayout {
        let spans = self.spans.iter().filter_map(|Span { prefix, own }| {
            let start = indices.partition_point(|it| *it < own.start);
            let end = indices.partition_point(|it| *it < own.end);
            let indices = indices[start..end].to_vec();
            let span = SpanQueries {
                prefix: prefix.clone(),
                own: own.clone(),
                queries: start..end,
                indices,
                is_causal: true,
            };
            (start < end).then_some(span)
        });
        SpanLayout::new(spans.collect(), device)
    }
}

/// Location of a row's tokens.
#[derive(Clone, Debug, Default)]
struct RowStart {
    prefix: Range<usize>,
    /// First token after the prefix.
    own: usize,
}

impl RowStart {
    /// Packed index of a place in the row.
    fn index(&self, at: usize) -> usize {
        match at.checked_sub(self.prefix.len()) {
            Some(offset) => self.own + offset,
            None => self.prefix.start + at,
        }
    }
}

/// [`PackedRows`] on a device, as the context of a forward pass.
///
/// The last block computes outputs only at the tokens that predict loss tokens.
#[derive(Clone, Debug)]
pub(crate) struct PackedTokens {
    tokens: Tensor<1, Int>,
    /// Output of the network that predicts each loss token, `[loss tokens]`.
    output_index: Tensor<1, Int>,
    /// Token of each output of the last block.
    selected: Tensor<1, Int>,
    all: PositionContext,
    last: PositionContext,
    last_layer: usize,
}

/// Rotary angles and attention layout of the positions that a block computes.
#[derive(Clone, Debug)]
struct PositionContext {
    rotary: Rotary,
    layout: SpanLayout,
}

impl PackedTokens {
    /// Tensors for a device without autodiff.
    pub(crate) fn new(
        rows: &PackedRows,
        rotary: &RotaryTable,
        layers: usize,
        device: &Device,
    ) -> Self {
        let device = &device.clone().without_autodiff();
        let indices = rows.predicting_indices();
        let output = |it: &usize| indices.partition_point(|index| index < it) as i32;
        let output_index = ints(rows.predicting.iter().map(output).collect(), device);
        let padded = rows.clone();
        let rows = if is_host(device) { padded } else { padded.padded() };
        let selected = ints(indices.iter().map(|it| *it as i32).collect(), device);
        let rotary = rotary.at(rows.positions.iter().copied(), device);
        let all: Vec<usize> = (0..rows.tokens.len()).collect();
        let context = |rotary, indices: &[usize]| PositionContext {
            rotary,
            layout: rows.layout(indices, device),
        };
        Self {
            tokens: ints(rows.tokens.iter().map(|it| *it as i32).collect(), device),
            output_index,
            last: context(rotary.select(&selected), &indices),
            all: context(rotary, &all),
            selected,
            last_layer: layers.saturating_sub(1),
        }
    }

    /// Packed tokens.
    pub(crate) fn tokens(&self) -> Tensor<1, Int> {
        self.tokens.clone()
    }

    /// Hidden states that predict the loss tokens, `[loss tokens, hidden]`, given the network's
    /// outputs.
    pub(crate) fn predicting(&self, outputs: Tensor<2>) -> Tensor<2> {
        outputs.select(0, self.output_index.clone())
    }

    /// Gradient of the network's outputs, given that of the predicting hidden states.
    pub(crate) fn spread(&self, outputs: &Tensor<2>, predicting: Tensor<2>) -> Tensor<2> {
        let index = self.output_index.clone();
        outputs.zeros_like().select_assign(0, index, predicting, IndexingUpdateOp::Add)
    }
}

impl TokenContext for &PackedTokens {
    fn outputs(&self, layer: usize) -> Option<Tensor<1, Int>> {
        (layer == self.last_layer).then(|| self.selected.clone())
    }

    fn attend(
        &mut self,
        layer: usize,
        attention_layer: &Attention,
        projections: Projections,
    ) -> Tensor<2> {
        let queries = if layer == self.last_layer { &self.last } else { &self.all };
        let heads = attention_layer.rotated(projections, [&queries.rotary, &self.all.rotary]);
        let (shape, dtype) = (attention_layer.heads(), attention_layer.q_proj.compute_dtype);
        attention(heads, &queries.layout, shape, dtype)
    }
}

/// Number of next rows that share a prefix, and the prefix's length. `common(i)` is the length of
/// the common prefix of row `i` and the first row.
///
/// A row joins if it saves more tokens than shortening the prefix of the earlier rows costs.
fn group(rows: usize, common: impl Fn(usize) -> usize) -> (usize, usize) {
    let (mut size, mut shared) = (1, 0);
    for row in 1..rows {
        let with = if row == 1 { common(row) } else { shared.min(common(row)) };
        if with < MIN_SHARED_PREFIX || with * row < shared * (row - 1) {
            break;
        }
        (size, shared) = (row + 1, with);
    }
    (size, shared)
}

fn common(a: &[TokenId], b: &[TokenId]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(tokens: &[TokenId], carries: &[usize]) -> TokenRow {
        let loss_mask = (0..tokens.len()).map(|it| carries.contains(&it)).collect();
        TokenRow { tokens: tokens.to_vec(), loss_mask }
    }

    #[test]
    fn rows_end_at_the_last_predicting_token() {
        let packed = PackedRows::new(&[row(&[5, 6, 7, 8, 9], &[1, 3]), row(&[1, 2], &[])]);
        assert_eq!(packed.tokens, [5, 6, 7]);
        assert_eq!(packed.positions, [0, 1, 2]);
        assert_eq!(packed.spans, [Span { prefix: 0..0, own: 0..3 }]);
        assert_eq!(packed.predicting, [0, 2]);
    }

    #[test]
    fn a_shared_prefix_is_packed_once() {
        let prompt: Vec<TokenId> = (10..20).collect();
        let with = |tail: &[TokenId]| [&prompt[..], tail].concat();
        let rows = [
            row(&with(&[3, 4]), &[10, 11]),
            row(&[7, 7, 7], &[2]),
            row(&with(&[1, 2, 3]), &[10, 12]),
        ];
        let packed = PackedRows::new(&rows);
        assert_eq!(packed.tokens, [&[7, 7][..], &prompt, &[1, 2], &[3]].concat());
        assert_eq!(packed.positions[12..], [10, 11, 10]);
        let prefix = 2..12;
        assert_eq!(
            packed.spans,
            [
                Span { prefix: 0..0, own: 0..2 },
                Span { prefix: 0..0, own: 2..12 },
                Span { prefix: prefix.clone(), own: 12..14 },
                Span { prefix, own: 14..15 },
            ]
        );
        // The first token after the prompt is predicted from the prompt's last token.
        assert_eq!(packed.predicting, [11, 14, 1, 11, 13]);
        assert_eq!(packed.predicting_indices(), [1, 11, 13, 14]);
    }

    #[test]
    fn identical_rows_share_all_tokens() {
        let tokens: Vec<TokenId> = (0..9).collect();
        let packed = PackedRows::new(&[row(&tokens, &[8]), row(&tokens, &[8])]);
        assert_eq!(packed.tokens, tokens[..8]);
        assert_eq!(packed.predicting, [7, 7]);
    }
}
