//! Packing of ragged rows into spans, without padding and with shared prefixes stored once.

use std::ops::Range;

use crate::{TokenId, TokenRow};

/// Minimum length of a shared prefix.
const MIN_SHARED_PREFIX: usize = 8;

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
    pub(crate) tokens: Vec<TokenId>,
    /// Position of each token in its row.
    pub(crate) positions: Vec<u32>,
    pub(crate) spans: Vec<Span>,
    /// Packed index of the token that predicts each loss token, in row order.
    pub(crate) predicting: Vec<usize>,
}

impl PackedRows {
    /// # Panics
    ///
    /// Panics if a first token carries loss, since nothing predicts it, or if a mask's length
    /// differs from its row's.
    pub(crate) fn new(rows: &[TokenRow]) -> Self {
        for row in rows {
            assert_eq!(row.tokens.len(), row.loss_mask.len(), "one mask value a token");
            assert!(row.loss_mask.first() != Some(&true), "nothing predicts a first token");
        }
        let ends: Vec<usize> =
            rows.iter().map(|row| row.loss_mask.iter().rposition(|it| *it).unwrap_or(0)).collect();
        let inputs = |row: usize| &rows[row].tokens[..ends[row]];
        // Adjacent rows in sorted order have the longest common prefixes.
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

    pub(crate) fn len(&self) -> usize {
        self.tokens.len()
    }

    /// Distinct packed indices of tokens that predict loss tokens, ascending.
    pub(crate) fn predicting_indices(&self) -> Vec<usize> {
        let mut indices = self.predicting.clone();
        indices.sort_unstable();
        indices.dedup();
        indices
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
