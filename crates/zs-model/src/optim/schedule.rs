//! Learning-rate schedules after warm-up.

use serde::{Deserialize, Serialize};

/// Factor of the learning rate, a pure function of the step.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind", deny_unknown_fields)]
pub enum Schedule {
    /// Constant 1.
    #[default]
    Constant,
    /// Linear decay from 1 at the end of warm-up to `end` at the last step.
    Linear {
        /// Factor at the last step.
        end: f64,
    },
    /// Cosine decay from 1 to `end`.
    Cosine {
        /// Factor at the last step.
        end: f64,
    },
    /// Constant 1 for the fraction `hold` of the run, then linear decay to `end`.
    Trapezoid {
        /// Fraction of the run without decay.
        hold: f64,
        /// Factor at the last step.
        end: f64,
    },
}

impl Schedule {
    /// Factor at `step` of `total_steps`, of which `warmup_steps` are warm-up.
    ///
    /// ```text
    /// x      = clamp((step - warmup) / (total - warmup), 0, 1)
    /// linear = 1 - (1 - end) x
    /// cosine = end + (1 - end) (1 + cos(pi x)) / 2
    /// ```
    #[must_use]
    pub fn factor(self, step: usize, warmup_steps: usize, total_steps: usize) -> f64 {
        let span = total_steps.saturating_sub(warmup_steps);
        if span == 0 {
            return 1.0;
        }
        let x = (step.saturating_sub(warmup_steps) as f64 / span as f64).min(1.0);
        match self {
            Self::Constant => 1.0,
            Self::Linear { end } => 1.0 - (1.0 - end) * x,
            Self::Cosine { end } => {
                end + (1.0 - end) * (1.0 + (std::f64::consts::PI * x).cos()) / 2.0
            }
            Self::Trapezoid { hold, end } => {
                let y = ((x - hold) / (1.0 - hold).max(f64::EPSILON)).max(0.0);
                1.0 - (1.0 - end) * y
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(schedule: Schedule, expected: [f64; 5]) {
        // Warm-up takes 2 of 10 steps.
        let actual = [0, 2, 4, 6, 10].map(|step| schedule.factor(step, 2, 10));
        for (a, e) in actual.iter().zip(expected) {
            assert!((a - e).abs() < 1e-12, "{schedule:?}: {actual:?}");
        }
    }

    #[test]
    fn factors_decay_from_the_end_of_warm_up() {
        let quarter = 0.5 + 0.5 * (std::f64::consts::PI / 4.0).cos();
        check(Schedule::Constant, [1.0; 5]);
        check(Schedule::Linear { end: 0.2 }, [1.0, 1.0, 0.8, 0.6, 0.2]);
        check(Schedule::Cosine { end: 0.0 }, [1.0, 1.0, quarter, 0.5, 0.0]);
        check(Schedule::Trapezoid { hold: 0.5, end: 0.0 }, [1.0, 1.0, 1.0, 1.0, 0.0]);
    }
}
