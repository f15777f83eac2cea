//! Proximal Policy Optimization with a value model.

use garde::Validate;
use serde::{Deserialize, Serialize};
use zs_core::registry::{Settings, check};

use super::{Advantages, Algorithm, KlPlacement, LossTerms, Requirements, RolloutBatch};
use crate::advantage::{GaeOptions, generalized_advantages, whiten};
use crate::loss::{ClipOptions, KlEstimator};

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
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Validate)]
#[serde(default)]
pub struct Ppo {
    /// Discount and bias of the advantage estimator.
    #[garde(dive)]
    pub gae: GaeOptions,
    /// Whitening of advantages over the tokens that the policy wrote.
    #[garde(skip)]
    pub whiten: bool,
    /// Distance that a value may move from the one that advantages were computed from.
    #[garde(custom(check::positive))]
    pub value_clip: f64,
    /// Bounds of the probability ratio.
    #[garde(dive)]
    pub clip: ClipOptions,
    /// Average over tokens, and the terms that are added to the loss.
    #[serde(flatten)]
    #[garde(dive)]
    pub terms: LossTerms,
}

/// Defaults of ZeroSearch's reference code (`train_ppo.sh`).
impl Default for Ppo {
    fn default() -> Self {
        Self {
            gae: GaeOptions::default(),
            whiten: true,
            value_clip: 0.5,
            clip: ClipOptions::default(),
            terms: LossTerms {
                kl_coef: 0.001,
                kl_estimator: KlEstimator::K1,
                kl_placement: KlPlacement::Reward,
                entropy_coef: 0.001,
                ..LossTerms::default()
            },
        }
    }
}

zs_core::settings!(Ppo, "ppo");

impl Algorithm for Ppo {
    fn name(&self) -> &'static str {
        Self::KIND
    }

    fn requirements(&self) -> Requirements {
        Requirements { clip: self.clip, value_clip: Some(self.value_clip), ..self.terms.into() }
    }

    fn advantages(&self, batch: &RolloutBatch<'_>) -> Advantages {
        let masks = batch.loss_masks();
        assert_eq!(batch.values.len(), masks.len(), "PPO needs a value for each token");
        let rows = batch.token_rewards.iter().zip(&batch.values).zip(&masks);
        let estimates = rows.map(|((rewards, values), mask)| {
            generalized_advantages(rewards, values, mask, self.gae)
        });
        let (mut tokens, returns): (Vec<_>, Vec<_>) =
            estimates.map(|it| (it.advantages, it.returns)).unzip();
        if self.whiten {
            whiten(&mut tokens, &masks);
        }
        Advantages { tokens, returns, ..Advantages::default() }
    }
}
