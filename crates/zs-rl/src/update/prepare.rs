//! The batch of an update before its first step: scores of every model, advantages, importance weights.

use burn::tensor::Device;
use serde_json::Value;
use zs_model::{PolicyModel, TokenRow};

use super::divergence::{divergence_of_tokens, subtract_from_rewards};
use super::row::UpdateRow;
use super::rows::score;
use super::teacher::{
    distil_into_advantages, distil_into_rewards, score_with_teacher, teacher_metrics,
};
use super::{TrainerResources, UpdateConfig, UpdateError};
use crate::algorithm::{Advantages, Algorithm, LossTerms, RolloutBatch};
use crate::loss::importance_weights;
use crate::{LossTokens, Provenance, TrajectoryGroup};

/// Rows of an update, and further results of preparing them.
pub(super) struct Prepared {
    pub(super) rows: Vec<UpdateRow>,
    pub(super) metrics: Vec<(&'static str, f64)>,
    pub(super) memory: Value,
    /// Mean divergence from the reference model over tokens, where it is part of the reward.
    pub(super) reward_kl: Option<f64>,
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
