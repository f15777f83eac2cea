//! Trajectories as rows, ready for the model: advantages, log-probabilities, values.

use burn::tensor::{Bool, Device, Int, Tensor, TensorData};
use serde_json::Value;
use zs_model::{PolicyModel, TokenRow, TokenScores, map_replicas};

use super::rows::{by_row, floats, padded, rows_of};
use super::teacher::{
    TeacherRow, distil_into_advantages, distil_into_rewards, score_with_teacher, teacher_metrics,
};
use super::{TrainerResources, UpdateConfig, UpdateError};
use crate::algorithm::{Advantages, Algorithm, LossTerms, PolicyBatch, RolloutBatch};
use crate::loss::{KlEstimator, importance_weights, kl_divergence};
use crate::{LossTokens, Provenance, Trajectory, TrajectoryGroup};

/// One trajectory, ready for the model.
pub(super) struct UpdateRow {
    pub(super) tokens: TokenRow,
    /// Tokens that helper models wrote; empty where that does not matter.
    agent_mask: Vec<bool>,
    pub(super) num_loss_tokens: usize,
    pub(super) num_turns: usize,
    pub(super) advantages: Vec<f32>,
    /// Denominator of the importance ratio.
    pub(super) old_log_probs: Vec<f32>,
    /// Log-probabilities recorded at sampling, where they differ from those.
    pub(super) recorded_log_probs: Option<Vec<f32>>,
    pub(super) ref_log_probs: Option<Vec<f32>>,
    /// The teacher's scores, where one is distilled.
    pub(super) teacher: Option<TeacherRow>,
    /// Values and their targets; empty without a value model.
    pub(super) old_values: Vec<f32>,
    pub(super) returns: Vec<f32>,
    turn_numbers: Vec<usize>,
}

/// Rows of an update, and further results of preparing them.
pub(super) struct Prepared {
    pub(super) rows: Vec<UpdateRow>,
    pub(super) metrics: Vec<(&'static str, f64)>,
    pub(super) memory: Value,
    /// Mean divergence from the reference model over tokens, where it is part of the reward.
    pub(super) reward_kl: Option<f64>,
}

impl UpdateRow {
    fn new(trajectory: &Trajectory, with_agents: bool, loss_tokens: LossTokens) -> Self {
        let (mut tokens, agent_mask) = match with_agents && !trajectory.consults.is_empty() {
            true => (trajectory.token_row_with_agents(), trajectory.agent_mask()),
            false => (trajectory.token_row(), Vec::new()),
        };
        let added = trajectory.mask_of(loss_tokens);
        tokens.loss_mask.iter_mut().zip(added).for_each(|(mask, added)| *mask |= added);
        Self {
            agent_mask,
            num_loss_tokens: tokens.loss_mask.iter().filter(|it| **it).count(),
            num_turns: trajectory.turns.len(),
            advantages: Vec::new(),
            old_log_probs: trajectory.old_log_probs(),
            recorded_log_probs: None,
            ref_log_probs: None,
            teacher: None,
            old_values: Vec::new(),
            returns: Vec::new(),
            turn_numbers: trajectory.turn_numbers(),
            tokens,
        }
    }

    /// Log-probabilities recorded at sampling.
    pub(super) fn sampled_log_probs(&self) -> &[f32] {
        self.recorded_log_probs.as_deref().unwrap_or(&self.old_log_probs)
    }

    /// The teacher's log-probabilities; empty without a teacher.
    pub(super) fn teacher_log_probs(&self) -> &[f32] {
        self.teacher.as_ref().map_or(&[], |it| &it.log_probs)
    }

    /// True for the tokens that the policy wrote.
    pub(super) fn policy_mask(&self) -> impl Iterator<Item = bool> {
        self.turn_numbers.iter().map(|it| *it > 0)
    }

    pub(super) fn is_distilled(&self) -> bool {
        self.teacher.as_ref().is_some_and(|it| it.is_distilled)
    }

