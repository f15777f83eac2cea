//! Facts about an algorithm that an update acts on.

use serde::{Deserialize, Serialize};

use super::{Branching, LossTerms};
use crate::loss::ClipOptions;

/// Facts about an algorithm that an update acts on: models to provide, episodes to keep, terms of
/// the loss.
///
/// Built from [`LossTerms`], which decide whether a reference model is needed; other fields are then
/// replaced where the algorithm differs.
///
/// ```
/// use zs_rl::{LossTerms, Requirements};
///
/// let terms = LossTerms { kl_coef: 0.001, ..LossTerms::default() };
/// let requirements = Requirements { value_clip: Some(0.5), ..terms.into() };
/// assert!(requirements.needs_reference && requirements.needs_every_episode);
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Requirements {
    /// Average over token losses, and terms that are added to the loss.
    pub terms: LossTerms,
    /// Bounds of the importance ratio in the default policy loss.
    pub clip: ClipOptions,
    /// Log-probabilities of a reference model are needed.
    pub needs_reference: bool,
    /// An episode whose advantages are all zero still has a gradient, e.g. from a KL or entropy term.
    /// Otherwise, the update leaves such an episode out.
    pub needs_every_episode: bool,
    /// Tokens of helper models carry loss; the policy loss finds them in
    /// [`PolicyBatch::agent_mask`](super::PolicyBatch::agent_mask). Elsewhere they are context, like
    /// observations.
    pub learns_from_helpers: bool,
    /// Distance that a value may move from the one that advantages were computed from, where the
    /// algorithm has a value model: it then finds [`RolloutBatch::values`](super::RolloutBatch::values)
    /// and returns [`Advantages::returns`](super::Advantages::returns).
    pub value_clip: Option<f64>,
    /// Replacement of zero-variance groups.
    pub dynamic_sampling: Option<DynamicSampling>,
    /// Further continuations of episodes; the algorithm finds them in the groups, after the episodes
    /// ([`Trajectory::branch`](crate::Trajectory::branch)).
    pub branching: Option<Branching>,
    /// The loss is proportional to the advantages, so that importance weights may be multiplied into
    /// them.
    pub is_linear_in_advantages: bool,
}

impl From<LossTerms> for Requirements {
    fn from(terms: LossTerms) -> Self {
        Self {
            terms,
            clip: ClipOptions::default(),
            needs_reference: terms.kl_coef > 0.0,
            needs_every_episode: terms.have_gradient(),
            learns_from_helpers: false,
            value_clip: None,
            dynamic_sampling: None,
            branching: None,
            is_linear_in_advantages: true,
        }
    }
}

impl Default for Requirements {
    fn default() -> Self {
        LossTerms::default().into()
    }
}

/// Replacement of zero-variance groups, whose rewards are all equal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct DynamicSampling {
    /// Rollouts a step, besides the first, that may replace zero-variance groups; groups that are
    /// still missing then stay missing. 0 keeps all groups.
    pub max_refills: usize,
}

impl Default for DynamicSampling {
    fn default() -> Self {
        Self { max_refills: 4 }
    }
}
