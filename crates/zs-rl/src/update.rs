//! One update of the policy model: trajectories and an algorithm in, a better model out.

mod config;
mod critic;
mod divergence;
mod error;
mod memory;
mod policy_step;
mod prepare;
mod row;
mod rows;
mod teacher;

use std::collections::BTreeMap;
use std::ops::Range;

use zs_model::{Optimizer, PolicyModel, TokenRow};

pub use self::config::UpdateConfig;
pub use self::critic::{Critic, ValueLearner, ValueRow};
pub use self::error::UpdateError;
pub use self::memory::is_out_of_memory;

use self::memory::MicroBatchTokens;
use self::policy_step::MiniBatch;
use self::prepare::{Prepared, prepare};
use self::row::UpdateRow;
use crate::algorithm::{Algorithm, LearningState};
use crate::loss::adapted_kl_scale;
use crate::{Teacher, TrajectoryGroup};

/// Result of an update.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct UpdateMetrics {
    /// Metric keys and their values, averaged over the optimiser steps.
    ///
    /// Besides those of the algorithm: `actor/grad_norm`, `actor/lr`; `actor/num_skipped_steps` and
    /// `actor/micro_batch_tokens` where that happened (see [`update_with`]); and how sampling and training
    /// disagree about the same weights, over the first step's episodes: `rollout/log_prob_diff` (the
    /// mean of `log p_sampled - log p_trained`), `rollout/log_prob_k3`, `rollout/log_prob_max_ratio`
    /// (either way) and `rollout/effective_sample_frac`. They are 0, 0, 1 and 1 but for rounding where
    /// both sides are right.
    pub values: BTreeMap<&'static str, f64>,
    /// Optimiser steps taken. Mini-batches in which nothing carries gradient take none.
    pub num_steps: usize,
    /// Episodes that were left out of a step since they carry no gradient, over all epochs.
    pub num_skipped_episodes: usize,
    /// Optimiser steps that were not taken, since something in them was not finite: the weights are
    /// as they were before.
    pub skipped: Vec<SkippedStep>,
    /// The advantage of each token, one row an episode, in the order of the groups.
    pub advantages: Vec<Vec<f32>>,
}

/// An optimiser step that was not taken.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SkippedStep {
    /// Optimiser steps that were taken before it in the same update.
    pub step: usize,
    /// The first thing that is not finite, e.g. `actor/loss`.
    pub metric: &'static str,
    /// Its value.
    pub value: f64,
}

impl UpdateMetrics {
    /// Notes a skipped step where a value is not finite.
    fn skip_if_not_finite(
        &mut self,
        values: impl IntoIterator<Item = (&'static str, f64)>,
    ) -> bool {
        let found = values.into_iter().find(|(_, value)| !value.is_finite());
        let step = self.num_steps;
        self.skipped.extend(found.map(|(metric, value)| SkippedStep { step, metric, value }));
        found.is_some()
    }
}

/// Models, texts and state that an update uses besides the policy model and its optimiser.
#[derive(Debug)]
pub struct TrainerResources<'a, M> {
    /// The model that the policy is to stay close to, a sampling copy.
    pub reference: Option<&'a M>,
    /// The teacher, where [`distillation`](UpdateConfig::distillation) is set.
    pub teacher: Option<Teacher<'a, M>>,
    /// The value model, for algorithms that have one.
    pub critic: Option<&'a mut dyn Critic>,
    /// Curated texts whose cross-entropy is added with the weight
    /// [`ptx_coef`](UpdateConfig::ptx_coef), all of them at each optimiser step.
    pub ptx: &'a [TokenRow],
    /// State that is carried from one update to the next.
    pub state: &'a mut LearningState,
}

/// Updates the policy model on a batch of trajectories, with no other model than a reference.
///
/// As [`update_with`] with a [`LearningState`] of its own: no state is kept between updates.
///
/// # Errors
///
/// As [`update_with`].
pub fn update<M: PolicyModel + Sync>(
    model: M,
    optimizer: &mut Optimizer,
    reference: Option<&M>,
    groups: &[TrajectoryGroup],
    algorithm: &dyn Algorithm,
    config: &UpdateConfig,
) -> Result<(M, UpdateMetrics), UpdateError> {
    let mut state = LearningState::default();
    let resources =
        TrainerResources { reference, teacher: None, critic: None, ptx: &[], state: &mut state };
    update_with(model, optimizer, resources, groups, algorithm, config)
}

