//! Noise that follows the policy: more of it while the policy copes, less when it does not.

use garde::Validate;
use serde::{Deserialize, Serialize};
use zs_core::registry::{Settings, SettingsError, check};

use crate::{Curriculum, Progress};

/// A controller on the success rate of training episodes.
///
/// ```text
/// s_j     = mean of the success rates of the last `window` steps up to and with step j
/// p_0     = start
/// p_{j+1} = min(end,   p_j + rise)   where s_j >= threshold
///           max(start, p_j - fall)   elsewhere
/// ```
///
/// - `p_j`: the noise probability after `j` recorded steps
/// - a window that is not full yet averages what there is
///
/// The whole path is recomputed from [`Progress::success_rates`], so the probability is a
/// function of recorded statistics: nothing is stored between steps, and a run that reads its own
/// records resumes exactly where it was.
///
/// Not part of `ZeroSearch`, whose schedule looks at the step alone.
///
/// ```
/// use zs_curriculum::{Curriculum, FeedbackCurriculum, Progress};
///
/// let curriculum = FeedbackCurriculum {
///     start: 0.0, end: 0.5, threshold: 0.6, rise: 0.1, fall: 0.0, window: 1,
/// };
/// let at = |rates: &[f64]| curriculum.noise_probability(Progress::new(1, 9).after(rates));
/// assert_eq!(at(&[]), 0.0);
/// assert_eq!(at(&[0.7]), 0.1);
/// assert_eq!(at(&[0.7, 0.5]), 0.1);
/// assert_eq!(at(&[0.7, 0.5, 0.9]), 0.2);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, Validate)]
pub struct FeedbackCurriculum {
    /// Noise probability at the start, and the least it falls back to.
    #[garde(custom(check::fraction))]
    pub start: f64,
    /// Greatest noise probability.
    #[garde(custom(check::fraction), custom(check::at_least("start", self.start)))]
    pub end: f64,
    /// Success rate from which on noise rises.
    #[garde(custom(check::fraction))]
    pub threshold: f64,
    /// Rise after a step.
    #[garde(custom(check::fraction))]
    pub rise: f64,
    /// Fall after a step below the threshold; none by default.
    #[serde(default)]
    #[garde(custom(check::fraction))]
    pub fall: f64,
    /// Steps whose success rates are averaged.
    #[serde(default = "one")]
    #[garde(custom(check::at_least_one))]
    pub window: usize,
}

fn one() -> usize {
    1
}

impl Settings for FeedbackCurriculum {
    const KIND: &'static str = "feedback";

    fn check(&self) -> Result<(), SettingsError> {
        Ok(self.validate()?)
    }
}

impl Curriculum for FeedbackCurriculum {
    fn noise_probability(&self, progress: Progress<'_>) -> f64 {
        let Self { start, end, threshold, rise, fall, window } = *self;
        let rates = progress.success_rates;
        (1..=rates.len()).fold(start, |p, num_recorded| {
            let recent = &rates[num_recorded.saturating_sub(window)..num_recorded];
            let mean = recent.iter().sum::<f64>() / recent.len() as f64;
            if mean >= threshold { (p + rise).min(end) } else { (p - fall).max(start) }
        })
    }

    fn follows_success(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const CURRICULUM: FeedbackCurriculum = FeedbackCurriculum {
        start: 0.1,
        end: 0.4,
        threshold: 0.5,
        rise: 0.2,
        fall: 0.05,
        window: 2,
    };

    #[track_caller]
    fn check(rates: &[f64], expected: f64) {
        let actual = CURRICULUM.noise_probability(Progress::new(1, 5).after(rates));
        assert!((actual - expected).abs() < 1e-12, "{rates:?}: {actual} != {expected}");
    }

    #[test]
    fn follows_the_average_of_its_window() {
        check(&[], 0.1);
        check(&[0.5], 0.3);
        // The means are 0.5, 0.45, 0.5: up, down, up.
        check(&[0.5, 0.4], 0.25);
        check(&[0.5, 0.4, 0.6], 0.4);
        // Never above the end, never below the start.
        check(&[1.0, 1.0, 1.0, 1.0], 0.4);
        check(&[0.0, 0.0, 0.0], 0.1);
    }

    #[test]
    fn refuses_what_makes_no_sense() {
        let refused = |it: FeedbackCurriculum| it.check().unwrap_err().to_string();
        assert!(refused(FeedbackCurriculum { rise: 1.5, ..CURRICULUM }).contains("`rise`"));
        assert!(
            refused(FeedbackCurriculum { end: 0.0, ..CURRICULUM })
                .contains("`end` must be at least `start`")
        );
        assert!(refused(FeedbackCurriculum { window: 0, ..CURRICULUM }).contains("`window`"));
    }

    proptest! {
        #[test]
        fn a_prefix_of_the_records_gives_the_earlier_value(
            rates in proptest::collection::vec(0.0..=1.0_f64, 0..20), window in 1_usize..5,
        ) {
            let curriculum = FeedbackCurriculum { window, ..CURRICULUM };
            let path: Vec<f64> = (0..=rates.len())
                .map(|it| curriculum.noise_probability(Progress::new(1, 9).after(&rates[..it])))
                .collect();
            for (index, pair) in path.windows(2).enumerate() {
                let recent = &rates[(index + 1).saturating_sub(window)..=index];
                let mean = recent.iter().sum::<f64>() / recent.len() as f64;
                let moved = pair[1] - pair[0];
                let direction = if mean >= 0.5 { 1.0 } else { -1.0 };
                prop_assert!(moved * direction >= 0.0, "{:?}", path);
                prop_assert!((0.1..=0.4).contains(&pair[1]));
            }
        }
    }
}