    /// True for the tokens whose divergence from the teacher is learned from.
    pub(super) fn distilled_mask(&self) -> Vec<bool> {
        let is_distilled = self.is_distilled();
        self.policy_mask().map(|is_own| is_own && is_distilled).collect()
    }

    pub(super) fn has_advantage(&self) -> bool {
        self.advantages.iter().zip(&self.tokens.loss_mask).any(|(it, mask)| *mask && *it != 0.0)
    }
}

/// Scores the batch with every model that the algorithm asks for, and computes its advantages.
pub(super) fn prepare<M: PolicyModel + Sync>(
    model: &M,
    resources: &TrainerResources<'_, M>,
    groups: &[TrajectoryGroup],
    algorithm: &dyn Algorithm,
    config: &UpdateConfig,
    micro_batch_tokens: usize,
) -> Result<Prepared, UpdateError> {
    let mut batch = RolloutBatch::new(groups);
    batch.state = resources.state.clone();
    let requirements = algorithm.requirements();
    let with_agents = requirements.learns_from_helpers;
    batch.loss_tokens = config.loss_tokens;
    let new_row = |it| UpdateRow::new(it, with_agents, config.loss_tokens);
    let mut rows: Vec<UpdateRow> = batch.trajectories().map(new_row).collect();
    if rows.iter().all(|it| it.num_loss_tokens == 0) {
        return Err(UpdateError::EmptyBatch);
    }
    let token_rows: Vec<TokenRow> = rows.iter().map(|it| it.tokens.clone()).collect();
    if requirements.needs_reference {
        let missing = || UpdateError::MissingReference { algorithm: algorithm.name() };
        let reference = resources.reference.ok_or_else(missing)?;
        let scores = score(reference, &token_rows, micro_batch_tokens);
        for (row, scores) in rows.iter_mut().zip(scores) {
            row.ref_log_probs = Some(scores);
        }
    }
    if config.importance.is_some() {
        if !requirements.is_linear_in_advantages {
            return Err(UpdateError::NotLinear { algorithm: algorithm.name() });
        }
        let scores = score(&model.valid(), &token_rows, micro_batch_tokens);
        for (row, scores) in rows.iter_mut().zip(scores) {
            row.recorded_log_probs = Some(std::mem::replace(&mut row.old_log_probs, scores));
        }
    }
    if config.loss_tokens != LossTokens::Policy {
        // What the environment appended was not sampled from the policy; its ratio starts at 1.
        let scores = score(&model.valid(), &token_rows, micro_batch_tokens);
        for ((row, scores), trajectory) in rows.iter_mut().zip(scores).zip(batch.trajectories()) {
            let sources = trajectory.provenance();
            let observed = |at: &usize| sources[*at] == Provenance::Observation;
            for at in (0..sources.len()).filter(observed) {
                row.old_log_probs[at] = scores[at];
                if let Some(recorded) = &mut row.recorded_log_probs {
                    recorded[at] = scores[at];
                }
            }
        }
    }
    if requirements.value_clip.is_some() {
        let missing = || UpdateError::MissingCritic { algorithm: algorithm.name() };
        let critic = resources.critic.as_deref().ok_or_else(missing)?;
        batch.values = critic.values(&token_rows, micro_batch_tokens);
    }
    let device = model.device();
    if let Some(distillation) = &config.distillation {
        let episodes = distillation.episodes;
        score_with_teacher(&mut rows, &batch, resources, episodes, micro_batch_tokens)?;
        distil_into_rewards(&mut batch, &rows, distillation, &device);
    }
    let terms = requirements.terms;
    let reward_kl =
        terms.kl_in_reward().then(|| take_divergence_off(&mut batch, &rows, terms, &device));

    let Advantages { tokens, returns, memory, mut metrics } = algorithm.advantages(&batch);
    let name = algorithm.name();
    check_shape(name, "advantages", &tokens, &rows)?;
    check_finite(name, &batch, &tokens, &rows)?;
    for (row, advantages) in rows.iter_mut().zip(tokens) {
        row.advantages = advantages;
    }
    if let Some(distillation) = &config.distillation {
        distil_into_advantages(&mut rows, distillation, &device);
        metrics.extend(teacher_metrics(&rows, distillation));
    }
    if requirements.value_clip.is_some() {
        check_shape(name, "returns", &returns, &rows)?;
        metrics.push(("critic/explained_variance", explained_variance(&rows, &batch, &returns)));
        for ((row, values), returns) in rows.iter_mut().zip(batch.values).zip(returns) {
            (row.old_values, row.returns) = (values, returns);
        }
    }
    metrics.extend(reward_kl.map(|it| ("reward/kl", it)));
    metrics.extend(weigh(&mut rows, config));
    Ok(Prepared { rows, metrics, memory, reward_kl })
}

/// Fails unless there is one row of numbers a trajectory, with one number a token.
fn check_shape(
    algorithm: &'static str,
    field: &'static str,
    numbers: &[Vec<f32>],
    rows: &[UpdateRow],
) -> Result<(), UpdateError> {
    if numbers.len() != rows.len() {
        let (expected, found) = (rows.len(), numbers.len());
        return Err(UpdateError::NumRows { algorithm, field, expected, found });
    }
    for (index, (numbers, row)) in numbers.iter().zip(rows).enumerate() {
        let (expected, found) = (row.tokens.tokens.len(), numbers.len());
        if expected != found {
            return Err(UpdateError::RowLength { algorithm, field, index, expected, found });
        }
    }
    Ok(())
}

/// Fails on advantages that are not finite although everything that they are computed from is. (A
/// reward or value that is not finite costs its optimiser step only.)
fn check_finite(
    algorithm: &'static str,
    batch: &RolloutBatch<'_>,
    advantages: &[Vec<f32>],
    rows: &[UpdateRow],
) -> Result<(), UpdateError> {
    let mut inputs = batch.returns.iter().chain(batch.token_rewards.iter().flatten());
    if !inputs.by_ref().chain(batch.values.iter().flatten()).all(|it| it.is_finite()) {
        return Ok(());
    }
    for (index, (advantages, row)) in advantages.iter().zip(rows).enumerate() {
        let mut used = advantages.iter().zip(&row.tokens.loss_mask).filter(|(_, mask)| **mask);
        if let Some((&value, _)) = used.find(|(it, _)| !it.is_finite()) {
            return Err(UpdateError::NotFinite { algorithm, index, value });
        }
    }
    Ok(())
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

/// Subtracts the divergence from the reference model from the reward of each token, and returns its
/// mean.
fn take_divergence_off(
    batch: &mut RolloutBatch<'_>,
    rows: &[UpdateRow],
    terms: LossTerms,
    device: &Device,
) -> f64 {
    let reference = |it: &UpdateRow| it.ref_log_probs.clone().unwrap_or_default();
    let mask: Vec<bool> = rows.iter().flat_map(|it| it.tokens.loss_mask.iter().copied()).collect();
    let num_tokens = mask.iter().filter(|it| **it).count();
    let kl = divergence_of_tokens(rows, reference, mask, terms.kl_estimator, device);
    subtract_from_rewards(batch, &kl, terms.kl_coef * batch.state.kl_scale);
    kl.iter().map(|it| f64::from(*it)).sum::<f64>() / num_tokens.max(1) as f64
}

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

/// Multiplies importance weights into the advantages.
fn weigh(rows: &mut [UpdateRow], config: &UpdateConfig) -> Vec<(&'static str, f64)> {
    let Some(correction) = config.importance else { return Vec::new() };
    let (mut sum, mut num_bounded, mut count) = (0.0, 0_usize, 0_usize);
    for row in rows {
        let mask = &row.tokens.loss_mask;
        let sampled = row.sampled_log_probs();
        let weights = importance_weights(&row.old_log_probs, sampled, mask, correction);
        for (index, weight) in weights.iter().enumerate().filter(|(index, _)| mask[*index]) {
            row.advantages[index] *= weight;
            sum += f64::from(*weight);
            num_bounded += usize::from(correction.is_bound(*weight));
            count += 1;
        }
    }
    let count = count.max(1) as f64;
    vec![
        ("rollout/importance_weight", sum / count),
        ("rollout/importance_bounded_frac", num_bounded as f64 / count),
    ]
}

/// Share of the variance of returns that the values explain.
///
/// ```text
/// 1 - Var(G - V) / Var(G)
/// ```
fn explained_variance(rows: &[UpdateRow], batch: &RolloutBatch<'_>, returns: &[Vec<f32>]) -> f64 {
    let mut pairs = Vec::new();
    for ((row, values), returns) in rows.iter().zip(&batch.values).zip(returns) {
        let tokens = returns.iter().zip(values).zip(&row.tokens.loss_mask);
        let written = tokens.filter(|(_, mask)| **mask).map(|(it, _)| it);
        pairs.extend(written.map(|(g, v)| (f64::from(*g), f64::from(*v))));
    }
    let variance = |of: fn(&(f64, f64)) -> f64| {
        let n = pairs.len().max(1) as f64;
        let mean = pairs.iter().map(of).sum::<f64>() / n;
        pairs.iter().map(|it| (of(it) - mean).powi(2)).sum::<f64>() / n
    };
    let of_returns = variance(|it| it.0);
    if of_returns == 0.0 { 0.0 } else { 1.0 - variance(|(g, v)| g - v) / of_returns }
}

/// The rows of one micro-batch as tensors, padded to the width and on the device of the scores.
pub(super) fn policy_batch(
    rows: &[(&UpdateRow, f32)],
    num_loss_tokens: usize,
    kl_scale: f64,
    scores: &TokenScores,
) -> PolicyBatch {
    let [_, width] = scores.log_probs.dims();
    let device = &scores.log_probs.device();
    let column = |pick: fn(&UpdateRow) -> &[f32]| float_column(rows, pick, width, device);
    let mask = |pick: fn(&UpdateRow) -> &[bool]| {
        let values = rows.iter().flat_map(|(row, _)| padded(pick(row), width, false));
        let values = TensorData::new(values.collect::<Vec<bool>>(), [rows.len(), width]);
        Tensor::<2, Bool>::from_data(values, device)
    };
    let has_agents = rows.iter().any(|(row, _)| row.agent_mask.contains(&true));
    let has_reference = rows.iter().all(|(row, _)| row.ref_log_probs.is_some());
    let mut num_turns = 0;
    let mut turn_ids: Vec<i32> = Vec::with_capacity(rows.len() * width);
    for (row, _) in rows {
        let id = |number: usize| if number == 0 { 0 } else { (num_turns + number) as i32 };
        turn_ids.extend(padded(&row.turn_numbers, width, 0).map(id));
        num_turns += row.num_turns;
    }
    let turn_ids = TensorData::new(turn_ids, [rows.len(), width]);
    PolicyBatch {
        advantages: column(|it| &it.advantages),
        old_log_probs: column(|it| &it.old_log_probs),
        ref_log_probs: has_reference
            .then(|| column(|it| it.ref_log_probs.as_deref().unwrap_or_default())),
        loss_mask: mask(|it| &it.tokens.loss_mask),
        agent_mask: has_agents.then(|| mask(|it| &it.agent_mask)),
        turn_ids: Tensor::<2, Int>::from_data(turn_ids, device),
        num_turns,
        row_weights: floats(rows.iter().map(|(_, it)| *it).collect(), [rows.len(), 1], device),
        num_loss_tokens,
        kl_scale,
    }
}

/// One kind of number of each row, padded with zeros.
pub(super) fn float_column(
    rows: &[(&UpdateRow, f32)],
    pick: fn(&UpdateRow) -> &[f32],
    width: usize,
    device: &Device,
) -> Tensor<2> {
    let values = rows.iter().flat_map(|(row, _)| padded(pick(row), width, 0.0)).collect();
    floats(values, [rows.len(), width], device)
}
