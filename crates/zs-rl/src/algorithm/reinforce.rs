//! REINFORCE as ZeroSearch trains with it: the raw return as advantage.

use serde::{Deserialize, Serialize};
use zs_model::TokenScores;

use super::{Algorithm, AlgorithmError, Check, LossOutput, PolicyBatch};
use crate::TrajectoryGroup;
use crate::advantage::{Baseline, broadcast_to_tokens, returns_minus_baseline};
use crate::loss::{
    Aggregation, ClipOptions, KlEstimator, clipped_surrogate, entropy_bonus, kl_divergence,
};

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
/// - `b`: 0 (ZeroSearch), or the mean return of the batch
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
        check.clip(config.clip)?;
        check.coefficient("kl_coef", config.kl_coef)?;
        check.coefficient("entropy_coef", config.entropy_coef)?;
        Ok(Self { config: config.clone() })
    }
}

impl Algorithm for Reinforce {
    fn name(&self) -> &'static str {
        "reinforce"
    }

    fn aggregation(&self) -> Aggregation {
        self.config.aggregation
    }

    fn needs_reference(&self) -> bool {
        self.config.kl_coef > 0.0
    }

    fn needs_every_episode(&self) -> bool {
        self.config.kl_coef > 0.0 || self.config.entropy_coef > 0.0
    }

    fn advantages(&self, groups: &[TrajectoryGroup]) -> Vec<Vec<f32>> {
        let returns: Vec<f32> = groups.iter().flat_map(TrajectoryGroup::rewards).collect();
        let advantages = returns_minus_baseline(&returns, self.config.baseline);
        let trajectories = groups.iter().flat_map(|it| &it.trajectories);
        trajectories
            .zip(advantages)
            .map(|(it, advantage)| broadcast_to_tokens(&it.trajectory, advantage))
            .collect()
    }

    fn policy_loss(&self, scores: &TokenScores, batch: &PolicyBatch) -> LossOutput {
        let ReinforceConfig { clip, kl_coef, kl_estimator, entropy_coef, .. } = self.config;
        let mask = &batch.loss_mask;
        let log_probs = scores.log_probs.clone();

        let surrogate = clipped_surrogate(
            log_probs.clone(),
            batch.old_log_probs.clone(),
            batch.advantages.clone(),
            mask,
            clip,
        );
        let drift = batch.old_log_probs.clone() - log_probs.clone();
        let mut loss = batch.aggregate(surrogate.loss);
        let mut metrics = vec![
            ("actor/pg_loss", loss.clone().detach()),
            ("actor/pg_clipfrac", batch.token_mean(surrogate.is_clipped.float())),
            ("actor/ppo_kl", batch.token_mean(drift)),
            ("actor/entropy", batch.token_mean(scores.entropy.clone())),
        ];

        if let Some(ref_log_probs) = &batch.ref_log_probs {
            let kl = kl_divergence(log_probs, ref_log_probs.clone(), mask, kl_estimator);
            metrics.push(("actor/kl", batch.token_mean(kl.clone())));
            // Plus: a loss that grows with the distance pulls towards the reference.
            loss = loss + batch.aggregate(kl) * kl_coef;
        }
        if entropy_coef > 0.0 {
            let bonus = entropy_bonus(scores.entropy.clone(), mask);
            loss = loss + batch.aggregate(bonus) * entropy_coef;
        }
        LossOutput { loss, metrics }
    }
}
