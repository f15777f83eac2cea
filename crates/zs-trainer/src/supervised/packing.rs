//! Joining short rows, so that a step pays for few padded tokens.

use std::cmp::Reverse;

use zs_model::TokenRow;

/// Rows joined end to end into rows of at most `max_tokens` tokens, by first fit over decreasing
/// lengths; a longer row stays alone.
///
/// Every example keeps its loss mask, and the first token of each carries no loss, as before. Rows
/// of the result are in the order in which they were begun, and examples within a row in the order
/// of their length. `O(n log n + n b)` for `n` rows and `b` results.
///
/// # References
///
/// - Johnson 1973, *Near-optimal bin packing algorithms*: first fit decreasing needs at most 11/9 of
///   the fewest rows, and a bit
///
/// ```
/// use zs_model::TokenRow;
/// use zs_trainer::supervised::pack;
///
/// let row = |len: usize| TokenRow { tokens: vec![7; len], loss_mask: vec![false; len] };
/// let packed = pack(&[row(2), row(5), row(3), row(4)], 7);
/// let lengths: Vec<usize> = packed.iter().map(|it| it.tokens.len()).collect();
/// assert_eq!(lengths, [7, 7]);
/// ```
#[must_use]
pub fn pack(rows: &[TokenRow], max_tokens: usize) -> Vec<TokenRow> {
    let mut order: Vec<&TokenRow> = rows.iter().collect();
    order.sort_by_key(|it| Reverse(it.tokens.len()));
    let mut packed: Vec<TokenRow> = Vec::new();
    for row in order {
        let fits = |it: &&mut TokenRow| it.tokens.len() + row.tokens.len() <= max_tokens;
        match packed.iter_mut().find(fits) {
            Some(bin) => {
                bin.tokens.extend_from_slice(&row.tokens);
                bin.loss_mask.extend_from_slice(&row.loss_mask);
            }
            None => packed.push(row.clone()),
        }
    }
    packed
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(token: u32, len: usize) -> TokenRow {
        TokenRow { tokens: vec![token; len], loss_mask: (0..len).map(|it| it > 0).collect() }
    }

    #[test]
    fn nothing_is_lost_and_masks_travel_with_their_tokens() {
        let rows: Vec<TokenRow> = (0..40).map(|it| row(it, 1 + it as usize * 7 % 13)).collect();
        let packed = pack(&rows, 16);
        let tokens: usize = rows.iter().map(|it| it.tokens.len()).sum();
        assert_eq!(packed.iter().map(|it| it.tokens.len()).sum::<usize>(), tokens);
        assert!(packed.iter().all(|it| it.tokens.len() <= 16));
        // 11/9 of the volume bound, and one.
        assert!(
            packed.len() <= (tokens as f64 / 16.0 * 11.0 / 9.0) as usize + 1,
            "{}",
            packed.len()
        );
        for it in &packed {
            let starts = |at: usize| at == 0 || it.tokens[at] != it.tokens[at - 1];
            let mask: Vec<bool> = (0..it.tokens.len()).map(|at| !starts(at)).collect();
            assert_eq!(it.loss_mask, mask);
        }
        assert_eq!(pack(&[row(1, 20)], 16), [row(1, 20)]);
        assert!(pack(&[], 16).is_empty());
    }
}
