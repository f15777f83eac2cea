//! ZeroSearch's curriculum: noise that rises slowly at first and fast at the end.

use garde::Validate;
use serde::{Deserialize, Serialize};
use zs_core::registry::{Settings, SettingsError, check};

use crate::linear::interpolate;
use crate::{Curriculum, Progress};

/// An exponential curve from `start` to `end`.
///
/// ```text
/// p(i) = start + (base^(i/m) - 1) / (base - 1) * (end - start)
/// ```
///
/// - `i`: the step, counted from 1 by the reference; `m`: steps of the whole run
/// - from `i = m` on, `p = end`; `base = 1` is the limit, a straight line
/// - `base > 1` rises late, `base < 1` early; `start > end` goes from hard to easy
///
/// The reference code always uses 4, whatever its configuration says, and would divide by zero at
/// 1; here the base is honoured and the quotient is computed as
/// `expm1(i/m * ln base) / expm1(ln base)`, which loses no digits near 1.
///
/// # References
///
/// - [ZeroSearch](https://arxiv.org/abs/2505.04588) v3, section 3.4, equation 1
///
/// ```
/// use zs_curriculum::{Curriculum, ExponentialCurriculum, Progress};
///
/// let curriculum = ExponentialCurriculum { start: 0.0, end: 0.5, base: 4.0 };
/// // (4^0.5 - 1) / (4 - 1) * 0.5 = 1/6
/// let p = curriculum.noise_probability(Progress::new(50, 100));
/// assert!((p - 1.0 / 6.0).abs() < 1e-12);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, Validate)]
pub struct ExponentialCurriculum {
    /// Noise probability at the start.
    #[garde(custom(check::fraction))]
    pub start: f64,
    /// Noise probability at the end.
    #[garde(custom(check::fraction))]
    pub end: f64,
    /// Base of the exponential; the paper's 4 by default.
    #[serde(default = "paper_base")]
    #[garde(custom(check::positive))]
    pub base: f64,
}

fn paper_base() -> f64 {
    4.0
}

impl Settings for ExponentialCurriculum {
    const KIND: &'static str = "exponential";

    fn check(&self) -> Result<(), SettingsError> {
        Ok(self.validate()?)
    }
}

impl Curriculum for ExponentialCurriculum {
    fn noise_probability(&self, progress: Progress<'_>) -> f64 {
        let fraction = progress.fraction();
        let log_base = self.base.ln();
        let ramp = if log_base == 0.0 {
            fraction
        } else {
            (fraction * log_base).exp_m1() / log_base.exp_m1()
        };
        interpolate(self.start, self.end, ramp)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(curve: (f64, f64, f64), step: usize, expected: f64, tolerance: f64) {
        let (start, end, base) = curve;
        let curriculum = ExponentialCurriculum { start, end, base };
        let actual = curriculum.noise_probability(Progress::new(step, 203));
        assert!((actual - expected).abs() <= tolerance, "step {step}: {actual} != {expected}");
    }

    #[test]
    fn follows_the_released_schedule() {
        // 0 -> 0.5 over 203 steps, worked from the formula to the digits given.
        let released = (0.0, 0.5, 4.0);
        check(released, 0, 0.0, 0.0);
        check(released, 1, 0.0011, 5e-5);
        check(released, 25, 0.031, 5e-4);
        check(released, 51, 0.069, 5e-4);
        check(released, 101, 0.166, 5e-4);
        check(released, 152, 0.304, 5e-4);
        check(released, 202, 0.4955, 5e-5);
        check(released, 203, 0.5, 0.0);
        check(released, 500, 0.5, 0.0);
    }

    #[test]
    fn a_base_of_one_is_a_straight_line() {
        check((0.0, 1.0, 1.0), 58, 58.0 / 203.0, 1e-15);
        check((0.0, 1.0, 1.0 + 1e-12), 58, 58.0 / 203.0, 1e-9);
        check((0.0, 1.0, 1.0 - 1e-12), 58, 58.0 / 203.0, 1e-9);
    }

    #[test]
    fn may_fall() {
        // 203 * 4/7 = 116 steps: (16^(4/7) - 1) / 15 = 0.258…
        let ramp = (16_f64.powf(4.0 / 7.0) - 1.0) / 15.0;
        check((0.9, 0.1, 16.0), 116, 0.9 - 0.8 * ramp, 1e-12);
        check((0.9, 0.1, 16.0), 203, 0.1, 1e-12);
    }
}
