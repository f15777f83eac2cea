//! Squared regret, the policy optimisation of Kimi K1.5 and K2.

use garde::Validate;
use serde::{Deserialize, Serialize};
use zs_core::registry::{Settings, check};
use zs_model::TokenScores;

use super::{
    Advantages, Algorithm, LossOutput, LossTerms, PolicyBatch, Requirements, RolloutBatch,
};
use crate::advantage::{GroupAdvantageOptions, group_relative_advantages};
use crate::loss::{Aggregation, squared_regret};

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
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Validate)]
#[serde(default)]
pub struct SquaredRegret {
    /// The price of moving away from the policy that sampled.
    #[garde(custom(check::positive))]
    pub tau: f64,
    /// Average over tokens, and the terms that are added to the loss.
    #[serde(flatten)]
    #[garde(dive)]
    pub terms: LossTerms,
}

/// Settings of ours where the papers publish none: `tau`.
impl Default for SquaredRegret {
    fn default() -> Self {
        Self {
            tau: 0.1,
            terms: LossTerms {
                aggregation: Aggregation::SequenceMeanTokenSum,
                ..LossTerms::default()
            },
        }
    }
}

zs_core::settings!(SquaredRegret, "squared_regret");

impl Algorithm for SquaredRegret {
    fn name(&self) -> &'static str {
        Self::KIND
    }

    fn requirements(&self) -> Requirements {
        // An episode without advantage is pulled back too, away from the sampling policy.
        Requirements {
            needs_every_episode: true,
            is_linear_in_advantages: false,
            ..self.terms.into()
        }
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
            self.tau,
        );
        let loss = batch.aggregate(regret);
        let metrics = vec![("actor/pg_loss", loss.clone().detach())];
        let mut output = LossOutput { loss, metrics };
        self.terms.add_to(&mut output, scores, batch);
        output
    }
}
