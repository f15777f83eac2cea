//! Padded batches of token rows, with the index tensors that scoring needs.

use burn::tensor::{Device, Int, Tensor, TensorData};

use crate::kernels::MASKED;
use crate::workers::is_host;
use crate::{TokenId, TokenRow};

/// Multiple that the width of a batch is rounded up to on an accelerator. Kernels are chosen by
/// shape, so few shapes should recur, and aligned rows are read in whole memory transactions.
const WIDTH_MULTIPLE: usize = 64;

/// Rows padded on the right to the longest one, with the flat positions of the loss tokens.
#[derive(Debug)]
pub(crate) struct PaddedBatch {
    height: usize,
    width: usize,
    lengths: Vec<usize>,
    tokens: Vec<i32>,
    /// Flat positions of the loss tokens.
    loss_positions: Vec<i32>,
    targets: Vec<i32>,
}

impl PaddedBatch {
    /// # Panics
    ///
    /// Panics if there are no rows, a row is empty, a mask's length differs from its tokens', or a first
    /// token carries loss.
    pub(crate) fn new(rows: &[TokenRow]) -> Self {
        Self::of_width(rows, longest(rows))
    }

    /// [`new`](Self::new) with the width rounded up for the device.
    pub(crate) fn for_device(rows: &[TokenRow], device: &Device) -> Self {
        let multiple = if is_host(device) { 1 } else { WIDTH_MULTIPLE };
        Self::of_width(rows, longest(rows).next_multiple_of(multiple))
    }

    fn of_width(rows: &[TokenRow], width: usize) -> Self {
        assert!(width > 0, "a batch needs at least one token");
        let mut tokens = Vec::with_capacity(rows.len() * width);
        let mut loss_positions = Vec::new();
        let mut targets = Vec::new();
        for (index, row) in rows.iter().enumerate() {
            assert_eq!(row.tokens.len(), row.loss_mask.len(), "one mask value a token");
            assert!(row.loss_mask.first() != Some(&true), "nothing predicts a first token");
            tokens.extend(row.tokens.iter().map(|it| *it as i32));
            tokens.resize((index + 1) * width, 0);
            for (at, _) in row.loss_mask.iter().enumerate().filter(|(_, carries)| **carries) {
                loss_positions.push((index * width + at) as i32);
                targets.push(row.tokens[at] as i32);
            }
        }
        let lengths = rows.iter().map(|it| it.tokens.len()).collect();
        Self { height: rows.len(), width, lengths, tokens, loss_positions, targets }
    }

    pub(crate) fn shape(&self) -> [usize; 2] {
        [self.height, self.width]
    }

    pub(crate) fn num_loss_tokens(&self) -> usize {
        self.loss_positions.len()
    }

    /// Token identifiers, `[rows, seq]`.
    pub(crate) fn tokens(&self, device: &Device) -> Tensor<2, Int> {
        Tensor::from_data(TensorData::new(self.tokens.clone(), self.shape()), device)
    }

    /// Flat positions of the loss tokens, `[loss tokens]`.
    pub(crate) fn loss_positions(&self, device: &Device) -> Tensor<1, Int> {
        ints(self.loss_positions.clone(), device)
    }

    /// Flat positions whose hidden states predict the loss tokens (one to the left of each), `[loss
    /// tokens]`.
    pub(crate) fn predicting_positions(&self, device: &Device) -> Tensor<1, Int> {
        ints(self.loss_positions.iter().map(|it| it - 1).collect(), device)
    }

    /// Loss tokens on the host.
    pub(crate) fn target_ids(&self) -> impl Iterator<Item = TokenId> {
        self.targets.iter().map(|it| *it as TokenId)
    }

    /// Row of each loss token, on the host.
    pub(crate) fn loss_rows(&self) -> impl Iterator<Item = usize> {
        self.loss_positions.iter().map(|it| *it as usize / self.width)
    }

    /// Attention bias of padded queries: 0 for tokens, [`MASKED`] for padding, `[rows, 1, 1, seq,
    /// 1]`.
    pub(crate) fn padding_bias(&self, device: &Device) -> Tensor<5> {
        let bias =
            |&length: &usize| (0..self.width).map(move |at| if at < length { 0.0 } else { MASKED });
        let values: Vec<f32> = self.lengths.iter().flat_map(bias).collect();
        Tensor::from_data(TensorData::new(values, [self.height, 1, 1, self.width, 1]), device)
    }

    /// Loss tokens, `[loss tokens]`.
    pub(crate) fn targets(&self, device: &Device) -> Tensor<1, Int> {
        ints(self.targets.clone(), device)
    }
}

fn longest(rows: &[TokenRow]) -> usize {
    rows.iter().map(|it| it.tokens.len()).max().unwrap_or(0)
}

/// Host integers as a tensor on a device, `[len]`.
pub(crate) fn ints(values: Vec<i32>, device: &Device) -> Tensor<1, Int> {
    let len = values.len();
    Tensor::from_data(TensorData::new(values, [len]), device)
}

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
