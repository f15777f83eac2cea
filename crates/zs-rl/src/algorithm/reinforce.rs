//! REINFORCE as ZeroSearch trains with it: the raw return as advantage.

use serde::{Deserialize, Serialize};
use zs_model::TokenScores;

use super::{
    Advantages, Algorithm, AlgorithmError, Check, KlPlacement, LossOutput, LossTerms, PolicyBatch,
    RolloutBatch,
};
use crate::advantage::{Baseline, returns_minus_baseline};
use crate::loss::{Aggregation, ClipOptions, KlEstimator};

/// Settings of [`Reinforce`]; the defaults are those of the reference code (`train_reinforce.sh`).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ReinforceConfig {
    /// What is taken off every return.
    pub baseline: Baseline,
    /// Bounds of the probability ratio; without effect while a batch is used for one step.
    pub clip: ClipOptions,
    /// Weight of the divergence from the reference model; 0 needs no reference model.
    pub kl_coef: f64,
    /// How that divergence is estimated.
    pub kl_estimator: KlEstimator,
    /// Where that divergence enters.
    pub kl_placement: KlPlacement,
    /// Weight of the entropy bonus.
    pub entropy_coef: f64,
    /// How token losses are averaged.
    pub aggregation: Aggregation,
}

impl Default for ReinforceConfig {
    fn default() -> Self {
        Self {
            baseline: Baseline::None,
            clip: ClipOptions::default(),
            kl_coef: 0.001,
            kl_estimator: KlEstimator::LowVarKl,
            kl_placement: KlPlacement::Loss,
            entropy_coef: 0.001,
            aggregation: Aggregation::TokenMean,
        }
    }
}

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
#[derive(Clone, Debug)]
pub struct Reinforce {
    config: ReinforceConfig,
}

impl Reinforce {
    /// The algorithm with these settings.
    ///
    /// # Errors
    ///
    /// Fails on a setting out of range.
    pub fn new(config: &ReinforceConfig) -> Result<Self, AlgorithmError> {
        let check = Check("reinforce");
        if let Baseline::Ema { decay } = config.baseline {
            let holds = (0.0..1.0).contains(&decay);
            check.that(holds, "baseline.ema.decay", decay, "lie in [0, 1)")?;
        }
        check.clip(config.clip)?;
        let algorithm = Self { config: config.clone() };
        check.terms(algorithm.terms())?;
        Ok(algorithm)
    }
}

impl Algorithm for Reinforce {
    fn name(&self) -> &'static str {
        "reinforce"
    }

    fn terms(&self) -> LossTerms {
        let ReinforceConfig {
            aggregation, kl_coef, kl_estimator, kl_placement, entropy_coef, ..
        } = self.config;
        LossTerms { aggregation, kl_coef, kl_estimator, kl_placement, entropy_coef }
    }

    fn advantages(&self, batch: &RolloutBatch<'_>) -> Advantages {
        let (baseline, running) = (self.config.baseline, batch.state.mean_return);
        let advantages = returns_minus_baseline(&batch.returns, baseline, running);
        Advantages {
            mean_return: baseline.remember(running, &batch.returns),
            ..batch.broadcast(&advantages).into()
        }
    }

    fn policy_loss(&self, scores: &TokenScores, batch: &PolicyBatch) -> LossOutput {
        let surrogate = batch.clipped_surrogate(scores, self.config.clip);
        self.terms().policy_loss(surrogate, scores, batch)
    }
}
