//! Settings of the update: optimiser steps of a batch, and the terms that go with any algorithm.

use serde::{Deserialize, Serialize};

use super::UpdateError;
use crate::loss::{AdaptiveKl, ImportanceBound, ImportanceCorrection};
use crate::{DistillationConfig, LossTokens};

/// Settings of the optimiser steps on a batch of trajectories.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct UpdateConfig {
    /// Padded tokens of a micro-batch; changes memory and speed only.
    pub micro_batch_tokens: usize,
    /// Optimiser steps an epoch: the batch is cut into this many parts of equal size.
    pub mini_batches: usize,
    /// Passes over the batch.
    pub epochs: usize,
    /// Tokens that carry loss; the policy's own by default. Others have no recorded log-probabilities,
    /// so the batch is scored once more for them.
    #[serde(skip_serializing_if = "is_policy")]
    pub loss_tokens: LossTokens,
    /// Correction of the mismatch between the probabilities of sampling and training; none by
    /// default. It scores the batch once more.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub importance: Option<ImportanceCorrection>,
    /// Lets the algorithm's KL coefficient follow the divergence; fixed by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub adaptive_kl: Option<AdaptiveKl>,
    /// Distillation of a teacher; none by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub distillation: Option<DistillationConfig>,
    /// Weight of the [likelihood-displacement guard](crate::loss::likelihood_displacement); 0.2 in
    /// its paper, 0 by default.
    #[serde(skip_serializing_if = "is_zero")]
    pub llds_coef: f64,
    /// Weight of the cross-entropy on curated texts ([`TrainerResources::ptx`](super::TrainerResources::ptx)); 0
    /// by default.
    #[serde(skip_serializing_if = "is_zero")]
    pub ptx_coef: f64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes references")]
fn is_policy(value: &LossTokens) -> bool {
    *value == LossTokens::Policy
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes references")]
fn is_zero(value: &f64) -> bool {
    *value == 0.0
}

/// One on-policy step a batch. (The reference code cuts 320 trajectories into 256 and 64 and divides
/// both by the count of the first.)
impl Default for UpdateConfig {
    fn default() -> Self {
        Self {
            micro_batch_tokens: 8192,
            mini_batches: 1,
            epochs: 1,
            loss_tokens: LossTokens::Policy,
            importance: None,
            adaptive_kl: None,
            distillation: None,
            llds_coef: 0.0,
            ptx_coef: 0.0,
        }
    }
}

impl UpdateConfig {
    /// Checks every field on its own.
    ///
    /// # Errors
    ///
    /// Fails on a count of zero, or on a number out of range.
    pub fn validate(&self) -> Result<(), UpdateError> {
        let fields = [
            ("micro_batch_tokens", self.micro_batch_tokens),
            ("mini_batches", self.mini_batches),
            ("epochs", self.epochs),
        ];
        if let Some(&(field, _)) = fields.iter().find(|(_, value)| *value == 0) {
            return Err(UpdateError::Config { field });
        }
        let is_positive = |it: f64| it.is_finite() && it > 0.0;
        let is_coefficient = |it: f64| it.is_finite() && it >= 0.0;
        let above_0 = "be finite and above 0";
        let mut checks = vec![
            ("llds_coef", self.llds_coef, is_coefficient(self.llds_coef), "not be negative"),
            ("ptx_coef", self.ptx_coef, is_coefficient(self.ptx_coef), "not be negative"),
        ];
        if let Some(AdaptiveKl { target, horizon }) = self.adaptive_kl {
            checks.push(("adaptive_kl.target", target, is_positive(target), above_0));
            checks.push(("adaptive_kl.horizon", horizon, is_positive(horizon), above_0));
        }
        if let Some(DistillationConfig { kl_coef, reward_coef, .. }) = self.distillation {
            for (key, it) in
                [("distillation.kl_coef", kl_coef), ("distillation.reward_coef", reward_coef)]
            {
                checks.push((key, it, is_coefficient(it), "be finite and not negative"));
            }
        }
        match self.importance.map(|it| it.bound) {
            Some(ImportanceBound::Truncate { max }) => {
                checks.push(("importance.bound.truncate.max", max, is_positive(max), above_0));
            }
            Some(ImportanceBound::Mask { low, high }) => {
                let key = "importance.bound.mask.low";
                checks.push((key, low, is_coefficient(low), "not be negative"));
                let holds = high.is_finite() && high > low;
                checks.push(("importance.bound.mask.high", high, holds, "be above `low`"));
            }
            None => {}
        }
        match checks.into_iter().find(|(_, _, holds, _)| !holds) {
            Some((field, value, _, requirement)) => {
                Err(UpdateError::Setting { field, value, requirement })
            }
            None => Ok(()),
        }
    }
}
