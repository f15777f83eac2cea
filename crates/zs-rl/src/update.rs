//! One update of the policy model: trajectories and an algorithm in, a better model out.

use std::collections::BTreeMap;
use std::ops::Range;

use burn::optim::GradientsParams;
use burn::tensor::{Bool, Device, Tensor, TensorData};
use serde::{Deserialize, Serialize};
use zs_model::{
    Optimizer, PolicyModel, TokenRow, TokenScores, accumulate_gradients, map_parallel,
    micro_batches,
};

use crate::algorithm::{Algorithm, PolicyBatch};
use crate::{Trajectory, TrajectoryGroup};

/// How a batch of trajectories is turned into optimiser steps.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct UpdateConfig {
    /// Padded tokens that are run through the model at once; changes memory and speed only.
    pub micro_batch_tokens: usize,
    /// Optimiser steps an epoch: the batch is cut into this many parts of equal size.
    pub mini_batches: usize,
    /// Times that the batch is gone through.
    pub epochs: usize,
}

/// One on-policy step a batch. (The reference code cuts 320 trajectories into 256 and 64 and divides
/// both by the count of the first.)
impl Default for UpdateConfig {
    fn default() -> Self {
        Self { micro_batch_tokens: 8192, mini_batches: 1, epochs: 1 }
    }
}

/// What an update did.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct UpdateMetrics {
    /// Metric keys and their values, averaged over the optimiser steps.
    ///
    /// Besides those of the algorithm: `actor/grad_norm`, `actor/lr`; and `rollout/log_prob_diff` and
    /// `rollout/log_prob_max_ratio`, the mean of `log p_sampled - log p_trained` and the largest
    /// probability ratio either way between sampling and training for the same weights, over the
    /// first step's episodes. Both are 0 and 1 but for rounding where both sides are right.
    pub values: BTreeMap<&'static str, f64>,
    /// Optimiser steps taken. Mini-batches in which nothing carries gradient take none.
    pub num_steps: usize,
    /// Episodes that were left out of a step since they carry no gradient, over all epochs.
    pub num_skipped_episodes: usize,
}

/// Why a model could not be updated. The model is lost; the caller has its last checkpoint.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum UpdateError {
    /// A count of zero.
    #[error("`{field}` of the update config is 0; it must be at least 1")]
    Config {
        /// The setting.
        field: &'static str,
    },
    /// There is nothing to learn from.
    #[error("the batch holds no token that the policy wrote; check the rollout")]
    EmptyBatch,
    /// The algorithm has a KL term but no model to compute it against.
    #[error("algorithm `{algorithm}` needs a reference model; pass one or set `kl_coef = 0`")]
    MissingReference {
        /// The algorithm.
        algorithm: &'static str,
    },
    /// Training has diverged.
    #[error(
        "`{metric}` is {value} in optimiser step {step} of this update; lower the learning rate, or \
         look for infinite rewards"
    )]
    NotFinite {
        /// What is not finite.
        metric: &'static str,
        /// Its value.
        value: f64,
        /// The optimiser step inside of the update, from 0.
        step: usize,
    },
}

/// Updates the policy model on a batch of trajectories.
///
/// Advantages are computed over the whole batch, the loss over each mini-batch: its normaliser counts
/// the tokens of the whole mini-batch, so any split into micro-batches gives the same gradient up to
/// rounding. Episodes whose advantages are all zero are left out where the algorithm has no other
/// term; they still count in the normaliser. Mini-batches are runs of consecutive trajectories, so
/// that groups stay together; nothing is shuffled.
///
/// `model` is the training copy, `reference` a sampling copy.
///
/// # Errors
///
/// Fails on an empty batch, on a missing reference model, and as soon as a loss or gradient is not
/// finite.
///
/// # Panics
///
/// When the algorithm returns advantages of the wrong shape.
pub fn update<M: PolicyModel + Sync>(
    mut model: M,
    optimizer: &mut Optimizer,
    reference: Option<&M>,
    groups: &[TrajectoryGroup],
    algorithm: &dyn Algorithm,
    config: &UpdateConfig,
) -> Result<(M, UpdateMetrics), UpdateError> {
    config.validate()?;
    let rows = rows(groups, algorithm, reference, config)?;
    let mut metrics = UpdateMetrics::default();
    for _ in 0..config.epochs {
        for range in mini_batches(rows.len(), config.mini_batches) {
            model = step(model, optimizer, &rows[range], algorithm, config, &mut metrics)?;
        }
    }
    let num_steps = metrics.num_steps.max(1) as f64;
    for (key, value) in &mut metrics.values {
        if !FIRST_STEP_ONLY.contains(key) {
            *value /= num_steps;
        }
    }
    Ok((model, metrics))
}

