//! Supervised training: cross-entropy of the loss tokens.

use crate::network::PackedRows;
use crate::optim::accumulate;
use crate::{CausalLm, Optimizer, PolicyModel, TokenRow, map_replicas, micro_batches};

/// Statistics of a supervised step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SupervisedStats {
    /// Mean cross-entropy of the loss tokens, in nats.
    pub loss: f64,
    /// Number of loss tokens.
    pub num_loss_tokens: usize,
    /// Global norm of the gradient before clipping.
    pub grad_norm: f64,
    /// Learning rate of the step.
    pub learning_rate: f64,
}

/// Takes one optimiser step on the mean cross-entropy of the loss tokens.
///
/// ```text
/// loss = -(1 / N) sum over rows, over t with loss_mask[t] of log p(tokens[t] | tokens[..t])
/// ```
///
/// `N` counts the loss tokens of all rows, so splitting into micro-batches of at most `max_tokens`
/// padded tokens affects only memory. Rows without loss tokens are skipped.
///
/// # Panics
///
/// Panics if no row has a loss token.
pub fn supervised_step(
    model: CausalLm,
    optimizer: &mut Optimizer,
    rows: &[TokenRow],
    max_tokens: usize,
) -> (CausalLm, SupervisedStats) {
    let rows: Vec<TokenRow> =
        rows.iter().filter(|it| it.loss_mask.contains(&true)).cloned().collect();
    let num_loss_tokens = count_loss_tokens(&rows);
    assert!(num_loss_tokens > 0, "a supervised step needs at least one loss token");
    let batches = split(&rows, max_tokens);
    let (grads, losses) =
        accumulate(&model, &model.compute_devices(), batches.len(), |model, index| {
            model.flat_gradients(&PackedRows::new(&batches[index]), false, |scores| {
                let loss = -scores.log_probs.sum() / num_loss_tokens as f64;
                let value = f64::from(loss.clone().into_scalar::<f32>());
                (loss, value)
            })
        });
    let (model, stats) = optimizer.step(model, grads);
    let stats = SupervisedStats {
        loss: losses.into_iter().sum(),
        num_loss_tokens,
        grad_norm: stats.grad_norm,
        learning_rate: stats.learning_rate,
    };
    (model, stats)
}

/// Mean cross-entropy of the loss tokens, without training, and their number.
///
/// `model` is the sampling copy. Rows without loss tokens are skipped.
#[must_use]
pub fn supervised_loss(model: &CausalLm, rows: &[TokenRow], max_tokens: usize) -> (f64, usize) {
    let rows: Vec<TokenRow> =
        rows.iter().filter(|it| it.loss_mask.contains(&true)).cloned().collect();
    let num_loss_tokens = count_loss_tokens(&rows);
    let batches = split(&rows, max_tokens);
    let losses = map_replicas(model, &model.compute_devices(), batches.len(), |model, index| {
        -f64::from(model.flat_log_probs(&batches[index]).sum().into_scalar::<f32>())
    });
    let total: f64 = losses.into_iter().sum();
    (total / num_loss_tokens.max(1) as f64, num_loss_tokens)
}

/// Teacher-forced accuracy by row: true if greedy decoding would produce every loss token, given
/// the true tokens before it.
#[must_use]
pub fn teacher_forced_matches(model: &CausalLm, rows: &[TokenRow], max_tokens: usize) -> Vec<bool> {
    let mut matches = vec![true; rows.len()];
    for indices in micro_batches(rows, max_tokens) {
        let batch: Vec<TokenRow> = indices.iter().map(|&it| rows[it].clone()).collect();
        let batch = PackedRows::new(&batch);
        let predicted = model.greedy_predictions(&batch);
        for ((predicted, target), owner) in
            predicted.iter().zip(batch.targets()).zip(batch.loss_rows())
        {
            if predicted != target {
                matches[indices[owner]] = false;
            }
        }
    }
    matches
}

fn count_loss_tokens(rows: &[TokenRow]) -> usize {
    rows.iter().map(|row| row.loss_mask.iter().filter(|it| **it).count()).sum()
}

fn split(rows: &[TokenRow], max_tokens: usize) -> Vec<Vec<TokenRow>> {
    micro_batches(rows, max_tokens)
        .into_iter()
        .map(|indices| indices.into_iter().map(|it| rows[it].clone()).collect())
        .collect()
}
