//! Splitting of rows into micro-batches.

use crate::TokenRow;

/// Splits rows into micro-batches of at most `max_tokens` padded tokens, grouping rows of similar
/// length. A single longer row becomes a micro-batch of its own.
///
/// Returns indices into `rows`. The split is a pure function of the lengths, so a run's arithmetic
/// does not depend on the machine.
///
/// ```
/// use zs_model::{TokenRow, micro_batches};
///
/// let row = |len| TokenRow { tokens: vec![1; len], loss_mask: vec![false; len] };
/// assert_eq!(micro_batches(&[row(9), row(2), row(3)], 10), [vec![1, 2], vec![0]]);
/// ```
#[must_use]
pub fn micro_batches(rows: &[TokenRow], max_tokens: usize) -> Vec<Vec<usize>> {
    let mut order: Vec<usize> = (0..rows.len()).collect();
    order.sort_by_key(|&it| (rows[it].tokens.len(), it));
    let mut batches: Vec<Vec<usize>> = Vec::new();
    for index in order {
        let width = rows[index].tokens.len();
        match batches.last_mut() {
            Some(batch) if (batch.len() + 1) * width <= max_tokens => batch.push(index),
            _ => batches.push(vec![index]),
        }
    }
    batches
}
