//! Policy-optimisation algorithms. One file is one algorithm and reads from top to bottom; shared
//! parts are in [`advantage`](crate::advantage), [`loss`](crate::loss) and [`LossTerms`].

mod aipo_style;
mod batch;
mod branched;
mod branching;
mod cispo;
mod clip_cov;
mod dapo;
mod dppo;
mod dr_grpo;
mod gdpo;
mod gigpo;
mod gmpo;
mod gpg;
mod grpo;
mod gspo;
mod lite_ppo;
mod max_rl;
mod opo;
mod pass_at_k;
mod ppo;
mod raft_plus_plus;
mod reinforce;
mod reinforce_plus_plus;
mod requirements;
mod rloo;
mod rollout_batch;
mod sapo;
mod squared_regret;
mod terms;
mod topr;

use std::fmt::Debug;

use burn::tensor::Tensor;
use zs_core::registry::{Registry, RegistryError, Settings};
use zs_model::TokenScores;

pub use self::aipo_style::AipoStyle;
pub use self::batch::{PolicyBatch, SurrogateFunction};
pub use self::branched::Branched;
pub use self::branching::Branching;
pub use self::cispo::Cispo;
pub use self::clip_cov::ClipCov;
pub use self::dapo::Dapo;
pub use self::dppo::{BinaryDivergence, Dppo};
pub use self::dr_grpo::DrGrpo;
pub use self::gdpo::Gdpo;
pub use self::gigpo::Gigpo;
pub use self::gmpo::Gmpo;
pub use self::gpg::Gpg;
pub use self::grpo::Grpo;
pub use self::gspo::Gspo;
pub use self::lite_ppo::LitePpo;
pub use self::max_rl::MaxRl;
pub use self::opo::Opo;
pub use self::pass_at_k::PassAtK;
pub use self::ppo::Ppo;
pub use self::raft_plus_plus::RaftPlusPlus;
pub use self::reinforce::Reinforce;
pub use self::reinforce_plus_plus::{ReinforcePlusPlus, ReinforcePlusPlusBaseline};
pub use self::requirements::{DynamicSampling, Requirements};
pub use self::rloo::Rloo;
pub use self::rollout_batch::{Advantages, LearningState, RolloutBatch};
pub use self::sapo::Sapo;
pub use self::squared_regret::SquaredRegret;
pub use self::terms::{KlPlacement, LossTerms};
pub use self::topr::Topr;

use crate::loss::{ClipOptions, clipped_surrogate};

/// Registry of algorithms.
pub type AlgorithmRegistry = Registry<Box<dyn Algorithm>>;

/// Registers the built-in algorithms.
///
/// # Errors
///
/// Fails where one of their names is taken.
pub fn register_algorithms(registry: &mut AlgorithmRegistry) -> Result<(), RegistryError> {
    register_algorithm::<AipoStyle>(registry)?;
    register_algorithm::<Branched>(registry)?;
    register_algorithm::<Cispo>(registry)?;
    register_algorithm::<ClipCov>(registry)?;
    register_algorithm::<Dapo>(registry)?;
    register_algorithm::<Dppo>(registry)?;
    register_algorithm::<DrGrpo>(registry)?;
    register_algorithm::<Gdpo>(registry)?;
    register_algorithm::<Gigpo>(registry)?;
    register_algorithm::<Gmpo>(registry)?;
    register_algorithm::<Gpg>(registry)?;
    register_algorithm::<Grpo>(registry)?;
    register_algorithm::<Gspo>(registry)?;
    register_algorithm::<LitePpo>(registry)?;
    register_algorithm::<MaxRl>(registry)?;
    register_algorithm::<Opo>(registry)?;
    register_algorithm::<PassAtK>(registry)?;
    register_algorithm::<Ppo>(registry)?;
    register_algorithm::<RaftPlusPlus>(registry)?;
    register_algorithm::<Reinforce>(registry)?;
    register_algorithm::<ReinforcePlusPlus>(registry)?;
    register_algorithm::<Rloo>(registry)?;
    register_algorithm::<Sapo>(registry)?;
    register_algorithm::<SquaredRegret>(registry)?;
    register_algorithm::<Topr>(registry)
}

/// Registers an algorithm whose struct is its settings.
///
/// # Errors
///
/// Fails where its name is taken.
pub fn register_algorithm<A: Algorithm + Settings>(
    registry: &mut AlgorithmRegistry,
) -> Result<(), RegistryError> {
    registry.register(|it: A, (): &(), _| Ok(Box::new(it)))
}

