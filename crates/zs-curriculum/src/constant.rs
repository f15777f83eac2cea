//! The same noise throughout.

use crate::config::probability;
use crate::{Curriculum, CurriculumError, Progress};

/// The same noise probability at every step.
///
/// With 0.5 this is the "Random" row of ZeroSearch's curriculum ablation; with 0 the simulation
/// LLM is always asked for useful documents.
///
/// # References
///
/// - [ZeroSearch](https://arxiv.org/abs/2505.04588) v3, table 6
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ConstantCurriculum {
    probability: f64,
}

impl ConstantCurriculum {
    /// A curriculum that always returns `probability`.
    ///
    /// # Errors
    ///
    /// Fails when it is outside of `[0, 1]`.
    pub fn new(value: f64) -> Result<Self, CurriculumError> {
        Ok(Self { probability: probability("probability", value)? })
    }
}

impl Curriculum for ConstantCurriculum {
    fn noise_probability(&self, _: Progress<'_>) -> f64 {
        self.probability
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn never_moves() {
        let curriculum = ConstantCurriculum::new(0.5).unwrap();
        for step in [0, 1, 10, 99] {
            assert_eq!(curriculum.noise_probability(Progress::new(step, 10)), 0.5);
        }
        assert!(ConstantCurriculum::new(f64::NAN).is_err());
    }
}
