//! Divergence of the policy from another model, token by token, and its price in the reward.

use burn::tensor::{Bool, Device, Tensor, TensorData};

use super::row::UpdateRow;
use super::rows::{floats, rows_of};
use crate::algorithm::RolloutBatch;
use crate::loss::{KlEstimator, kl_divergence};

/// Estimated divergence of every token from another model when it was sampled, row after row; 0 where
/// the mask is false.
pub(super) fn divergence_of_tokens(
    rows: &[UpdateRow],
    other: impl Fn(&UpdateRow) -> Vec<f32>,
    mask: Vec<bool>,
    estimator: KlEstimator,
    device: &Device,
) -> Vec<f32> {
    // One flat row for the whole batch: one transfer each way.
    let len = mask.len();
    let device = &device.clone().without_autodiff();
    let flat = |numbers: Vec<f32>| floats(numbers, [1, len], device);
    let old = rows.iter().flat_map(|it| it.old_log_probs.iter().copied()).collect();
    let other = rows.iter().flat_map(other).collect();
    let mask = Tensor::<2, Bool>::from_data(TensorData::new(mask, [1, len]), device);
    rows_of(kl_divergence(flat(old), flat(other), &mask, estimator)).concat()
}

/// Subtracts a divergence of tokens from their rewards and from the returns of their episodes.
pub(super) fn subtract_from_rewards(batch: &mut RolloutBatch<'_>, kl: &[f32], coefficient: f64) {
    let mut kl_of_tokens = kl.iter();
    for (rewards, total) in batch.token_rewards.iter_mut().zip(&mut batch.returns) {
        let mut penalty = 0.0;
        for (reward, kl) in rewards.iter_mut().zip(&mut kl_of_tokens) {
            let price = coefficient * f64::from(*kl);
            *reward = (f64::from(*reward) - price) as f32;
            penalty += price;
        }
        *total = (f64::from(*total) - penalty) as f32;
    }
}
