//! Proximal Policy Optimization with a value model.

use serde::{Deserialize, Serialize};
use zs_model::TokenScores;

use super::{
    Advantages, Algorithm, AlgorithmError, Check, KlPlacement, LossOutput, LossTerms, PolicyBatch,
    RolloutBatch,
};
use crate::advantage::{GaeOptions, generalized_advantages, whiten};
use crate::loss::{Aggregation, ClipOptions, KlEstimator};

/// Settings of [`Ppo`]; the defaults are those of ZeroSearch's reference code
/// (`train_ppo.sh`).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PpoConfig {
    /// Discount and bias of the advantage estimator.
    pub gae: GaeOptions,
    /// Whether advantages are whitened over the tokens that the policy wrote.
    pub whiten: bool,
    /// How far a value may move from the one that advantages were computed from.
    pub value_clip: f64,
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

impl Default for PpoConfig {
    fn default() -> Self {
        Self {
            gae: GaeOptions::default(),
            whiten: true,
            value_clip: 0.5,
            clip: ClipOptions::default(),
            kl_coef: 0.001,
            kl_estimator: KlEstimator::K1,
            kl_placement: KlPlacement::Reward,
            entropy_coef: 0.001,
            aggregation: Aggregation::TokenMean,
        }
    }
}

/// Proximal Policy Optimization.
///
/// ```text
/// delta_it = r_it + gamma V_it' - V_it
/// A_it     = delta_it + gamma lambda A_it',   then whitened
/// L        = agg_it[ clipped_surrogate(rho_it, A_it) - entropy_coef * H_it ]
/// L_V      = mean_it[ 1/2 max((V_it - G_it)^2, (clip(V_it) - G_it)^2) ],   G_it = A_it + V_it
/// ```
///
/// - `r_it`: the reward of token `t`: the divergence from the reference model everywhere, turn and
///   outcome rewards where they land
/// - `t'`: the next token that the policy wrote; `V`: the value model
/// - `rho_it`: probability now over probability when sampled; `H_it`: entropy
///
/// # Differences
///
/// - From ZeroSearch's code: observations are skipped in the recursion, in whitening and in the value
///   loss; there, they take part in all three.
/// - The value model is the policy's body with a head of its own; there, a second copy of the base
///   model, which is the same at the start.
///
/// # References
///
/// - [PPO](https://arxiv.org/abs/1707.06347); [GAE](https://arxiv.org/abs/1506.02438)
/// - [ZeroSearch](https://arxiv.org/abs/2505.04588), table 5
#[derive(Clone, Debug)]
pub struct Ppo {
    config: PpoConfig,
}

impl Ppo {
    /// The algorithm with these settings.
    ///
    /// # Errors
    ///
    /// Fails on a setting out of range.
    pub fn new(config: &PpoConfig) -> Result<Self, AlgorithmError> {
        let check = Check("ppo");
        check.share("gae.gamma", config.gae.gamma)?;
        check.share("gae.lambda", config.gae.lambda)?;
        check.positive("value_clip", config.value_clip)?;
        check.clip(config.clip)?;
        let algorithm = Self { config: config.clone() };
        check.terms(algorithm.terms())?;
        Ok(algorithm)
    }
}

impl Algorithm for Ppo {
    fn name(&self) -> &'static str {
        "ppo"
    }

    fn terms(&self) -> LossTerms {
        let PpoConfig { aggregation, kl_coef, kl_estimator, kl_placement, entropy_coef, .. } =
            self.config;
        LossTerms { aggregation, kl_coef, kl_estimator, kl_placement, entropy_coef }
    }

    fn advantages(&self, batch: &RolloutBatch<'_>) -> Advantages {
        let masks = batch.loss_masks();
        assert_eq!(batch.values.len(), masks.len(), "PPO needs a value for each token");
        let rows = batch.token_rewards.iter().zip(&batch.values).zip(&masks);
        let estimates = rows.map(|((rewards, values), mask)| {
            generalized_advantages(rewards, values, mask, self.config.gae)
        });
        let (mut tokens, returns): (Vec<_>, Vec<_>) =
            estimates.map(|it| (it.advantages, it.returns)).unzip();
        if self.config.whiten {
            whiten(&mut tokens, &masks);
        }
        Advantages { tokens, returns, ..Advantages::default() }
    }

    fn policy_loss(&self, scores: &TokenScores, batch: &PolicyBatch) -> LossOutput {
        let surrogate = batch.clipped_surrogate(scores, self.config.clip);
        self.terms().policy_loss(surrogate, scores, batch)
    }

    fn value_clip(&self) -> Option<f64> {
        Some(self.config.value_clip)
    }
}
