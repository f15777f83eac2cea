//! Schedules over the course of training: sampling temperature.

use serde::{Deserialize, Serialize};

/// Schedule of the sampling temperature over training.
///
/// ```text
/// linear  T(x) = start + (end - start) x
/// cosine  T(x) = end + (start - end) (1 + cos(pi x)) / 2
/// x = (step - 1) / (steps - 1)
/// ```
///
/// - `x`: progress, 0 at the first step and 1 at the last
///
/// A high temperature explores early in training; a low one exploits later. Kimi K2 decays its
/// temperature and publishes neither shape nor numbers; those here are ours. Log-probabilities are
/// taken at temperature 1 regardless, so at temperatures far from 1 the trained policy is not quite
/// the one that was sampled.
///
/// # References
///
/// - [Kimi K2](https://arxiv.org/abs/2507.20534), section 3.2.3
///
/// ```
/// use zs_rl::TemperatureSchedule;
///
/// let schedule = TemperatureSchedule::Linear { start: 1.2, end: 0.8 };
/// assert_eq!(schedule.temperature(1, 5), 1.2);
/// assert_eq!(schedule.temperature(3, 5), 1.0);
/// assert_eq!(schedule.temperature(5, 5), 0.8);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum TemperatureSchedule {
    /// In a straight line.
    Linear {
        /// At the first step.
        start: f32,
        /// At the last.
        end: f32,
    },
    /// Slowly at both ends.
    Cosine {
        /// At the first step.
        start: f32,
        /// At the last.
        end: f32,
    },
}

impl TemperatureSchedule {
    /// The temperature of a step, counted from 1, of so many.
    #[must_use]
    pub fn temperature(self, step: usize, steps: usize) -> f32 {
        let progress = step.saturating_sub(1) as f64 / steps.saturating_sub(1).max(1) as f64;
        let progress = progress.min(1.0);
        let (start, end, share_left) = match self {
            Self::Linear { start, end } => (start, end, 1.0 - progress),
            Self::Cosine { start, end } => {
                (start, end, (1.0 + (std::f64::consts::PI * progress).cos()) / 2.0)
            }
        };
        (f64::from(end) + (f64::from(start) - f64::from(end)) * share_left) as f32
    }

    /// Returns true if both ends are temperatures that can be sampled with.
    #[must_use]
    pub fn is_valid(self) -> bool {
        let (Self::Linear { start, end } | Self::Cosine { start, end }) = self;
        [start, end].iter().all(|it| it.is_finite() && *it >= 0.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(schedule: TemperatureSchedule, steps: usize, expected: &[f32]) {
        for (step, expected) in (1..).zip(expected) {
            let actual = schedule.temperature(step, steps);
            assert!((actual - expected).abs() < 1e-6, "{schedule:?} at {step}: {actual}");
        }
    }

    #[test]
    fn from_the_first_step_to_the_last() {
        let (start, end) = (1.5, 0.5);
        check(TemperatureSchedule::Linear { start, end }, 5, &[1.5, 1.25, 1.0, 0.75, 0.5, 0.5]);
        let h = std::f32::consts::FRAC_1_SQRT_2 / 2.0;
        check(TemperatureSchedule::Cosine { start, end }, 5, &[1.5, 1.0 + h, 1.0, 1.0 - h, 0.5]);
        check(TemperatureSchedule::Linear { start, end }, 1, &[1.5, 0.5]);
        assert!(TemperatureSchedule::Linear { start, end: 0.0 }.is_valid());
        assert!(!TemperatureSchedule::Cosine { start: -1.0, end }.is_valid());
        assert!(!TemperatureSchedule::Linear { start, end: f32::NAN }.is_valid());
    }
}
