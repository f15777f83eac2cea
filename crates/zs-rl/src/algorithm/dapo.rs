//! Decoupled Clip and Dynamic sAmpling Policy Optimization.

use garde::Validate;
use serde::{Deserialize, Serialize};
use zs_core::registry::{Settings, check};

use super::{Advantages, Algorithm, DynamicSampling, LossTerms, Requirements, RolloutBatch};
use crate::advantage::{
    GroupAdvantageOptions, OverlongPunishment, group_relative_advantages, overlong_punishment,
};
use crate::loss::ClipOptions;

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
/// Four changes to GRPO: a higher upper bound, so that unlikely tokens can grow; zero-variance
/// groups are dropped and others sampled in their place; every token counts the same; and the
/// penalty on length rises gradually.
///
/// # Differences
///
/// - Groups are replaced a bounded number of times; the paper samples until the batch is full.
/// - The paper drops groups that are all right or all wrong; rewards here are not binary, so groups
///   whose rewards are all equal are dropped. Shaping comes after that choice.
/// - The overlong penalty counts tokens that the policy wrote: observations are not its choice.
///
/// # References
///
/// - [DAPO](https://arxiv.org/abs/2503.14476), section 3, equations 8 to 13
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Validate)]
#[serde(default)]
pub struct Dapo {
    /// Replacement of zero-variance groups.
    #[garde(skip)]
    pub dynamic_sampling: DynamicSampling,
    /// Penalty of overlong episodes; none by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[garde(dive)]
    pub overlong: Option<OverlongPunishment>,
    /// Keeps the standard deviation away from zero.
    #[garde(custom(check::non_negative))]
    pub std_epsilon: f64,
    /// Bounds of the probability ratio.
    #[garde(dive)]
    pub clip: ClipOptions,
    /// Average over tokens, and the terms that are added to the loss.
    #[serde(flatten)]
    #[garde(dive)]
    pub terms: LossTerms,
}

/// Defaults of the paper, except for overlong shaping, which depends on the rollout's lengths.
impl Default for Dapo {
    fn default() -> Self {
        Self {
            dynamic_sampling: DynamicSampling::default(),
            overlong: None,
            std_epsilon: 1e-6,
            clip: ClipOptions { low: 0.2, high: 0.28, dual: None },
            terms: LossTerms::default(),
        }
    }
}

zs_core::settings!(Dapo, "dapo");

impl Algorithm for Dapo {
    fn name(&self) -> &'static str {
        Self::KIND
    }

    fn requirements(&self) -> Requirements {
        let is_used = self.dynamic_sampling.max_refills > 0;
        Requirements {
            clip: self.clip,
            dynamic_sampling: is_used.then_some(self.dynamic_sampling),
            ..self.terms.into()
        }
    }

    fn advantages(&self, batch: &RolloutBatch<'_>) -> Advantages {
        let Self { overlong, std_epsilon, .. } = *self;
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
}
