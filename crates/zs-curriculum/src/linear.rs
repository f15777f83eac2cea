//! Noise that rises in a straight line.

use garde::Validate;
use serde::{Deserialize, Serialize};
use zs_core::registry::{Settings, SettingsError, check};

use crate::{Curriculum, Progress};

/// A straight line from `start` to `end`.
///
/// ```text
/// p(i) = start + i/m * (end - start)
/// ```
///
/// - `i`: the step; `m`: steps of the whole run; from `m` on, `p = end`
///
/// `start > end` falls, i.e. goes from hard to easy.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, Validate)]
pub struct LinearCurriculum {
    /// Noise probability at the start.
    #[garde(custom(check::fraction))]
    pub start: f64,
    /// Noise probability at the end.
    #[garde(custom(check::fraction))]
    pub end: f64,
}

impl Settings for LinearCurriculum {
    const KIND: &'static str = "linear";

    fn check(&self) -> Result<(), SettingsError> {
        Ok(self.validate()?)
    }
}

impl Curriculum for LinearCurriculum {
    fn noise_probability(&self, progress: Progress<'_>) -> f64 {
        interpolate(self.start, self.end, progress.fraction())
    }
}

/// `start + ramp * (end - start)`, kept inside `[0, 1]` against rounding.
pub(crate) fn interpolate(start: f64, end: f64, ramp: f64) -> f64 {
    (start + ramp * (end - start)).clamp(0.0, 1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(start: f64, end: f64, step: usize, expected: f64) {
        let curriculum = LinearCurriculum { start, end };
        let actual = curriculum.noise_probability(Progress::new(step, 8));
        assert!((actual - expected).abs() < 1e-12, "step {step}: {actual} != {expected}");
    }

    #[test]
    fn draws_a_line() {
        check(0.0, 0.5, 0, 0.0);
        check(0.0, 0.5, 4, 0.25);
        check(0.0, 0.5, 8, 0.5);
        check(0.0, 0.5, 80, 0.5);
        check(0.75, 0.25, 2, 0.625);
    }
}
