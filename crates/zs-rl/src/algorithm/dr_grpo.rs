//! GRPO without its two biases: no division by the standard deviation, none by the length.

use garde::Validate;
use serde::{Deserialize, Serialize};
use zs_core::registry::Settings;

use super::{Advantages, Algorithm, LossTerms, Requirements, RolloutBatch};
use crate::advantage::{GroupAdvantageOptions, group_relative_advantages};
use crate::loss::{Aggregation, ClipOptions};

/// Dr. GRPO ("GRPO done right").
///
/// ```text
/// A_it = r_i - mean(r_G)
/// L    = 1/(B length) sum_it clipped_surrogate(rho_it, A_it)
/// ```
///
/// - `r_G`: the returns of the trajectories of one question; `B`: episodes of the mini-batch
/// - `length`: a constant, the most tokens that an episode may write
///
/// Dividing by the standard deviation favours questions that are nearly always or nearly never
/// solved; dividing by the length of an episode makes long wrong answers cheap. Both are gone.
///
/// # Differences
///
/// - A group of one keeps its raw return; the paper does not say.
///
/// # References
///
/// - [Understanding R1-Zero-like training](https://arxiv.org/abs/2503.20783), section 3.2
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Validate)]
#[serde(default)]
pub struct DrGrpo {
    /// Bounds of the probability ratio.
    #[garde(dive)]
    pub clip: ClipOptions,
    /// Average over tokens, and the terms that are added to the loss.
    #[serde(flatten)]
    #[garde(dive)]
    pub terms: LossTerms,
}

/// Defaults of the paper, with the length that ZeroSearch allows an episode.
impl Default for DrGrpo {
    fn default() -> Self {
        Self {
            clip: ClipOptions::default(),
            terms: LossTerms {
                aggregation: Aggregation::FixedLength { length: 4096 },
                ..LossTerms::default()
            },
        }
    }
}

zs_core::settings!(DrGrpo, "dr_grpo");

impl Algorithm for DrGrpo {
    fn name(&self) -> &'static str {
        Self::KIND
    }

    fn requirements(&self) -> Requirements {
        Requirements { clip: self.clip, ..self.terms.into() }
    }

    fn advantages(&self, batch: &RolloutBatch<'_>) -> Advantages {
        let options = GroupAdvantageOptions { normalize_std: false, std_epsilon: 0.0 };
        batch.group_advantages(|returns| group_relative_advantages(returns, options)).into()
    }
}
