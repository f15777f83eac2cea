//! RAFT++: imitates the episodes that were right, with PPO's ratio and clip.

use garde::Validate;
use serde::{Deserialize, Serialize};
use zs_core::registry::{Settings, check};

use super::{Advantages, Algorithm, LossTerms, Requirements, RolloutBatch};
use crate::loss::ClipOptions;

/// Reward-ranked fine-tuning with importance sampling.
///
/// ```text
/// A_i = 1 where r_i >= min_return, else 0
/// L   = agg_it[ clipped_surrogate(rho_it, A_i) ]
/// ```
///
/// - `r_i`: the return of episode `i`; `rho_it`: probability now over probability when sampled
///
/// The simplest of baselines for the others: nothing is learned from wrong answers. Entropy falls fast, since
/// nothing pushes back.
///
/// # Differences
///
/// - The paper's rewards are 0 and 1; `min_return` decides where they are not, as with F1.
///
/// # References
///
/// - [A Minimalist Approach to LLM Reasoning](https://arxiv.org/abs/2504.11343), section 3, RAFT++
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Validate)]
#[serde(default)]
pub struct RaftPlusPlus {
    /// The return from which on an episode is imitated.
    #[garde(custom(check::non_negative))]
    pub min_return: f64,
    /// Bounds of the probability ratio.
    #[garde(dive)]
    pub clip: ClipOptions,
    /// Average over tokens, and the terms that are added to the loss.
    #[serde(flatten)]
    #[garde(dive)]
    pub terms: LossTerms,
}

/// Right answers by exact match, and most of those by F1.
impl Default for RaftPlusPlus {
    fn default() -> Self {
        Self { min_return: 0.5, clip: ClipOptions::default(), terms: LossTerms::default() }
    }
}

zs_core::settings!(RaftPlusPlus, "raft_plus_plus");

impl Algorithm for RaftPlusPlus {
    fn name(&self) -> &'static str {
        Self::KIND
    }

    fn requirements(&self) -> Requirements {
        Requirements { clip: self.clip, ..self.terms.into() }
    }

    fn advantages(&self, batch: &RolloutBatch<'_>) -> Advantages {
        let is_kept = |it: &f32| f32::from(u8::from(f64::from(*it) >= self.min_return));
        batch.broadcast(&batch.returns.iter().map(is_kept).collect::<Vec<_>>()).into()
    }
}
