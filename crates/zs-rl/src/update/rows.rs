//! Rows of tokens and of numbers: micro-batches, padding, transfer between host and device.

use burn::tensor::{Device, Tensor, TensorData};
use zs_model::{PolicyModel, TokenRow, map_replicas, micro_batches};

/// Scores rows in micro-batches and puts the results back into the order of the rows, cut to their
/// lengths.
pub(super) fn by_row(
    rows: &[TokenRow],
    micro_batch_tokens: usize,
    score: impl FnOnce(&[Vec<TokenRow>]) -> Vec<Vec<Vec<f32>>>,
) -> Vec<Vec<f32>> {
    let plan = micro_batches(rows, micro_batch_tokens);
    let scored = score(&pick(rows, &plan));
    let mut scores = vec![Vec::new(); rows.len()];
    for (&index, mut values) in plan.iter().flatten().zip(scored.into_iter().flatten()) {
        values.truncate(rows[index].tokens.len());
        scores[index] = values;
    }
    scores
}

/// Log-probabilities of the tokens that carry loss, one row a row, without gradient.
pub(super) fn score<M: PolicyModel + Sync>(
    model: &M,
    rows: &[TokenRow],
    max_tokens: usize,
) -> Vec<Vec<f32>> {
    by_row(rows, max_tokens, |batches| {
        map_replicas(model, &model.compute_devices(), batches.len(), |model, index| {
            rows_of(model.token_scores(&batches[index]).log_probs)
        })
    })
}

/// The rows of a tensor on the host.
pub(super) fn rows_of(values: Tensor<2>) -> Vec<Vec<f32>> {
    let [_, width] = values.dims();
    let values: Vec<f32> = values.into_data().iter::<f32>().collect();
    values.chunks(width).map(<[f32]>::to_vec).collect()
}

/// The rows of each micro-batch.
pub(super) fn pick(rows: &[TokenRow], plan: &[Vec<usize>]) -> Vec<Vec<TokenRow>> {
    plan.iter().map(|it| it.iter().map(|&at| rows[at].clone()).collect()).collect()
}

pub(super) fn padded<T: Copy>(
    values: &[T],
    width: usize,
    padding: T,
) -> impl Iterator<Item = T> + use<'_, T> {
    values.iter().copied().chain(std::iter::repeat(padding)).take(width)
}

pub(super) fn floats(values: Vec<f32>, shape: [usize; 2], device: &Device) -> Tensor<2> {
    Tensor::from_data(TensorData::new(values, shape), device)
}
