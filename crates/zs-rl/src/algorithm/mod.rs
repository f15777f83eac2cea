//! Policy-optimisation algorithms. One file is one algorithm and reads from top to bottom; what
//! they share is in [`advantage`](crate::advantage) and [`loss`](crate::loss).

mod aipo_style;
mod batch;
mod grpo;
mod reinforce;

use std::fmt::Debug;

use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};
use zs_model::TokenScores;

pub use self::aipo_style::{AipoStyle, AipoStyleConfig};
pub use self::batch::PolicyBatch;
pub use self::grpo::{Grpo, GrpoConfig};
pub use self::reinforce::{Reinforce, ReinforceConfig};

use crate::TrajectoryGroup;
use crate::loss::{Aggregation, ClipOptions};

/// Credit assignment and the policy loss.
///
/// To add one: a file here, a variant of [`AlgorithmConfig`], a page in `docs/algorithms/`.
pub trait Algorithm: Debug + Send + Sync {
    /// The name in configs, e.g. `"grpo"`.
    fn name(&self) -> &'static str;

    /// How token losses are averaged over a mini-batch.
    fn aggregation(&self) -> Aggregation;

    /// Whether the loss needs [`PolicyBatch::ref_log_probs`].
    fn needs_reference(&self) -> bool;

    /// Whether an episode whose advantages are all zero still has a gradient, e.g. from a KL or
    /// entropy term. Where it has none, the update leaves the episode out.
    fn needs_every_episode(&self) -> bool;

    /// Whether tokens that consulted agents wrote carry loss; the policy loss then finds them in
    /// [`PolicyBatch::agent_mask`]. Elsewhere they are context, like observations.
    fn learns_from_agents(&self) -> bool {
        false
    }

    /// The advantage of every token of every trajectory, groups in order; no gradient.
    ///
    /// # Shapes
    ///
    /// - output: one row a trajectory, each as long as [`Trajectory::tokens`](crate::Trajectory::tokens);
    ///   ignored where the loss mask is false
    fn advantages(&self, groups: &[TrajectoryGroup]) -> Vec<Vec<f32>>;

    /// The loss of one micro-batch, weighted so that the losses of all micro-batches of a mini-batch
    /// add up to the mini-batch's loss.
    fn policy_loss(&self, scores: &TokenScores, batch: &PolicyBatch) -> LossOutput;
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

/// Which algorithm to use, and its settings.
///
/// ```
/// use zs_rl::AlgorithmConfig;
///
/// let json = r#"{"kind":"grpo","kl_coef":0.0,"clip":{"high":0.28}}"#;
/// let config: AlgorithmConfig = serde_json::from_str(json).unwrap();
/// assert_eq!(config.build().unwrap().name(), "grpo");
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum AlgorithmConfig {
    /// [`Reinforce`].
    Reinforce(ReinforceConfig),
    /// [`Grpo`].
    Grpo(GrpoConfig),
    /// [`AipoStyle`].
    AipoStyle(AipoStyleConfig),
}

/// The paper's default algorithm.
impl Default for AlgorithmConfig {
    fn default() -> Self {
        Self::Reinforce(ReinforceConfig::default())
    }
}

/// A setting that no algorithm can work with.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("`{field}` of algorithm `{algorithm}` is {value}; it must {requirement}")]
pub struct AlgorithmError {
    /// The algorithm.
    pub algorithm: &'static str,
    /// The setting.
    pub field: &'static str,
    /// Its value.
    pub value: f64,
    /// What it must be.
    pub requirement: &'static str,
}

impl AlgorithmConfig {
    /// The algorithm that this describes.
    ///
    /// # Errors
    ///
    /// Fails on a setting out of range.
    pub fn build(&self) -> Result<Box<dyn Algorithm>, AlgorithmError> {
        Ok(match self {
            Self::Reinforce(config) => Box::new(Reinforce::new(config)?),
            Self::Grpo(config) => Box::new(Grpo::new(config)?),
            Self::AipoStyle(config) => Box::new(AipoStyle::new(config)?),
        })
    }
}

/// Checks the settings of one algorithm.
#[derive(Clone, Copy)]
struct Check(&'static str);

impl Check {
    fn that(
        self,
        holds: bool,
        field: &'static str,
        value: f64,
        requirement: &'static str,
    ) -> Result<(), AlgorithmError> {
        let error = AlgorithmError { algorithm: self.0, field, value, requirement };
        if holds { Ok(()) } else { Err(error) }
    }

    fn coefficient(self, field: &'static str, value: f64) -> Result<(), AlgorithmError> {
        let holds = value.is_finite() && value >= 0.0;
        self.that(holds, field, value, "be finite and not negative")
    }

    fn clip(self, clip: ClipOptions) -> Result<(), AlgorithmError> {
        let ClipOptions { low, high, dual } = clip;
        self.that((0.0..=1.0).contains(&low), "clip.low", low, "lie in [0, 1]")?;
        self.coefficient("clip.high", high)?;
        let dual = dual.unwrap_or(f64::MAX);
        self.that(dual > 1.0 && dual.is_finite(), "clip.dual", dual, "be finite and above 1")
    }
}

#[cfg(test)]
#[cfg(feature = "flex")]
mod tests;
