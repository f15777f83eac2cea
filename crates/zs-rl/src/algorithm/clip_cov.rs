//! Clip-Cov: the few tokens that would lower the entropy most are left out.

use garde::Validate;
use serde::{Deserialize, Serialize};
use zs_core::registry::{Settings, check};

use super::{Advantages, Algorithm, LossTerms, Requirements, RolloutBatch};
use crate::advantage::{GroupAdvantageOptions, group_relative_advantages};
use crate::loss::ClipOptions;

/// GRPO without the tokens of highest covariance between log-probability and advantage.
///
/// ```text
/// A_i    = (r_i - mean(r_G)) / (std(r_G) + epsilon)
/// cov_it = (A_i - mean(A)) (log q_it - mean(log q))        means over the batch's tokens
/// L      = agg_it[ clipped_surrogate(rho_it, A_it) ],   A_it = 0 for the tokens left out, else A_i
/// ```
///
/// - `q_it`: the probability of the token when it was sampled
/// - left out: of the tokens with `cov_low < cov_it < cov_high` those of highest covariance, at most
///   `fraction` of all tokens and at least one
///
/// The entropy falls with this covariance: likely tokens with a high advantage become certain. A handful of
/// them makes up most of the fall.
///
/// # Differences
///
/// - The paper draws the tokens at random between the bounds, anew in each optimiser step and by the
///   probability of that step; here they are the highest, chosen once a batch, so that micro-batches do
///   not matter. With one step a batch the covariance is the same.
///
/// # References
///
/// - [The Entropy Mechanism of RL](https://arxiv.org/abs/2505.22617), section 4.2
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Validate)]
#[serde(default)]
pub struct ClipCov {
    /// Comparison of the returns of one question.
    #[serde(flatten)]
    #[garde(dive)]
    pub group: GroupAdvantageOptions,
    /// Fraction of tokens that may be left out.
    #[garde(custom(check::fraction))]
    pub fraction: f64,
    /// Covariance above which a token may be left out.
    #[garde(custom(check::non_negative))]
    pub cov_low: f64,
    /// Covariance below which it may.
    #[garde(custom(check::non_negative))]
    pub cov_high: f64,
    /// Bounds of the probability ratio.
    #[garde(dive)]
    pub clip: ClipOptions,
    /// Average over tokens, and the terms that are added to the loss.
    #[serde(flatten)]
    #[garde(dive)]
    pub terms: LossTerms,
}

/// Defaults of the paper.
impl Default for ClipCov {
    fn default() -> Self {
        Self {
            group: GroupAdvantageOptions::default(),
            fraction: 2e-4,
            cov_low: 1.0,
            cov_high: 5.0,
            clip: ClipOptions::default(),
            terms: LossTerms::default(),
        }
    }
}

zs_core::settings!(ClipCov, "clip_cov");

impl Algorithm for ClipCov {
    fn name(&self) -> &'static str {
        Self::KIND
    }

    fn requirements(&self) -> Requirements {
        Requirements { clip: self.clip, ..self.terms.into() }
    }

    fn advantages(&self, batch: &RolloutBatch<'_>) -> Advantages {
        let mut rows =
            batch.group_advantages(|returns| group_relative_advantages(returns, self.group));
        let log_probs: Vec<Vec<f32>> = batch.trajectories().map(|it| it.old_log_probs()).collect();
        let masks = batch.loss_masks();
        let places = masks.iter().enumerate().flat_map(|(row, mask)| {
            mask.iter().enumerate().filter(|it| *it.1).map(move |(token, _)| (row, token))
        });
        let places: Vec<(usize, usize)> = places.collect();
        let mean = |rows: &[Vec<f32>]| {
            let sum: f64 = places.iter().map(|(row, token)| f64::from(rows[*row][*token])).sum();
            sum / places.len().max(1) as f64
        };
        let (mean_advantage, mean_log_prob) = (mean(&rows), mean(&log_probs));
        let covariance = |&(row, token): &(usize, usize)| {
            (f64::from(rows[row][token]) - mean_advantage)
                * (f64::from(log_probs[row][token]) - mean_log_prob)
        };
        let between = |it: &f64| *it > self.cov_low && *it < self.cov_high;
        let mut found: Vec<(f64, (usize, usize))> =
            places.iter().map(|it| (covariance(it), *it)).filter(|it| between(&it.0)).collect();
        found.sort_by(|a, b| b.0.total_cmp(&a.0));
        let count = ((self.fraction * places.len() as f64) as usize).max(1);
        for (_, (row, token)) in found.into_iter().take(count) {
            rows[row][token] = 0.0;
        }
        rows.into()
    }
}
