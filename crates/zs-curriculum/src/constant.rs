//! The same noise throughout.

use garde::Validate;
use serde::{Deserialize, Serialize};
use zs_core::registry::{Settings, SettingsError, check};

use crate::{Curriculum, Progress};

/// The same noise probability at every step.
///
/// With 0.5 this is the "Random" row of ZeroSearch's curriculum ablation; with 0 the simulation
/// LLM is always asked for useful documents.
///
/// # References
///
/// - [ZeroSearch](https://arxiv.org/abs/2505.04588) v3, table 6
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, Validate)]
pub struct ConstantCurriculum {
    /// Noise probability.
    #[garde(custom(check::fraction))]
    pub probability: f64,
}

impl Settings for ConstantCurriculum {
    const KIND: &'static str = "constant";

    fn check(&self) -> Result<(), SettingsError> {
        Ok(self.validate()?)
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
        let curriculum = ConstantCurriculum { probability: 0.5 };
        for step in [0, 1, 10, 99] {
            assert_eq!(curriculum.noise_probability(Progress::new(step, 10)), 0.5);
        }
        assert!(ConstantCurriculum { probability: f64::NAN }.check().is_err());
    }
}
