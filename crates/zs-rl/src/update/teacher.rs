//! A teacher's part in an update: its scores of the batch, and the divergence from it in rewards,
//! advantages and the loss.

use burn::tensor::Device;
use zs_model::{PolicyModel, TokenRow};

use super::divergence::{divergence_of_tokens, subtract_from_rewards};
use super::row::{TeacherRow, UpdateRow};
use super::rows::score;
use super::{TrainerResources, UpdateError};
use crate::algorithm::RolloutBatch;
use crate::{DistillationConfig, DistillationPlacement, DistilledEpisodes, Teacher};

/// Scores the rows with the teacher, and notes which of them are distilled.
pub(super) fn score_with_teacher<M: PolicyModel + Sync>(
    rows: &mut [UpdateRow],
    batch: &RolloutBatch<'_>,
    resources: &TrainerResources<'_, M>,
    episodes: DistilledEpisodes,
    micro_batch_tokens: usize,
) -> Result<(), UpdateError> {
    let scores = match &resources.teacher {
        None => return Err(UpdateError::MissingTeacher),
        Some(Teacher::LogProbs(scores)) => scores.to_vec(),
        Some(Teacher::Model(model)) => {
            let own = |it: &UpdateRow| TokenRow {
                tokens: it.tokens.tokens.clone(),
                loss_mask: it.policy_mask().collect(),
            };
            let token_rows: Vec<TokenRow> = rows.iter().map(own).collect();
            score(*model, &token_rows, micro_batch_tokens)
        }
    };
    let is_wrong = batch.groups.iter().flat_map(|group| {
        group.trajectories.iter().map(|it| !it.trajectory.is_right(&group.question))
    });
    let mut scores = scores.into_iter();
    for (index, (row, is_wrong)) in rows.iter_mut().zip(is_wrong).enumerate() {
        let log_probs = scores.next().unwrap_or_default();
        let (expected, found) = (row.tokens.tokens.len(), log_probs.len());
        if expected != found {
            return Err(UpdateError::TeacherScores { index, expected, found });
        }
        let is_distilled = is_wrong || episodes == DistilledEpisodes::All;
        row.teacher = Some(TeacherRow { log_probs, is_distilled });
    }
    Ok(())
}

/// Weighs the reward, and subtracts the divergence from it.
pub(super) fn distil_into_rewards(
    batch: &mut RolloutBatch<'_>,
    rows: &[UpdateRow],
    config: &DistillationConfig,
    device: &Device,
) {
    if config.kl_placement != DistillationPlacement::Reward {
        return;
    }
    let weight = config.reward_coef as f32;
    let rewards = batch.returns.iter_mut().chain(batch.token_rewards.iter_mut().flatten());
    rewards.for_each(|it| *it *= weight);
    subtract_from_rewards(batch, &divergence(rows, config, device), config.kl_coef);
}

/// Weighs the advantages, and subtracts the divergence from them.
pub(super) fn distil_into_advantages(
    rows: &mut [UpdateRow],
    config: &DistillationConfig,
    device: &Device,
) {
    if config.kl_placement == DistillationPlacement::Reward {
        return;
    }
    let weight = config.reward_coef as f32;
    rows.iter_mut().flat_map(|it| &mut it.advantages).for_each(|it| *it *= weight);
    if config.kl_placement == DistillationPlacement::Advantage {
        let divergence = divergence(rows, config, device);
        let advantages = rows.iter_mut().flat_map(|it| &mut it.advantages);
        for (advantage, kl) in advantages.zip(divergence) {
            *advantage = (f64::from(*advantage) - config.kl_coef * f64::from(kl)) as f32;
        }
    }
}

/// Estimated divergence of every token when it was sampled, row after row; 0 where none is distilled.
fn divergence(rows: &[UpdateRow], config: &DistillationConfig, device: &Device) -> Vec<f32> {
    let teacher = |it: &UpdateRow| it.teacher_log_probs().to_vec();
    let mask = rows.iter().flat_map(UpdateRow::distilled_mask).collect();
    divergence_of_tokens(rows, teacher, mask, config.kl_estimator, device)
}

/// Divergence from the teacher when the batch was sampled, whatever is distilled: means over the tokens
/// that the policy wrote.
pub(super) fn teacher_metrics(
    rows: &[UpdateRow],
    config: &DistillationConfig,
) -> Vec<(&'static str, f64)> {
    let (mut k1, mut k3, mut count) = (0.0, 0.0, 0_usize);
    for row in rows {
        let pairs = row.old_log_probs.iter().zip(row.teacher_log_probs()).zip(row.policy_mask());
        for ((own, teacher), _) in pairs.filter(|(_, is_own)| *is_own) {
            let log_ratio = f64::from(*own) - f64::from(*teacher);
            k1 += log_ratio;
            k3 += (-log_ratio).exp() - 1.0 + log_ratio;
            count += 1;
        }
    }
    let mean = |sum: f64| sum / count.max(1) as f64;
    let mut metrics = vec![("teacher/kl", mean(k1)), ("teacher/kl_k3", mean(k3))];
    if config.episodes != DistilledEpisodes::All {
        let distilled = rows.iter().filter(|it| it.is_distilled()).count();
        metrics.push(("teacher/distilled_frac", distilled as f64 / rows.len().max(1) as f64));
    }
    metrics
}
