//! Curricula of `zs`: how likely the simulation LLM is to return noisy documents, as a pure
//! function of training progress.
//!
//! **Invariant:** a curriculum holds no state and draws no random numbers. What it depends on is in
//! [`Progress`], so a resumed run that knows its step and its recorded success rates needs nothing
//! else. Who draws, and for which query, is the rollout's business.
//!
//! ```
//! use zs_curriculum::{CurriculumConfig, Progress};
//!
//! // The schedule of ZeroSearch's README for Qwen2.5-3B-Instruct: 0 to 0.5 over 203 steps.
//! let config = CurriculumConfig::Exponential { start: 0.0, end: 0.5, base: 4.0 };
//! let curriculum = config.build()?;
//! let p = curriculum.noise_probability(Progress::new(101, 203));
//! assert!((p - 0.166).abs() < 5e-4);
//! # Ok::<(), zs_curriculum::CurriculumError>(())
//! ```

mod config;
mod constant;
mod exponential;
mod feedback;
mod linear;
mod per_turn;
mod piecewise;
mod reverse;
mod step;

use std::fmt::Debug;

pub use config::{CurriculumConfig, CurriculumError};
pub use constant::ConstantCurriculum;
pub use exponential::ExponentialCurriculum;
pub use feedback::{FeedbackConfig, FeedbackCurriculum};
pub use linear::LinearCurriculum;
pub use per_turn::PerTurnCurriculum;
pub use piecewise::{PiecewiseCurriculum, Point};
pub use reverse::ReverseCurriculum;
pub use step::{Stage, StepCurriculum};

/// Decides how often the simulation LLM returns noisy documents.
///
/// # Implementing
///
/// Return a number in `[0, 1]` for every progress, also before the first and after the last step,
/// and the same number for the same progress. Adding one takes a file here, a variant of
/// [`CurriculumConfig`] and a line in the property tests of that enum.
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
}

/// A point in training, and all that a curriculum may know of it.
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

    /// The same step with what earlier ones came to.
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
