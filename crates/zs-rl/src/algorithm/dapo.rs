//! Decoupled Clip and Dynamic sAmpling Policy Optimization.

use serde::{Deserialize, Serialize};
use zs_model::TokenScores;

use super::{
    Advantages, Algorithm, AlgorithmError, Check, KlPlacement, LossOutput, LossTerms, PolicyBatch,
    RolloutBatch,
};
use crate::advantage::{
    GroupAdvantageOptions, OverlongPunishment, group_relative_advantages, overlong_punishment,
};
use crate::loss::{Aggregation, ClipOptions, KlEstimator};

/// Settings of [`Dapo`]; the defaults are those of the paper, overlong shaping apart,
/// which depends on the rollout's lengths.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DapoConfig {
    /// Whether groups that teach nothing are replaced.
    pub dynamic_sampling: DynamicSampling,
    /// What writing too much costs; nothing by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub overlong: Option<OverlongPunishment>,
    /// Keeps the standard deviation away from zero.
    pub std_epsilon: f64,
    /// Bounds of the probability ratio.
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

impl Default for DapoConfig {
    fn default() -> Self {
        Self {
            dynamic_sampling: DynamicSampling::default(),
            overlong: None,
            std_epsilon: 1e-6,
            clip: ClipOptions { low: 0.2, high: 0.28, dual: None },
            kl_coef: 0.0,
            kl_estimator: KlEstimator::LowVarKl,
            kl_placement: KlPlacement::Loss,
            entropy_coef: 0.0,
            aggregation: Aggregation::TokenMean,
        }
    }
}

/// How groups that teach nothing are replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DynamicSampling {
    /// Rollouts a step, besides the first, that may go into replacing groups whose rewards are all
    /// equal; what is still missing then is missing. 0 keeps all groups.
    pub max_refills: usize,
}

impl Default for DynamicSampling {
    fn default() -> Self {
        Self { max_refills: 4 }
    }
}

/// Decoupled Clip and Dynamic sAmpling Policy Optimization.
///
/// ```text
/// A_it = (R_i - mean(R_G)) / (std(R_G) + epsilon)
/// R_i  = r_i + overlong_punishment(n_i)
/// L    = agg_it[ clipped_surrogate(rho_it, A_it) ],   low = 0.2, high = 0.28
/// ```
///
/// - `r_i`: the return of trajectory `i`; `R_G`: the shaped returns of one question
/// - `n_i`: tokens that the policy wrote in it
/// - `rho_it`: probability now over probability when sampled
///
/// Four changes to GRPO: a higher upper bound, so that unlikely tokens can grow; groups without a
/// difference are dropped and others sampled in their place; every token counts the same; and
/// running out of length costs gradually.
///
/// # Differences
///
/// - Groups are replaced a bounded number of times; the paper samples until the batch is full.
/// - The paper drops groups that are all right or all wrong; rewards here are not binary, so groups
///   whose rewards are all equal are dropped. Shaping comes after that choice.
/// - The overlong punishment counts tokens that the policy wrote: observations are not its choice.
///
/// # References
///
/// - [DAPO](https://arxiv.org/abs/2503.14476), section 3, equations 8 to 13
#[derive(Clone, Debug)]
pub struct Dapo {
    config: DapoConfig,
}

impl Dapo {
    /// The algorithm with these settings.
    ///
    /// # Errors
    ///
    /// Fails on a setting out of range.
    pub fn new(config: &DapoConfig) -> Result<Self, AlgorithmError> {
        let check = Check("dapo");
        check.coefficient("std_epsilon", config.std_epsilon)?;
        if let Some(overlong) = config.overlong {
            let max_tokens = overlong.max_tokens as f64;
            check.positive("overlong.max_tokens", max_tokens)?;
            let buffer = overlong.buffer as f64;
            let holds = buffer <= max_tokens;
            check.that(holds, "overlong.buffer", buffer, "be at most `overlong.max_tokens`")?;
            check.coefficient("overlong.weight", overlong.weight)?;
        }
        check.clip(config.clip)?;
        let algorithm = Self { config: config.clone() };
        check.terms(algorithm.terms())?;
        Ok(algorithm)
    }
}

impl Algorithm for Dapo {
    fn name(&self) -> &'static str {
        "dapo"
    }

    fn terms(&self) -> LossTerms {
        let DapoConfig { aggregation, kl_coef, kl_estimator, kl_placement, entropy_coef, .. } =
            self.config;
        LossTerms { aggregation, kl_coef, kl_estimator, kl_placement, entropy_coef }
    }

    fn advantages(&self, batch: &RolloutBatch<'_>) -> Advantages {
        let DapoConfig { overlong, std_epsilon, .. } = self.config;
        let options = GroupAdvantageOptions { normalize_std: true, std_epsilon };
        let Some(overlong) = overlong else {
            let of_group = |returns: &[f32]| group_relative_advantages(returns, options);
            return batch.group_advantages(of_group).into();
        };
        let punishments: Vec<f32> = batch
            .trajectories()
            .map(|it| overlong_punishment(it.num_policy_tokens(), overlong))
            .collect();
        let total: f64 = punishments.iter().map(|it| f64::from(*it)).sum();
        let returns = batch.returns.iter().zip(&punishments).map(|(it, shaping)| it + shaping);
        let shaped = RolloutBatch { returns: returns.collect(), ..batch.clone() };
        let of_group = |returns: &[f32]| group_relative_advantages(returns, options);
        Advantages {
            metrics: vec![("dapo/overlong_punishment", total / punishments.len().max(1) as f64)],
            ..shaped.group_advantages(of_group).into()
        }
    }

    fn policy_loss(&self, scores: &TokenScores, batch: &PolicyBatch) -> LossOutput {
        let surrogate = batch.clipped_surrogate(scores, self.config.clip);
        self.terms().policy_loss(surrogate, scores, batch)
    }

    fn dynamic_sampling(&self) -> Option<DynamicSampling> {
        (self.config.dynamic_sampling.max_refills > 0).then_some(self.config.dynamic_sampling)
    }
}
