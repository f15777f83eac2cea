//! Curricula of `zs`: the probability that the simulation LLM returns noisy documents, as a pure
//! function of training progress.
//!
//! **Invariant:** a curriculum holds no state and draws no random numbers. It depends only on
//! [`Progress`], so a resumed run needs only its step and its recorded success rates. The rollout
//! draws the quality of each query.
//!
//! ```
//! use zs_core::registry::Spec;
//! use zs_curriculum::{Progress, builtin};
//!
//! // The schedule of ZeroSearch's README for Qwen2.5-3B-Instruct: 0 to 0.5 over 203 steps.
//! let spec: Spec = serde_json::from_str(r#"{"kind": "exponential", "start": 0.0, "end": 0.5}"#)?;
//! let curriculum = builtin().build(&spec, &())?;
//! let p = curriculum.noise_probability(Progress::new(101, 203));
//! assert!((p - 0.166).abs() < 5e-4);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod constant;
mod exponential;
mod feedback;
mod linear;
mod per_turn;
mod piecewise;
mod reverse;
mod step;

use std::fmt::Debug;

use zs_core::registry::{Registry, RegistryError, Settings};

pub use constant::ConstantCurriculum;
pub use exponential::ExponentialCurriculum;
pub use feedback::FeedbackCurriculum;
pub use linear::LinearCurriculum;
pub use per_turn::{PerTurn, PerTurnCurriculum};
pub use piecewise::{PiecewiseCurriculum, Point};
pub use reverse::{Reverse, ReverseCurriculum};
pub use step::{Stage, StepCurriculum};

/// Registry of curricula.
pub type CurriculumRegistry = Registry<Box<dyn Curriculum>>;

/// Registers the built-in curricula.
///
/// # Errors
///
/// Fails where one of their names is taken.
pub fn register_curricula(registry: &mut CurriculumRegistry) -> Result<(), RegistryError> {
    register_curriculum::<ConstantCurriculum>(registry)?;
    register_curriculum::<ExponentialCurriculum>(registry)?;
    register_curriculum::<FeedbackCurriculum>(registry)?;
    register_curriculum::<LinearCurriculum>(registry)?;
    register_curriculum::<PiecewiseCurriculum>(registry)?;
    register_curriculum::<StepCurriculum>(registry)?;
    registry.register(|it: PerTurn, (): &(), registry| it.build(registry))?;
    registry.register(|it: Reverse, (): &(), registry| it.build(registry))
}

/// Registers a curriculum whose struct is its settings.
///
/// # Errors
///
/// Fails where its name is taken.
pub fn register_curriculum<C: Curriculum + Settings>(
    registry: &mut CurriculumRegistry,
) -> Result<(), RegistryError> {
    registry.register(|it: C, (): &(), _| Ok(Box::new(it)))
}

/// Creates a registry of the built-in curricula.
#[must_use]
pub fn builtin() -> CurriculumRegistry {
    let mut registry = Registry::new("curriculum");
    let registered = register_curricula(&mut registry);
    debug_assert!(registered.is_ok(), "an empty registry has no name taken");
    registry
}

/// Schedule of the fraction of searches for which the simulation LLM returns noisy documents.
///
/// # Implementing
///
/// Return a number in `[0, 1]` for every progress, also before the first and after the last step,
/// and the same number for the same progress. A type that is also its
/// [`Settings`] is chosen by name after one line of registration.
///
/// ```
/// use zs_curriculum::{Curriculum, Progress};
///
/// /// Noisy documents in the second half only.
/// #[derive(Debug)]
/// struct SecondHalf;
///
/// impl Curriculum for SecondHalf {
///     fn noise_probability(&self, progress: Progress<'_>) -> f64 {
///         if progress.fraction() < 0.5 { 0.0 } else { 0.5 }
///     }
/// }
///
/// assert_eq!(SecondHalf.noise_probability(Progress::new(9, 10)), 0.5);
/// ```
pub trait Curriculum: Debug + Send + Sync {
    /// The probability, in `[0, 1]`, that one search of this step and turn returns noisy documents.
    fn noise_probability(&self, progress: Progress<'_>) -> f64;

    /// Returns true if the probability depends on recorded success rates.
    fn follows_success(&self) -> bool {
        false
    }
}

/// A point in training: all that a curriculum may depend on.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Progress<'a> {
    /// The step being made; the reference counts from 1.
    pub step: usize,
    /// Steps of the whole run.
    pub total_steps: usize,
    /// The turn of the episode in which the search is made, from 0.
    pub turn: u32,
    /// The success rate of each finished step, oldest first, each in `[0, 1]`.
    pub success_rates: &'a [f64],
}

impl<'a> Progress<'a> {
    /// The first turn of a step, before anything was recorded.
    #[must_use]
    pub fn new(step: usize, total_steps: usize) -> Self {
        Self { step, total_steps, turn: 0, success_rates: &[] }
    }

    /// The same step with the success rates of those before.
    #[must_use]
    pub fn after(self, success_rates: &'a [f64]) -> Self {
        Self { success_rates, ..self }
    }

    /// Another turn of the same step.
    #[must_use]
    pub fn at_turn(self, turn: u32) -> Self {
        Self { turn, ..self }
    }

    /// The finished fraction `step / total_steps`, in `[0, 1]`; a run of zero steps is finished.
    #[must_use]
    pub fn fraction(self) -> f64 {
        if self.step >= self.total_steps { 1.0 } else { self.step as f64 / self.total_steps as f64 }
    }
}

#[cfg(test)]
mod registry_tests;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fractions_stay_between_zero_and_one() {
        let cases = [((0, 4), 0.0), ((1, 4), 0.25), ((4, 4), 1.0), ((9, 4), 1.0), ((0, 0), 1.0)];
        for ((step, total_steps), expected) in cases {
            let progress = Progress::new(step, total_steps);
            assert_eq!(progress.fraction(), expected, "{progress:?}");
        }
    }
}
