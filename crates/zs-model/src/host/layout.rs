//! Ragged rows packed one behind the other, without padding and with common beginnings once.

use std::ops::Range;

use crate::{TokenId, TokenRow};

/// Common tokens from which rows share their beginning.
const MIN_SHARED_PREFIX: usize = 8;

/// One run of tokens that attends to itself and to an earlier run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Span {
    /// Packed places of what comes before, the same for every run of a group.
    pub(crate) prefix: Range<usize>,
    /// Packed places of its own tokens.
    pub(crate) own: Range<usize>,
}

/// Rows packed for one pass, each up to the last token that something is predicted from.
///
/// Rows that begin with the same tokens share the places of their beginning, so it is computed once,
/// forward and backward.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct PackedRows {
    pub(crate) tokens: Vec<TokenId>,
    /// The position of each token in its row.
    pub(crate) positions: Vec<u32>,
    pub(crate) spans: Vec<Span>,
    /// Where each token that carries loss is predicted, in row order.
    pub(crate) predicting: Vec<usize>,
}

impl PackedRows {
    /// # Panics
    ///
    /// When a first token carries loss, which nothing predicts, or a mask has another length than
    /// its row.
    pub(crate) fn new(rows: &[TokenRow]) -> Self {
        for row in rows {
            assert_eq!(row.tokens.len(), row.loss_mask.len(), "one mask value a token");
            assert!(row.loss_mask.first() != Some(&true), "nothing predicts a first token");
        }
        let ends: Vec<usize> =
            rows.iter().map(|row| row.loss_mask.iter().rposition(|it| *it).unwrap_or(0)).collect();
        let inputs = |row: usize| &rows[row].tokens[..ends[row]];
        // Neighbours in this order have the longest beginnings in common.
        let mut order: Vec<usize> = (0..rows.len()).filter(|it| ends[*it] > 0).collect();
        order.sort_by_key(|&it| (inputs(it), it));

        let mut packed = Self::default();
        let mut starts: Vec<[Range<usize>; 2]> = vec![[0..0, 0..0]; rows.len()];
        let mut rest = &order[..];
        while let Some(&first) = rest.first() {
            let (size, common) = group(rest.len(), |it| common(inputs(rest[it]), inputs(first)));
            let prefix = packed.push(&inputs(first)[..common], 0, 0..0);
            for &row in &rest[..size] {
                let own = packed.push(&inputs(row)[common..], common, prefix.clone());
                starts[row] = [prefix.clone(), own];
            }
            rest = &rest[size..];
        }
        for (row, [prefix, own]) in rows.iter().zip(starts) {
            let carries = row.loss_mask.iter().enumerate().filter(|(_, carries)| **carries);
            packed.predicting.extend(carries.map(
                |(at, _)| match (at - 1).checked_sub(prefix.len()) {
                    Some(offset) => own.start + offset,
                    None => prefix.start + at - 1,
                },
            ));
        }
        packed
    }

    /// Appends a run and returns its places.
    fn push(&mut self, tokens: &[TokenId], position: usize, prefix: Range<usize>) -> Range<usize> {
        let own = self.tokens.len()..self.tokens.len() + tokens.len();
        if !tokens.is_empty() {
            self.tokens.extend_from_slice(tokens);
            self.positions.extend((position..position + tokens.len()).map(|it| it as u32));
            self.spans.push(Span { prefix, own: own.clone() });
        }
        own
    }

    pub(crate) fn len(&self) -> usize {
        self.tokens.len()
    }

    /// The places that something is predicted from, ascending and once each.
    pub(crate) fn predicting_indices(&self) -> Vec<usize> {
        let mut indices = self.predicting.clone();
        indices.sort_unstable();
        indices.dedup();
        indices
    }
}

/// How many of the next rows share a beginning, and how long it is; `common(i)` is what row `i` has
/// in common with the first.
///
/// A row joins while that saves more than shortening the beginning of those before it costs.
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
    fn rows_are_cut_behind_the_last_prediction() {
        let packed = PackedRows::new(&[row(&[5, 6, 7, 8, 9], &[1, 3]), row(&[1, 2], &[])]);
        assert_eq!(packed.tokens, [5, 6, 7]);
        assert_eq!(packed.positions, [0, 1, 2]);
        assert_eq!(packed.spans, [Span { prefix: 0..0, own: 0..3 }]);
        assert_eq!(packed.predicting, [0, 2]);
    }

    #[test]
    fn a_common_beginning_is_there_once() {
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
        // The first token behind the prompt is predicted from the prompt's last.
        assert_eq!(packed.predicting, [11, 14, 1, 11, 13]);
        assert_eq!(packed.predicting_indices(), [1, 11, 13, 14]);
    }

    #[test]
    fn rows_that_are_all_the_same_leave_nothing_over() {
        let tokens: Vec<TokenId> = (0..9).collect();
        let packed = PackedRows::new(&[row(&tokens, &[8]), row(&tokens, &[8])]);
        assert_eq!(packed.tokens, tokens[..8]);
        assert_eq!(packed.predicting, [7, 7]);
    }
}
