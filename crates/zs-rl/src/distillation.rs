//! On-policy distillation: a teacher's log-probabilities of the policy's own tokens as a learning signal.

use serde::{Deserialize, Serialize};

use crate::loss::KlEstimator;

/// On-policy distillation, alone or beside a reward, with any algorithm.
///
/// ```text
/// d_it = log p_it - log q_it
/// A_it <- reward_coef A_it - kl_coef KL_it                        kl_placement = advantage
/// r_it <- reward_coef r_it - kl_coef KL_it                        kl_placement = reward
/// L    <- L(reward_coef A) + kl_coef agg_it[ KL_it ]              kl_placement = loss
/// ```
///
/// - `p_it`: probability of token `t` of episode `i` under the policy: when it was sampled, or now where
///   the divergence is in the loss
/// - `q_it`: its probability under the teacher, given the same tokens before it
/// - `KL_it`: the estimate of the divergence KL(p ‖ q) from `d_it`; 0 on tokens that the policy did not
///   write, and in episodes that are not distilled
/// - `A_it`: advantage of the algorithm; `r_it`: reward of the token; `agg`: the algorithm's average
///
/// In the advantage, each token pays for its own divergence only (discount 0), and the expected gradient
/// is that of the summed divergences of single tokens. In the reward, the algorithm's own credit
/// assignment (group, discount, value model) applies to the divergence too. In the loss, the estimator
/// is differentiated, so its gradient matters: `k2` and `k1+` have that of the divergence.
///
/// `reward_coef = 0` distils alone: rewards are computed and logged, and nothing is learned from them.
/// The selective form is `kl_placement = "reward"` with `episodes = "wrong"` and the reward
/// `exact_match`: an episode is worth 1 if its answer is right, and `-kl_coef * sum_t KL_it` if not.
///
/// # Differences
///
/// - One sampled token estimates the divergence of its position. The exact form over the vocabulary
///   needs all logits of both models, which a server does not send.
/// - DGPO adds the divergence to the reward of each token in PPO; here the same happens in any
///   algorithm, and those that compare episodes see the sum.
///
/// # References
///
/// - [Thinking Machines, On-Policy Distillation](https://thinkingmachines.ai/blog/on-policy-distillation/):
///   the reverse divergence as advantage, discount 0
/// - [GKD](https://arxiv.org/abs/2306.13649) and [MiniLLM](https://arxiv.org/abs/2306.08543): distillation
///   on the student's own samples
/// - [DGPO](https://arxiv.org/abs/2508.20324): the selective form, `kl_coef` 0.001
///
/// ```
/// use zs_rl::{DistillationConfig, DistillationPlacement};
///
/// let config: DistillationConfig = serde_json::from_str(r#"{"reward_coef": 0.0}"#)?;
/// assert_eq!(config.kl_placement, DistillationPlacement::Advantage);
/// assert_eq!(config.kl_coef, 1.0);
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DistillationConfig {
    /// Weight of the divergence from the teacher; 0 measures it and learns nothing from it.
    pub kl_coef: f64,
    /// Estimator of the divergence.
    pub kl_estimator: KlEstimator,
    /// Place at which the divergence enters.
    pub kl_placement: DistillationPlacement,
    /// Episodes that are distilled.
    pub episodes: DistilledEpisodes,
    /// Weight of the reward; 0 distils alone.
    pub reward_coef: f64,
}

/// The recipe of Thinking Machines, beside whatever reward the run has. The estimator has the value of
/// `k1` and the gradient of `k2`, so it is right in every place.
impl Default for DistillationConfig {
    fn default() -> Self {
        Self {
            kl_coef: 1.0,
            kl_estimator: KlEstimator::K1Plus,
            kl_placement: DistillationPlacement::default(),
            episodes: DistilledEpisodes::default(),
            reward_coef: 1.0,
        }
    }
}

/// Place at which the divergence from the teacher enters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DistillationPlacement {
    /// Subtracted from the advantage of each token, after the algorithm has computed it.
    #[default]
    Advantage,
    /// Subtracted from the reward of each token, before advantages are computed from it.
    Reward,
    /// Added to the loss of each token.
    Loss,
}

/// Episodes that are distilled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DistilledEpisodes {
    /// Every episode.
    #[default]
    All,
    /// Episodes whose answer equals no golden answer, those without an answer included.
    Wrong,
}

/// Source of a teacher's log-probabilities.
#[derive(Debug)]
pub enum Teacher<'a, M> {
    /// A model with the policy's vocabulary, a sampling copy; it scores the batch in the update.
    Model(&'a M),
    /// Log-probabilities that were computed elsewhere: one row a trajectory, groups in order, one number
    /// a token; numbers of tokens that the policy did not write are ignored.
    LogProbs(&'a [Vec<f32>]),
}

impl DistillationConfig {
    /// Returns true if the reward takes no part in learning.
    #[must_use]
    pub fn is_alone(&self) -> bool {
        self.reward_coef == 0.0
    }

    /// Returns true if the divergence is a term of the loss.
    #[must_use]
    pub fn is_in_loss(&self) -> bool {
        self.kl_coef > 0.0 && self.kl_placement == DistillationPlacement::Loss
    }
}
