//! The value model's side of an update.

use std::fmt::Debug;

use burn::tensor::{Bool, Tensor, TensorData};
use zs_model::{
    Optimizer, TokenRow, ValueModel, accumulate_value_gradients, map_replicas, micro_batches,
};

use super::rows::{by_row, floats, padded, pick, rows_of};
use crate::loss::clipped_value_loss;

/// A value model that learns: how good is it to be here?
///
/// The update asks it for values before it computes advantages, and trains it on the returns.
/// [`ValueLearner`] is one over any [`ValueModel`].
pub trait Critic: Debug {
    /// The value of the state before each token that carries loss, zero elsewhere; no gradient.
    ///
    /// # Shapes
    ///
    /// - output: one row a row, each as long as its tokens
    fn values(&self, rows: &[TokenRow], micro_batch_tokens: usize) -> Vec<Vec<f32>>;

    /// One optimiser step on a mini-batch; returns what is logged, e.g. `critic/loss`.
    fn step(
        &mut self,
        rows: &[ValueRow<'_>],
        clip: f64,
        micro_batch_tokens: usize,
    ) -> Vec<(&'static str, f64)>;
}

/// Training row of a value model: one trajectory.
#[derive(Clone, Copy, Debug)]
pub struct ValueRow<'a> {
    /// The trajectory.
    pub tokens: &'a TokenRow,
    /// The values that its advantages were computed from.
    pub old_values: &'a [f32],
    /// Targets.
    pub returns: &'a [f32],
}

/// A [`ValueModel`] with its optimiser.
#[derive(Debug)]
pub struct ValueLearner<V> {
    model: V,
    optimizer: Optimizer,
}

impl<V: ValueModel> ValueLearner<V> {
    /// Trains `model`, a training copy.
    pub fn new(model: V, optimizer: Optimizer) -> Self {
        Self { model, optimizer }
    }

    /// Current value model, a training copy.
    pub fn model(&self) -> &V {
        &self.model
    }

    /// Current optimiser of the value model.
    pub fn optimizer(&self) -> &Optimizer {
        &self.optimizer
    }
}

impl<V: ValueModel + Sync> Critic for ValueLearner<V> {
    fn values(&self, rows: &[TokenRow], micro_batch_tokens: usize) -> Vec<Vec<f32>> {
        let model = self.model.valid();
        by_row(rows, micro_batch_tokens, |batches| {
            map_replicas(&model, &model.compute_devices(), batches.len(), |model, index| {
                rows_of(model.values(&batches[index]))
            })
        })
    }

    /// ```text
    /// L_V = 1/N sum over rows, over t with loss_mask[t] of clipped_value_loss_t
    /// ```
    ///
    /// `N` counts the loss tokens of all rows, so the split into micro-batches changes nothing.
    fn step(
        &mut self,
        rows: &[ValueRow<'_>],
        clip: f64,
        micro_batch_tokens: usize,
    ) -> Vec<(&'static str, f64)> {
        let rows: Vec<ValueRow<'_>> =
            rows.iter().copied().filter(|it| it.tokens.loss_mask.contains(&true)).collect();
        if rows.is_empty() {
            return Vec::new();
        }
        let count = |row: &ValueRow<'_>| row.tokens.loss_mask.iter().filter(|it| **it).count();
        let num_loss_tokens: usize = rows.iter().map(count).sum();
        let token_rows: Vec<TokenRow> = rows.iter().map(|it| it.tokens.clone()).collect();
        let plan = micro_batches(&token_rows, micro_batch_tokens);
        let inputs = pick(&token_rows, &plan);
        let (grads, kept) = accumulate_value_gradients(&self.model, &inputs, |index, values| {
            let rows: Vec<ValueRow<'_>> = plan[index].iter().map(|&at| rows[at]).collect();
            let mean = |it: Tensor<2>| it.sum() / num_loss_tokens as f64;
            let output = value_loss(values, &rows, clip);
            let loss = mean(output.loss);
            (loss.clone(), [loss.detach(), mean(output.is_clipped.float())])
        });
        let (model, stats) = self.optimizer.step(self.model.clone(), grads);
        self.model = model;
        let mut sums = [0.0; 2];
        for kept in kept {
            for (sum, value) in sums.iter_mut().zip(kept) {
                *sum += f64::from(value.into_scalar::<f32>());
            }
        }
        vec![
            ("critic/loss", sums[0]),
            ("critic/clipfrac", sums[1]),
            ("critic/grad_norm", stats.grad_norm),
            ("critic/lr", stats.learning_rate),
        ]
    }
}

fn value_loss(
    values: Tensor<2>,
    rows: &[ValueRow<'_>],
    clip: f64,
) -> crate::loss::ClippedValueLoss {
    let [height, width] = values.dims();
    let device = &values.device();
    let column = |pick: fn(&ValueRow<'_>) -> Vec<f32>| {
        let numbers = rows.iter().flat_map(|it| padded(&pick(it), width, 0.0).collect::<Vec<_>>());
        floats(numbers.collect(), [height, width], device)
    };
    let mask: Vec<bool> =
        rows.iter().flat_map(|it| padded(&it.tokens.loss_mask, width, false)).collect();
    let mask = Tensor::<2, Bool>::from_data(TensorData::new(mask, [height, width]), device);
    let (old_values, returns) =
        (column(|it| it.old_values.to_vec()), column(|it| it.returns.to_vec()));
    clipped_value_loss(values, old_values, returns, &mask, clip)
}