/// Updates the policy model on a batch of trajectories.
///
/// Advantages are computed over the whole batch, the loss over each mini-batch: its normaliser counts
/// the tokens of the whole mini-batch, so any split into micro-batches gives the same gradient up to
/// rounding. Episodes whose advantages are all zero are left out where the algorithm has no other
/// term; they still count in the normaliser. Mini-batches are runs of consecutive trajectories, so
/// that groups stay together; nothing is shuffled. A value model takes a step after each of the
/// policy's, on the same mini-batch.
///
/// A mini-batch whose loss or gradient is not finite changes nothing and is counted in
/// [`UpdateMetrics::skipped`]. Where the device's memory is exhausted, the tokens that run through
/// the model at once are halved, once in the life of a [`LearningState`].
///
/// `model` is the training copy.
///
/// # Errors
///
/// Fails on an empty batch, on a missing reference or value model, on settings that do not go
/// together, on advantages of the wrong shape or that are not finite, on a loss that is not one number
/// or has no gradient, and when the device's memory is exhausted a second time.
pub fn update_with<M: PolicyModel + Sync>(
    mut model: M,
    optimizer: &mut Optimizer,
    mut resources: TrainerResources<'_, M>,
    groups: &[TrajectoryGroup],
    algorithm: &dyn Algorithm,
    config: &UpdateConfig,
) -> Result<(M, UpdateMetrics), UpdateError> {
    config.validate()?;
    let requirements = algorithm.requirements();
    if config.ptx_coef > 0.0 && !resources.ptx.iter().any(|it| it.loss_mask.contains(&true)) {
        return Err(UpdateError::MissingTexts);
    }
    if config.adaptive_kl.is_some() && requirements.terms.kl_coef == 0.0 {
        return Err(UpdateError::NothingToAdapt { algorithm: algorithm.name() });
    }
    let mut tokens = MicroBatchTokens::new(config.micro_batch_tokens, resources.state);
    let Prepared { rows, metrics: prepared, memory, reward_kl } = tokens
        .attempt(|tokens| prepare(&model, &resources, groups, algorithm, config, tokens))??;
    let mut metrics = UpdateMetrics::default();
    let mut of_critic = Mean::default();
    for _ in 0..config.epochs {
        for range in mini_batches(rows.len(), config.mini_batches) {
            let rows = &rows[range];
            let (ptx, kl_scale) = (resources.ptx, resources.state.kl_scale);
            let mini_batch = MiniBatch { rows, ptx, kl_scale, algorithm, config };
            model = mini_batch.step(model, optimizer, &mut tokens, &mut metrics)?;
            if let (Some(critic), Some(clip)) =
                (resources.critic.as_deref_mut(), requirements.value_clip)
            {
                let rows: Vec<ValueRow<'_>> = rows.iter().map(value_row).collect();
                let values = tokens.attempt(|tokens| critic.step(&rows, clip, tokens))?;
                if !metrics.skip_if_not_finite(values.iter().copied()) {
                    of_critic.add(values);
                }
            }
        }
    }
    let num_steps = metrics.num_steps.max(1) as f64;
    for (key, value) in &mut metrics.values {
        if !policy_step::FIRST_STEP_ONLY.contains(key) {
            *value /= num_steps;
        }
    }
    metrics.values.extend(prepared);
    metrics.values.extend(of_critic.mean());
    if !metrics.skipped.is_empty() {
        metrics.values.insert("actor/num_skipped_steps", metrics.skipped.len() as f64);
    }
    if let Some(tokens) = tokens.halved() {
        metrics.values.insert("actor/micro_batch_tokens", tokens as f64);
    }
    if let Some(adaptive) = config.adaptive_kl {
        let kl = reward_kl.or_else(|| metrics.values.get("actor/kl").copied());
        let state = &mut *resources.state;
        metrics.values.insert("actor/kl_coef", requirements.terms.kl_coef * state.kl_scale);
        if let Some(kl) = kl.filter(|it| it.is_finite()) {
            state.kl_scale = adapted_kl_scale(state.kl_scale, kl, rows.len(), adaptive);
        }
    }
    resources.state.memory = memory;
    resources.state.micro_batch_tokens = tokens.halved();
    metrics.advantages = rows.into_iter().map(|it| it.advantages).collect();
    Ok((model, metrics))
}

/// `len` items cut into `count` runs whose lengths differ by at most one; empty ones are left out.
fn mini_batches(len: usize, count: usize) -> impl Iterator<Item = Range<usize>> {
    (0..count).map(move |it| it * len / count..(it + 1) * len / count).filter(|it| !it.is_empty())
}

fn value_row(row: &UpdateRow) -> ValueRow<'_> {
    ValueRow { tokens: &row.tokens, old_values: &row.old_values, returns: &row.returns }
}

/// Means of what is logged a step.
#[derive(Default)]
struct Mean {
    sums: BTreeMap<&'static str, f64>,
    count: usize,
}

impl Mean {
    fn add(&mut self, values: Vec<(&'static str, f64)>) {
        self.count += usize::from(!values.is_empty());
        for (key, value) in values {
            *self.sums.entry(key).or_default() += value;
        }
    }

    fn mean(self) -> impl Iterator<Item = (&'static str, f64)> {
        let count = self.count.max(1) as f64;
        self.sums.into_iter().map(move |(key, sum)| (key, sum / count))
    }
}

#[cfg(test)]
#[cfg(feature = "flex")]
mod tests;
