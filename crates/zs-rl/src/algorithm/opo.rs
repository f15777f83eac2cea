//! On-Policy optimisation with an optimal baseline: long episodes weigh more in the baseline.

use garde::Validate;
use serde::{Deserialize, Serialize};
use zs_core::registry::Settings;

use super::{Advantages, Algorithm, LossTerms, Requirements, RolloutBatch};
use crate::loss::ClipOptions;

/// On-Policy RL with Optimal reward baseline.
///
/// ```text
/// A_i = r_i - b_G
/// b_G = sum_j n_j r_j / sum_j n_j        over the trajectories of one question
/// L   = agg_it[ clipped_surrogate(rho_it, A_i) ]
/// ```
///
/// - `n_j`: tokens of episode `j`; `r_j`: its return
///
/// The baseline of least variance weighs each return with the squared norm of its gradient; where tokens'
/// gradients are about orthogonal and equally long, that norm grows with the length. With one optimiser
/// step a batch (`mini_batches = 1`, `epochs = 1`), as the paper asks for, the ratio is 1.
///
/// # Differences
///
/// - A group of one keeps its raw return, as in verl.
///
/// # References
///
/// - [OPO](https://arxiv.org/abs/2505.23585)
/// - verl 0.9.1 `compute_opo_outcome_advantage`
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, Validate)]
#[serde(default)]
pub struct Opo {
    /// Bounds of the probability ratio.
    #[garde(dive)]
    pub clip: ClipOptions,
    /// Average over tokens, and the terms that are added to the loss.
    #[serde(flatten)]
    #[garde(dive)]
    pub terms: LossTerms,
}

zs_core::settings!(Opo, "opo");

impl Algorithm for Opo {
    fn name(&self) -> &'static str {
        Self::KIND
    }

    fn requirements(&self) -> Requirements {
        Requirements { clip: self.clip, ..self.terms.into() }
    }

    fn advantages(&self, batch: &RolloutBatch<'_>) -> Advantages {
        let masks = batch.loss_masks();
        let mut lengths = masks.iter().map(|it| it.iter().filter(|it| **it).count());
        let mut advantages = Vec::new();
        for (_, returns) in batch.groups_with_returns() {
            let lengths: Vec<usize> = lengths.by_ref().take(returns.len()).collect();
            let baseline = if returns.len() == 1 { 0.0 } else { weighted_mean(returns, &lengths) };
            advantages.extend(returns.iter().map(|it| (f64::from(*it) - baseline) as f32));
        }
        batch.broadcast(&advantages).into()
    }
}

/// Mean of returns by length; exactly the common value when all are equal.
fn weighted_mean(returns: &[f32], lengths: &[usize]) -> f64 {
    let first = returns.first().map_or(0.0, |it| f64::from(*it));
    let total: usize = lengths.iter().sum();
    let excess = returns.iter().zip(lengths).map(|(it, n)| (f64::from(*it) - first) * *n as f64);
    first + excess.sum::<f64>() / total.max(1) as f64
}