const LOG_PROB_DIFF: &str = "rollout/log_prob_diff";
const LOG_PROB_MAX_RATIO: &str = "rollout/log_prob_max_ratio";
const FIRST_STEP_ONLY: [&str; 2] = [LOG_PROB_DIFF, LOG_PROB_MAX_RATIO];

impl UpdateConfig {
    /// Checks every field on its own.
    ///
    /// # Errors
    ///
    /// Fails on a count of zero.
    pub fn validate(&self) -> Result<(), UpdateError> {
        let fields = [
            ("micro_batch_tokens", self.micro_batch_tokens),
            ("mini_batches", self.mini_batches),
            ("epochs", self.epochs),
        ];
        match fields.iter().find(|(_, value)| *value == 0) {
            Some(&(field, _)) => Err(UpdateError::Config { field }),
            None => Ok(()),
        }
    }
}

/// One trajectory, ready for the model.
struct Row {
    tokens: TokenRow,
    /// Which of them agents wrote; empty where that does not matter.
    agent_mask: Vec<bool>,
    num_loss_tokens: usize,
    advantages: Vec<f32>,
    old_log_probs: Vec<f32>,
    ref_log_probs: Option<Vec<f32>>,
}

impl Row {
    fn new(trajectory: &Trajectory, advantages: Vec<f32>, with_agents: bool) -> Self {
        let with_agents = with_agents && !trajectory.consults.is_empty();
        let (tokens, agent_mask) = match with_agents {
            true => (trajectory.token_row_with_agents(), trajectory.agent_mask()),
            false => (trajectory.token_row(), Vec::new()),
        };
        assert_eq!(advantages.len(), tokens.tokens.len(), "one advantage a token");
        let num_loss_tokens = tokens.loss_mask.iter().filter(|it| **it).count();
        let old_log_probs = trajectory.old_log_probs();
        Self { tokens, agent_mask, num_loss_tokens, advantages, old_log_probs, ref_log_probs: None }
    }

    fn has_advantage(&self) -> bool {
        self.advantages.iter().zip(&self.tokens.loss_mask).any(|(it, mask)| *mask && *it != 0.0)
    }
}

fn rows<M: PolicyModel + Sync>(
    groups: &[TrajectoryGroup],
    algorithm: &dyn Algorithm,
    reference: Option<&M>,
    config: &UpdateConfig,
) -> Result<Vec<Row>, UpdateError> {
    let advantages = algorithm.advantages(groups);
    let trajectories: Vec<&Trajectory> =
        groups.iter().flat_map(|it| &it.trajectories).map(|it| &it.trajectory).collect();
    assert_eq!(advantages.len(), trajectories.len(), "one row of advantages a trajectory");
    let with_agents = algorithm.learns_from_agents();
    let mut rows: Vec<Row> = trajectories
        .into_iter()
        .zip(advantages)
        .map(|(it, a)| Row::new(it, a, with_agents))
        .collect();
    if rows.iter().all(|it| it.num_loss_tokens == 0) {
        return Err(UpdateError::EmptyBatch);
    }
    if algorithm.needs_reference() {
        let Some(reference) = reference else {
            return Err(UpdateError::MissingReference { algorithm: algorithm.name() });
        };
        let token_rows: Vec<TokenRow> = rows.iter().map(|it| it.tokens.clone()).collect();
        let scores = score(reference, &token_rows, config.micro_batch_tokens);
        for (row, scores) in rows.iter_mut().zip(scores) {
            row.ref_log_probs = Some(scores);
        }
    }
    Ok(rows)
}