/// Creates a registry of the built-in algorithms.
///
/// ```
/// use zs_core::registry::Spec;
///
/// let json = r#"{"kind":"grpo","kl_coef":0.0,"clip":{"high":0.28}}"#;
/// let spec: Spec = serde_json::from_str(json)?;
/// let algorithm = zs_rl::algorithm::builtin().build(&spec, &())?;
/// assert_eq!(algorithm.name(), "grpo");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[must_use]
pub fn builtin() -> AlgorithmRegistry {
    let mut registry = Registry::new("algorithm");
    let registered = register_algorithms(&mut registry);
    debug_assert!(registered.is_ok(), "an empty registry has no name taken");
    registry
}

/// Credit assignment and the policy loss.
///
/// Only [`name`](Self::name) and [`advantages`](Self::advantages) must be written: the loss of those
/// that write no other is the clipped surrogate. A type that is also its
/// [`Settings`] is chosen by name after one line of registration.
///
/// ```
/// use zs_model::TokenScores;
/// use zs_rl::{Advantages, Algorithm, LossOutput, PolicyBatch, RolloutBatch};
///
/// /// Makes rewarded episodes more likely, and leaves the others alone.
/// #[derive(Debug)]
/// struct Imitation;
///
/// impl Algorithm for Imitation {
///     fn name(&self) -> &'static str {
///         "imitation"
///     }
///
///     fn advantages(&self, batch: &RolloutBatch<'_>) -> Advantages {
///         let is_rewarded = |it: &f32| f32::from(u8::from(*it > 0.0));
///         let weights: Vec<f32> = batch.returns.iter().map(is_rewarded).collect();
///         batch.broadcast(&weights).into()
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
/// assert!(!algorithm.requirements().needs_reference);
/// ```
pub trait Algorithm: Debug + Send + Sync {
    /// Name in run files, metrics and errors, e.g. `"grpo"`.
    fn name(&self) -> &'static str;

    /// Returns the advantage of every token of every trajectory, groups in order; no gradient.
    ///
    /// # Shapes
    ///
    /// - output: one row a trajectory, each as long as [`Trajectory::tokens`](crate::Trajectory::tokens);
    ///   ignored where the loss mask is false
    fn advantages(&self, batch: &RolloutBatch<'_>) -> Advantages;

    /// Facts that an update acts on; by default the mean over tokens and no additional term.
    fn requirements(&self) -> Requirements {
        Requirements::default()
    }

    /// Returns the loss of one micro-batch, weighted so that the losses of all micro-batches of a
    /// mini-batch add up to the mini-batch's loss; by default the clipped surrogate with the
    /// [`clip`](Requirements::clip) and the [`terms`](Requirements::terms) of the requirements.
    fn policy_loss(&self, scores: &TokenScores, batch: &PolicyBatch) -> LossOutput {
        let Requirements { clip, terms, .. } = self.requirements();
        terms.policy_loss(batch.surrogate(clipped_surrogate, scores, clip), scores, batch)
    }
}

/// Check of clip options of losses that have no dual clip.
fn without_dual(clip: &ClipOptions, (): &()) -> garde::Result {
    match clip.dual {
        None => Ok(()),
        Some(_) => Err(garde::Error::new("be given without `dual`: this loss has no dual clip")),
    }
}

/// Loss of one micro-batch, with its metrics.
#[derive(Debug)]
pub struct LossOutput {
    /// Scalar to minimise, `[1]`. Carries the gradient.
    pub loss: Tensor<1>,
    /// Key and value, e.g. `actor/pg_clipfrac`. Like the loss, the values of the micro-batches of a
    /// mini-batch add up to the mini-batch's value. `[1]`, without gradient; read by the update once
    /// all micro-batches are through, so that an accelerator need not wait.
    pub metrics: Vec<(&'static str, Tensor<1>)>,
}

/// Builds a built-in algorithm from JSON, for tests.
#[cfg(test)]
pub(crate) fn from_json(json: &str) -> Result<Box<dyn Algorithm>, RegistryError> {
    builtin().build(&serde_json::from_str(json).unwrap(), &())
}

/// Names of the algorithms whose loss terms are settings of their own, for suites that set them.
/// (`aipo_style` wraps the settings of `grpo`; its suite compares it with that.)
#[cfg(test)]
pub(crate) fn kinds() -> impl Iterator<Item = &'static str> {
    builtin().kinds().filter(|it| *it != AipoStyle::KIND).collect::<Vec<_>>().into_iter()
}

#[cfg(test)]
#[cfg(feature = "flex")]
mod tabular_tests;
#[cfg(test)]
#[cfg(feature = "flex")]
mod tests;
#[cfg(test)]
#[cfg(feature = "flex")]
mod verl_tests;
