//! REINFORCE as ZeroSearch trains with it: the raw return as advantage.

use garde::Validate;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use zs_core::registry::Settings;

use super::{Advantages, Algorithm, LossTerms, Requirements, RolloutBatch};
use crate::advantage::{Baseline, returns_minus_baseline};
use crate::loss::ClipOptions;

/// REINFORCE with the clipped surrogate.
///
/// ```text
/// A_it = R_i - b
/// L    = agg_it[ clipped_surrogate(rho_it, A_it) + kl_coef * KL_it - entropy_coef * H_it ]
/// ```
///
/// - `R_i`: the outcome reward of episode `i`, given to each token that the policy wrote in it
/// - `b`: 0 (ZeroSearch), the mean return of the batch, or a running mean of the batches before
/// - `rho_it`: probability now over probability when sampled; at the first step it is 1 and the
///   gradient is REINFORCE's, `-A_it * grad log p_it`
///
/// # Differences
///
/// - The KL term is *added*, so that it pulls towards the reference model. The reference code
///   subtracts it (`dp_actor.py` 271) and rewards drift.
/// - The mean runs over the tokens of the whole mini-batch; there, over each micro-batch, whose split
///   then changes the gradient.
/// - `old_log_probs` are those of sampling; there, they are recomputed.
///
/// # References
///
/// - [Williams 1992](https://doi.org/10.1007/BF00992696)
/// - [ZeroSearch](https://arxiv.org/abs/2505.04588), table 5; reference code `core_algos.py` 158-165
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Validate)]
#[serde(default)]
pub struct Reinforce {
    /// Baseline that is subtracted from every return.
    #[garde(dive)]
    pub baseline: Baseline,
    /// Bounds of the probability ratio; without effect while a batch is used for one step.
    #[garde(dive)]
    pub clip: ClipOptions,
    /// Average over tokens, and the terms that are added to the loss.
    #[serde(flatten)]
    #[garde(dive)]
    pub terms: LossTerms,
}

/// Defaults of the reference code (`train_reinforce.sh`).
impl Default for Reinforce {
    fn default() -> Self {
        Self {
            baseline: Baseline::None,
            clip: ClipOptions::default(),
            terms: LossTerms { kl_coef: 0.001, entropy_coef: 0.001, ..LossTerms::default() },
        }
    }
}

zs_core::settings!(Reinforce, "reinforce");

impl Algorithm for Reinforce {
    fn name(&self) -> &'static str {
        Self::KIND
    }

    fn requirements(&self) -> Requirements {
        Requirements { clip: self.clip, ..self.terms.into() }
    }

    fn advantages(&self, batch: &RolloutBatch<'_>) -> Advantages {
        // Of the updates before, the running mean of returns is remembered.
        let running = batch.state.memory.as_f64();
        let advantages = returns_minus_baseline(&batch.returns, self.baseline, running);
        let mean = self.baseline.remember(running, &batch.returns).filter(|it| it.is_finite());
        Advantages {
            memory: mean.or(running).map_or(Value::Null, Value::from),
            ..batch.broadcast(&advantages).into()
        }
    }
}
