//! Squared regret, the policy optimisation of Kimi K1.5 and K2.

use serde::{Deserialize, Serialize};
use zs_model::TokenScores;

use super::{
    Advantages, Algorithm, AlgorithmError, Check, KlPlacement, LossOutput, LossTerms, PolicyBatch,
    RolloutBatch,
};
use crate::advantage::{GroupAdvantageOptions, group_relative_advantages};
use crate::loss::{Aggregation, KlEstimator, squared_regret};

/// Settings of [`SquaredRegret`]; the papers publish none of theirs: `tau` is ours.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SquaredRegretConfig {
    /// The price of moving away from the policy that sampled.
    pub tau: f64,
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

impl Default for SquaredRegretConfig {
    fn default() -> Self {
        Self {
            tau: 0.1,
            kl_coef: 0.0,
            kl_estimator: KlEstimator::LowVarKl,
            kl_placement: KlPlacement::Loss,
            entropy_coef: 0.0,
            aggregation: Aggregation::SequenceMeanTokenSum,
        }
    }
}

/// Squared regret of a relative-entropy problem (online mirror descent).
///
/// ```text
/// L   = 1/B sum_i (r_i - mean(r_G) - tau l_i)^2
/// l_i = sum_t (log p_it - log p_it(when sampled))
/// ```
///
/// - `r_G`: the returns of the trajectories of one question; `B`: episodes of the mini-batch
/// - `tau`: the price of moving away from the policy that sampled
///
/// There is no clip: the square itself pulls an episode back once its log-ratio exceeds
/// `(r_i - mean(r_G)) / tau`. `aggregation` scales the loss of each episode; `token_mean` and the
/// default `sequence_mean_token_sum` differ by the mean length only.
///
/// # Differences
///
/// - A group of one has no mean to differ from: its advantage is 0. (Elsewhere here it keeps its raw
///   return.)
/// - K1.5 writes the same gradient divided by `2 tau`.
///
/// # References
///
/// - [Kimi K1.5](https://arxiv.org/abs/2501.12599), section 2.3.2;
///   [Kimi K2](https://arxiv.org/abs/2507.20534), section 3.2
#[derive(Clone, Debug)]
pub struct SquaredRegret {
    config: SquaredRegretConfig,
}

impl SquaredRegret {
    /// The algorithm with these settings.
    ///
    /// # Errors
    ///
    /// Fails on a setting out of range.
    pub fn new(config: &SquaredRegretConfig) -> Result<Self, AlgorithmError> {
        let check = Check("squared_regret");
        check.positive("tau", config.tau)?;
        let algorithm = Self { config: config.clone() };
        check.terms(algorithm.terms())?;
        Ok(algorithm)
    }
}

impl Algorithm for SquaredRegret {
    fn name(&self) -> &'static str {
        "squared_regret"
    }

    fn terms(&self) -> LossTerms {
        let SquaredRegretConfig {
            aggregation,
            kl_coef,
            kl_estimator,
            kl_placement,
            entropy_coef,
            ..
        } = self.config;
        LossTerms { aggregation, kl_coef, kl_estimator, kl_placement, entropy_coef }
    }

    fn advantages(&self, batch: &RolloutBatch<'_>) -> Advantages {
        let options = GroupAdvantageOptions { normalize_std: false, std_epsilon: 0.0 };
        let centred = |returns: &[f32]| match returns {
            [_] => vec![0.0],
            _ => group_relative_advantages(returns, options),
        };
        batch.group_advantages(centred).into()
    }

    fn policy_loss(&self, scores: &TokenScores, batch: &PolicyBatch) -> LossOutput {
        let regret = squared_regret(
            scores.log_probs.clone(),
            batch.old_log_probs.clone(),
            batch.advantages.clone(),
            &batch.loss_mask,
            self.config.tau,
        );
        let loss = batch.aggregate(regret);
        let metrics = vec![("actor/pg_loss", loss.clone().detach())];
        let mut output = LossOutput { loss, metrics };
        self.terms().add_to(&mut output, scores, batch);
        output
    }

    /// Away from the sampling policy an episode without advantage is pulled back.
    fn needs_every_episode(&self) -> bool {
        true
    }

    fn is_linear_in_advantages(&self) -> bool {
        false
    }
}