/// Log-probabilities of the tokens that carry loss, one row a row, without gradient.
fn score<M: PolicyModel + Sync>(model: &M, rows: &[TokenRow], max_tokens: usize) -> Vec<Vec<f32>> {
    let batches = micro_batches(rows, max_tokens);
    let scored = map_parallel(&model.device(), batches.len(), |index| {
        let batch: Vec<TokenRow> = batches[index].iter().map(|&it| rows[it].clone()).collect();
        let log_probs = model.token_scores(&batch).log_probs;
        let [_, width] = log_probs.dims();
        let log_probs: Vec<f32> = log_probs.into_data().iter::<f32>().collect();
        log_probs.chunks(width).map(<[f32]>::to_vec).collect::<Vec<_>>()
    });
    let mut scores = vec![Vec::new(); rows.len()];
    for (&index, mut values) in batches.iter().flatten().zip(scored.into_iter().flatten()) {
        values.truncate(rows[index].tokens.len());
        scores[index] = values;
    }
    scores
}

/// `len` items cut into `count` runs whose lengths differ by at most one; empty ones are left out.
fn mini_batches(len: usize, count: usize) -> impl Iterator<Item = Range<usize>> {
    (0..count).map(move |it| it * len / count..(it + 1) * len / count).filter(|it| !it.is_empty())
}

