//! Group Relative Policy Optimization with outcome rewards.

use serde::{Deserialize, Serialize};
use zs_model::TokenScores;

use super::{Algorithm, AlgorithmError, Check, LossOutput, PolicyBatch};
use crate::TrajectoryGroup;
use crate::advantage::{GroupAdvantageOptions, broadcast_to_tokens, group_relative_advantages};
use crate::loss::{
    Aggregation, ClipOptions, KlEstimator, clipped_surrogate, entropy_bonus, kl_divergence,
};

/// Settings of [`Grpo`]; the defaults are those of ZeroSearch's reference code (`train_grpo.sh`).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct GrpoConfig {
    /// Whether advantages are divided by the group's standard deviation.
    pub normalize_std: bool,
    /// Keeps the standard deviation away from zero.
    pub std_epsilon: f64,
    /// Bounds of the probability ratio.
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

impl Default for GrpoConfig {
    fn default() -> Self {
        let GroupAdvantageOptions { normalize_std, std_epsilon } = GroupAdvantageOptions::default();
        Self {
            normalize_std,
            std_epsilon,
            clip: ClipOptions::default(),
            kl_coef: 0.001,
            kl_estimator: KlEstimator::LowVarKl,
            entropy_coef: 0.001,
            aggregation: Aggregation::TokenMean,
        }
    }
}

/// Group Relative Policy Optimization.
///
/// ```text
/// A_it = (r_i - mean(r_G)) / (std(r_G) + epsilon)
/// L    = agg_it[ clipped_surrogate(rho_it, A_it) + kl_coef * KL_it - entropy_coef * H_it ]
/// ```
///
/// - `r_G`: the outcome rewards of the trajectories of one question
/// - `rho_it`: probability now over probability when sampled
///
/// # Differences
///
/// - From the paper: token mean instead of the mean of episode means (set `aggregation` to
///   `sequence_mean_token_mean` for the latter), as in verl and ZeroSearch's code; entropy bonus 0.001
///   from that code; the KL estimate is bounded.
/// - From ZeroSearch's code: the KL term is *added*, so that it pulls towards the reference model (it
///   is subtracted there, `dp_actor.py` 271); the mean runs over the whole mini-batch instead of each
///   micro-batch; groups are questions (there, an index that two merged data sets may share).
///
/// # References
///
/// - [DeepSeekMath](https://arxiv.org/abs/2402.03300), section 4.1, equations 3 and 4
/// - [Dr. GRPO](https://arxiv.org/abs/2503.20783): `normalize_std = false` with `fixed_length`
#[derive(Clone, Debug)]
pub struct Grpo {
    config: GrpoConfig,
}

impl Grpo {
    /// The algorithm with these settings.
    ///
    /// # Errors
    ///
    /// Fails on a setting out of range.
    pub fn new(config: &GrpoConfig) -> Result<Self, AlgorithmError> {
        let check = Check("grpo");
        check.coefficient("std_epsilon", config.std_epsilon)?;
        check.clip(config.clip)?;
        check.coefficient("kl_coef", config.kl_coef)?;
        check.coefficient("entropy_coef", config.entropy_coef)?;
        Ok(Self { config: config.clone() })
    }
}

impl Algorithm for Grpo {
    fn name(&self) -> &'static str {
        "grpo"
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
        let GrpoConfig { normalize_std, std_epsilon, .. } = self.config;
        let options = GroupAdvantageOptions { normalize_std, std_epsilon };
        let of_group = |group: &TrajectoryGroup| {
            let advantages = group_relative_advantages(&group.rewards(), options);
            group
                .trajectories
                .iter()
                .zip(advantages)
                .map(|(it, advantage)| broadcast_to_tokens(&it.trajectory, advantage))
                .collect::<Vec<_>>()
        };
        groups.iter().flat_map(of_group).collect()
    }

    fn policy_loss(&self, scores: &TokenScores, batch: &PolicyBatch) -> LossOutput {
        let GrpoConfig { clip, kl_coef, kl_estimator, entropy_coef, .. } = self.config;
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
