//! Policy-optimisation algorithms. One file is one algorithm and reads from top to bottom; what
//! they share is in [`advantage`](crate::advantage), [`loss`](crate::loss) and [`LossTerms`].

mod aipo_style;
mod batch;
mod check;
mod cispo;
mod config;
mod dapo;
mod dr_grpo;
mod gigpo;
mod grpo;
mod gspo;
mod ppo;
mod reinforce;
mod reinforce_plus_plus;
mod rloo;
mod rollout_batch;
mod squared_regret;
mod terms;

use std::fmt::Debug;

use burn::tensor::Tensor;
use zs_model::TokenScores;

pub use self::aipo_style::{AipoStyle, AipoStyleConfig};
pub use self::batch::PolicyBatch;
pub use self::check::AlgorithmError;
pub use self::cispo::{Cispo, CispoConfig};
pub use self::config::AlgorithmConfig;
pub use self::dapo::{Dapo, DapoConfig, DynamicSampling};
pub use self::dr_grpo::{DrGrpo, DrGrpoConfig};
pub use self::gigpo::{Gigpo, GigpoConfig};
pub use self::grpo::{Grpo, GrpoConfig};
pub use self::gspo::{Gspo, GspoConfig};
pub use self::ppo::{Ppo, PpoConfig};
pub use self::reinforce::{Reinforce, ReinforceConfig};
pub use self::reinforce_plus_plus::{
    ReinforcePlusPlus, ReinforcePlusPlusBaseline, ReinforcePlusPlusConfig,
};
pub use self::rloo::{Rloo, RlooConfig};
pub use self::rollout_batch::{Advantages, LearningState, RolloutBatch};
pub use self::squared_regret::{SquaredRegret, SquaredRegretConfig};
pub use self::terms::{KlPlacement, LossTerms};

use self::check::Check;
use crate::loss::Aggregation;

/// Credit assignment and the policy loss.
///
/// Only [`name`](Self::name), [`advantages`](Self::advantages) and
/// [`policy_loss`](Self::policy_loss) must be written. To add one: a file here, a variant of
/// [`AlgorithmConfig`], a line in the tests of this module, a page in `docs/algorithms/`.
///
/// ```
/// use zs_model::TokenScores;
/// use zs_rl::advantage::broadcast_to_tokens;
/// use zs_rl::{Advantages, Algorithm, LossOutput, PolicyBatch, RolloutBatch};
///
/// /// Makes what earned something more likely, and nothing else.
/// #[derive(Debug)]
/// struct Imitation;
///
/// impl Algorithm for Imitation {
///     fn name(&self) -> &'static str {
///         "imitation"
///     }
///
///     fn advantages(&self, batch: &RolloutBatch<'_>) -> Advantages {
///         let earned = |reward: &f32| f32::from(u8::from(*reward > 0.0));
///         let weights: Vec<f32> = batch.returns.iter().map(earned).collect();
///         let rows = batch.trajectories().zip(weights);
///         rows.map(|(it, weight)| broadcast_to_tokens(it, weight)).collect::<Vec<_>>().into()
///     }
///
///     fn policy_loss(&self, scores: &TokenScores, batch: &PolicyBatch) -> LossOutput {
///         let nll = -scores.log_probs.clone() * batch.advantages.clone();
///         let loss = batch.aggregate(nll);
///         LossOutput { metrics: vec![("actor/pg_loss", loss.clone().detach())], loss }
///     }
/// }
///
/// let algorithm: &dyn Algorithm = &Imitation;
/// assert!(!algorithm.needs_reference());
/// ```
pub trait Algorithm: Debug + Send + Sync {
    /// The name in configs, e.g. `"grpo"`.
    fn name(&self) -> &'static str;

    /// The advantage of every token of every trajectory, groups in order; no gradient.
    ///
    /// # Shapes
    ///
    /// - output: one row a trajectory, each as long as [`Trajectory::tokens`](crate::Trajectory::tokens);
    ///   ignored where the loss mask is false
    fn advantages(&self, batch: &RolloutBatch<'_>) -> Advantages;

    /// The loss of one micro-batch, weighted so that the losses of all micro-batches of a mini-batch
    /// add up to the mini-batch's loss.
    fn policy_loss(&self, scores: &TokenScores, batch: &PolicyBatch) -> LossOutput;

    /// How token losses are averaged, and what is added to the policy loss: by default the mean over
    /// tokens, and nothing.
    fn terms(&self) -> LossTerms {
        LossTerms::default()
    }

    /// How token losses are averaged over a mini-batch.
    fn aggregation(&self) -> Aggregation {
        self.terms().aggregation
    }

    /// Whether log-probabilities of a reference model are needed.
    fn needs_reference(&self) -> bool {
        self.terms().needs_reference()
    }

    /// Whether an episode whose advantages are all zero still has a gradient, e.g. from a KL or
    /// entropy term. Where it has none, the update leaves the episode out.
    fn needs_every_episode(&self) -> bool {
        self.terms().have_gradient()
    }

    /// Whether tokens that consulted agents wrote carry loss; the policy loss then finds them in
    /// [`PolicyBatch::agent_mask`]. Elsewhere they are context, like observations.
    fn learns_from_agents(&self) -> bool {
        false
    }

    /// How far a value may move from the one that advantages were computed from, where the algorithm
    /// has a value model: it is then asked for [`RolloutBatch::values`] and trained on
    /// [`Advantages::returns`].
    fn value_clip(&self) -> Option<f64> {
        None
    }

    /// Whether the rollout replaces groups that teach nothing.
    fn dynamic_sampling(&self) -> Option<DynamicSampling> {
        None
    }

    /// Whether the loss is proportional to the advantages, so that importance weights may be
    /// multiplied into them.
    fn is_linear_in_advantages(&self) -> bool {
        true
    }
}

/// The loss of one micro-batch and what is logged about it.
#[derive(Debug)]
pub struct LossOutput {
    /// Scalar to minimise, `[1]`. Carries the gradient.
    pub loss: Tensor<1>,
    /// Key and value, e.g. `actor/pg_clipfrac`. Like the loss, the values of the micro-batches of a
    /// mini-batch add up to the mini-batch's value. `[1]`, without gradient; read by the update once
    /// all micro-batches are through, so that an accelerator need not wait.
    pub metrics: Vec<(&'static str, Tensor<1>)>,
}

/// Every `kind` of [`AlgorithmConfig`] whose settings are its own, for suites that all of them pass.
/// (`aipo_style` wraps the settings of `grpo`, and its suite compares it with that.)
#[cfg(test)]
pub(crate) const KINDS: [&str; 11] = [
    "reinforce",
    "reinforce_plus_plus",
    "rloo",
    "grpo",
    "dr_grpo",
    "dapo",
    "gspo",
    "cispo",
    "ppo",
    "gigpo",
    "squared_regret",
];

#[cfg(test)]
#[cfg(feature = "flex")]
mod tests;
