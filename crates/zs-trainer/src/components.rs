//! Everything that run files choose by name: what is built in, and what a program adds.

use anyhow::Result;
use zs_core::registry::{Registry, RegistryError, Settings};
use zs_curriculum::{Curriculum, CurriculumRegistry};
use zs_rl::algorithm::AlgorithmRegistry;
use zs_rl::reward::RewardRegistry;
use zs_rl::{Algorithm, GroupReward, RetrievalReward, Reward};

use crate::callback::Callback;
use crate::files::RunDir;

/// Trackers by name; each is given the directory of its run.
pub type TrackerRegistry = Registry<Box<dyn Callback>, RunDir>;

/// Registries of a program.
///
/// ```
/// use serde::{Deserialize, Serialize};
/// use zs_core::registry::{Settings, Spec};
/// use zs_curriculum::{Curriculum, Progress};
/// use zs_trainer::Components;
///
/// /// Noisy documents in the second half only.
/// #[derive(Debug, Serialize, Deserialize)]
/// struct SecondHalf {
///     probability: f64,
/// }
///
/// impl Settings for SecondHalf {
///     const KIND: &'static str = "second_half";
/// }
///
/// impl Curriculum for SecondHalf {
///     fn noise_probability(&self, progress: Progress<'_>) -> f64 {
///         if progress.fraction() < 0.5 { 0.0 } else { self.probability }
///     }
/// }
///
/// let mut components = Components::built_in();
/// components.curriculum::<SecondHalf>()?;
/// let spec = Spec::named("second_half").with("probability", 0.5);
/// let curriculum = components.curricula.build(&spec, &())?;
/// assert_eq!(curriculum.noise_probability(Progress::new(9, 10)), 0.5);
/// # Ok::<(), zs_core::registry::RegistryError>(())
/// ```
#[derive(Debug)]
pub struct Components {
    /// Credit assignment and losses.
    pub algorithms: AlgorithmRegistry,
    /// Rewards of episodes.
    pub rewards: RewardRegistry,
    /// Schedules of noisy documents.
    pub curricula: CurriculumRegistry,
    /// Callbacks that run files name.
    pub trackers: TrackerRegistry,
}

impl Components {
    /// Creates registries of the built-in components.
    #[must_use]
    pub fn built_in() -> Self {
        Self {
            algorithms: zs_rl::algorithm::builtin(),
            rewards: zs_rl::reward::builtin(),
            curricula: zs_curriculum::builtin(),
            trackers: Registry::new("tracker"),
        }
    }

    /// Registers an algorithm whose struct is its settings.
    ///
    /// # Errors
    ///
    /// Fails where its name is taken.
    pub fn algorithm<A: Algorithm + Settings>(&mut self) -> Result<(), RegistryError> {
        self.algorithms.register(|it: A, (): &(), _| Ok(Box::new(it) as _))
    }

    /// Registers a reward whose struct is its settings.
    ///
    /// # Errors
    ///
    /// Fails where its name is taken.
    pub fn reward<R: Reward + Settings>(&mut self) -> Result<(), RegistryError> {
        zs_rl::reward::register_reward::<R>(&mut self.rewards)
    }

    /// Registers a reward that reads documents, whose struct is its settings.
    ///
    /// # Errors
    ///
    /// Fails where its name is taken.
    pub fn retrieval_reward<R: RetrievalReward + Settings>(&mut self) -> Result<(), RegistryError> {
        zs_rl::reward::register_retrieval_reward::<R>(&mut self.rewards)
    }

    /// Registers a reward that compares the episodes of a question, whose struct is its settings.
    ///
    /// # Errors
    ///
    /// Fails where its name is taken.
    pub fn group_reward<R: GroupReward + Settings>(&mut self) -> Result<(), RegistryError> {
        zs_rl::reward::register_group_reward::<R>(&mut self.rewards)
    }

    /// Registers a curriculum whose struct is its settings.
    ///
    /// # Errors
    ///
    /// Fails where its name is taken.
    pub fn curriculum<C: Curriculum + Settings>(&mut self) -> Result<(), RegistryError> {
        self.curricula.register(|it: C, (): &(), _| Ok(Box::new(it) as _))
    }
}
