//! Shapes of the tensors of sampling.

use burn::tensor::Device;

use crate::workers::is_host;

/// Rounding of tensor shapes, and location of the logits.
///
/// An accelerator compiles and tunes kernels by shape, so consecutive decoding steps should have
/// equal shapes. On a CPU any shape is fast and padding costs time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ShapeBuckets {
    /// Round the number of rows up to a power of two.
    round_rows: bool,
    /// Multiple that the number of attended columns is rounded up to.
    column_multiple: usize,
    /// Multiple that more than one new token is rounded up to.
    new_token_multiple: usize,
    /// Maximum tokens of a row in a forward pass; a multiple of `new_token_multiple`.
    max_pass_tokens: usize,
    /// Keep the inputs and the logits of a decoding step on the device.
    pub(super) keeps_logits_on_device: bool,
    /// Keep a cache for each row, without padding.
    pub(super) is_ragged: bool,
}

impl ShapeBuckets {
    pub(crate) const EXACT: Self = Self {
        round_rows: false,
        column_multiple: 1,
        new_token_multiple: 1,
        max_pass_tokens: 512,
        keeps_logits_on_device: false,
        is_ragged: false,
    };
    /// Shapes of a CPU.
    pub(crate) const RAGGED: Self = Self { is_ragged: true, ..Self::EXACT };
    pub(crate) const COARSE: Self = Self {
        round_rows: true,
        column_multiple: 64,
        new_token_multiple: 32,
        max_pass_tokens: 512,
        keeps_logits_on_device: true,
        is_ragged: false,
    };

    pub(crate) fn of(device: &Device) -> Self {
        if is_host(device) { Self::RAGGED } else { Self::COARSE }
    }

    #[cfg(test)]
    pub(crate) fn with_max_pass_tokens(self, max_pass_tokens: usize) -> Self {
        Self { max_pass_tokens, ..self }
    }

    pub(super) fn rows(self, rows: usize) -> usize {
        if self.round_rows { rows.next_power_of_two() } else { rows }
    }

    pub(crate) const fn columns(self, columns: usize) -> usize {
        columns.next_multiple_of(self.column_multiple)
    }

    pub(super) fn new_tokens(self, new: usize) -> usize {
        if new <= 1 { new } else { new.next_multiple_of(self.new_token_multiple) }
    }

    /// Number of new tokens of a pass, given an upper bound.
    pub(super) fn pass(self, at_most: usize) -> usize {
        let at_most = at_most.min(self.max_pass_tokens);
        (at_most / self.new_token_multiple * self.new_token_multiple).max(self.new_token_multiple)
    }

    /// Columns for rows that hold `held` tokens, prefill `pending` tokens and then decode `decoded`
    /// tokens.
    pub(crate) fn capacity(self, held: usize, pending: usize, decoded: usize) -> usize {
        self.columns(held + self.new_tokens(pending.max(1)) + decoded)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shapes_are_exact_on_a_cpu_and_bucketed_on_accelerators() {
        let exact = ShapeBuckets::EXACT;
        assert_eq!((exact.rows(5), exact.columns(70), exact.new_tokens(9)), (5, 70, 9));
        assert_eq!((exact.pass(7), exact.pass(9_999), exact.pass(0)), (7, 512, 1));
        let coarse = ShapeBuckets::COARSE;
        assert_eq!((coarse.rows(5), coarse.columns(70), coarse.new_tokens(9)), (8, 128, 32));
        // A decoding step has one token per row and is never padded.
        assert_eq!((coarse.new_tokens(1), coarse.pass(70), coarse.pass(3)), (1, 64, 32));
        assert_eq!(coarse.capacity(10, 33, 20), 128);
    }
}
