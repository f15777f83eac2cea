//! Noise that rises in a straight line.

use crate::config::probability;
use crate::{Curriculum, CurriculumError, Progress};

/// A straight line from `start` to `end`.
///
/// ```text
/// p(i) = start + i/m * (end - start)
/// ```
///
/// - `i`: the step; `m`: steps of the whole run; from `m` on, `p = end`
///
/// `start > end` falls, i.e. goes from hard to easy.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LinearCurriculum {
    start: f64,
    end: f64,
}

impl LinearCurriculum {
    /// A line between two probabilities.
    ///
    /// # Errors
    ///
    /// Fails when one is outside of `[0, 1]`.
    pub fn new(start: f64, end: f64) -> Result<Self, CurriculumError> {
        Ok(Self { start: probability("start", start)?, end: probability("end", end)? })
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
        let curriculum = LinearCurriculum::new(start, end).unwrap();
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