/// What is kept of one micro-batch until all are through.
struct Kept {
    metrics: Vec<(&'static str, Tensor<1>)>,
    log_prob_diff: Tensor<1>,
    max_abs_log_prob_diff: Tensor<1>,
}

fn step<M: PolicyModel>(
    model: M,
    optimizer: &mut Optimizer,
    rows: &[Row],
    algorithm: &dyn Algorithm,
    config: &UpdateConfig,
    metrics: &mut UpdateMetrics,
) -> Result<M, UpdateError> {
    let carries_gradient = |row: &Row| {
        row.num_loss_tokens > 0 && (algorithm.needs_every_episode() || row.has_advantage())
    };
    let num_used = rows.iter().filter(|it| carries_gradient(it)).count();
    metrics.num_skipped_episodes += rows.len() - num_used;
    if num_used == 0 {
        return Ok(model);
    }
    let (grads, mut values) = gradients(&model, rows, carries_gradient, algorithm, config);
    refuse_non_finite(&values, metrics.num_steps)?;
    let (model, stats) = optimizer.step(model, grads);
    values.insert("actor/grad_norm", stats.grad_norm);
    values.insert("actor/lr", stats.learning_rate);
    refuse_non_finite(&values, metrics.num_steps)?;
    for (key, value) in values {
        if metrics.num_steps == 0 || !FIRST_STEP_ONLY.contains(&key) {
            *metrics.values.entry(key).or_default() += value;
        }
    }
    metrics.num_steps += 1;
    Ok(model)
}

/// The gradient of a mini-batch's loss and its metrics, from the rows that are used.
fn gradients<M: PolicyModel>(
    model: &M,
    rows: &[Row],
    is_used: impl Fn(&Row) -> bool,
    algorithm: &dyn Algorithm,
    config: &UpdateConfig,
) -> (GradientsParams, BTreeMap<&'static str, f64>) {
    // The normaliser counts every row, used or not.
    let counts: Vec<usize> = rows.iter().map(|it| it.num_loss_tokens).collect();
    let weights = algorithm.aggregation().row_weights(&counts);
    let used: Vec<(&Row, f32)> = rows.iter().zip(weights).filter(|(it, _)| is_used(it)).collect();
    let num_loss_tokens = used.iter().map(|(row, _)| row.num_loss_tokens).sum();
    let token_rows: Vec<TokenRow> = used.iter().map(|(row, _)| row.tokens.clone()).collect();
    let plan = micro_batches(&token_rows, config.micro_batch_tokens);
    let inputs: Vec<Vec<TokenRow>> =
        plan.iter().map(|it| it.iter().map(|&at| token_rows[at].clone()).collect()).collect();

    let (grads, kept) = accumulate_gradients(model, &inputs, |index, scores| {
        let rows: Vec<(&Row, f32)> = plan[index].iter().map(|&at| used[at]).collect();
        let batch = policy_batch(&rows, num_loss_tokens, &scores);
        let output = algorithm.policy_loss(&scores, &batch);
        // What agents wrote was never sampled from the policy.
        let masked = batch.policy_mask().bool_not();
        let diff = batch.old_log_probs.clone() - scores.log_probs.detach();
        let diff = diff.mask_fill(masked, 0.0);
        let kept = Kept {
            metrics: output.metrics,
            log_prob_diff: batch.token_mean(diff.clone()),
            max_abs_log_prob_diff: diff.abs().max(),
        };
        (output.loss, kept)
    });

    let mut values: BTreeMap<&'static str, f64> = BTreeMap::new();
    let mut max_abs_log_prob_diff = 0.0_f64;
    for kept in kept {
        for (key, value) in kept.metrics {
            *values.entry(key).or_default() += number(value);
        }
        *values.entry(LOG_PROB_DIFF).or_default() += number(kept.log_prob_diff);
        max_abs_log_prob_diff = max_abs_log_prob_diff.max(number(kept.max_abs_log_prob_diff));
    }
    values.insert(LOG_PROB_MAX_RATIO, max_abs_log_prob_diff.exp());
    (grads, values)
}

fn number(value: Tensor<1>) -> f64 {
    f64::from(value.into_scalar::<f32>())
}

fn refuse_non_finite(values: &BTreeMap<&'static str, f64>, step: usize) -> Result<(), UpdateError> {
    match values.iter().find(|(_, value)| !value.is_finite()) {
        Some((&metric, &value)) => Err(UpdateError::NotFinite { metric, value, step }),
        None => Ok(()),
    }
}

/// The rows of one micro-batch as tensors, padded to the width and on the device of the scores.
fn policy_batch(rows: &[(&Row, f32)], num_loss_tokens: usize, scores: &TokenScores) -> PolicyBatch {
    let [_, width] = scores.log_probs.dims();
    let device = &scores.log_probs.device();
    let column = |pick: fn(&Row) -> &[f32]| {
        let values = rows.iter().flat_map(|(row, _)| padded(pick(row), width, 0.0)).collect();
        floats(values, [rows.len(), width], device)
    };
    let mask = |pick: fn(&Row) -> &[bool]| {
        let values = rows.iter().flat_map(|(row, _)| padded(pick(row), width, false));
        let values = TensorData::new(values.collect::<Vec<bool>>(), [rows.len(), width]);
        Tensor::<2, Bool>::from_data(values, device)
    };
    let has_agents = rows.iter().any(|(row, _)| row.agent_mask.contains(&true));
    let has_reference = rows.iter().all(|(row, _)| row.ref_log_probs.is_some());
    PolicyBatch {
        advantages: column(|it| &it.advantages),
        old_log_probs: column(|it| &it.old_log_probs),
        ref_log_probs: has_reference
            .then(|| column(|it| it.ref_log_probs.as_deref().unwrap_or_default())),
        loss_mask: mask(|it| &it.tokens.loss_mask),
        agent_mask: has_agents.then(|| mask(|it| &it.agent_mask)),
        row_weights: floats(rows.iter().map(|(_, it)| *it).collect(), [rows.len(), 1], device),
        num_loss_tokens,
    }
}

fn padded<T: Copy>(values: &[T], width: usize, padding: T) -> impl Iterator<Item = T> {
    values.iter().copied().chain(std::iter::repeat(padding)).take(width)
}

fn floats(values: Vec<f32>, shape: [usize; 2], device: &Device) -> Tensor<2> {
    Tensor::from_data(TensorData::new(values, shape), device)
}

#[cfg(test)]
#[cfg(feature = "flex")]
mod tests;
