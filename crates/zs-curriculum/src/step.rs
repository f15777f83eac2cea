//! Noise in constant stretches.

use garde::Validate;
use serde::{Deserialize, Serialize};
use zs_core::registry::{Settings, SettingsError, check};

use crate::{Curriculum, Progress};

/// Constant stretches: the probability of the last stage that has begun.
///
/// ```text
/// p(i) = probability_s,  s = the last stage with from_s <= i/m
/// ```
///
/// - `i`: the step; `m`: steps of the whole run
///
/// ```
/// use zs_curriculum::{Curriculum, Progress, Stage, StepCurriculum};
///
/// let curriculum = StepCurriculum { stages: vec![
///     Stage { from: 0.0, probability: 0.0 },
///     Stage { from: 0.5, probability: 0.25 },
/// ] };
/// assert_eq!(curriculum.noise_probability(Progress::new(5, 10)), 0.25);
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Validate)]
pub struct StepCurriculum {
    /// Stretches, in order; the first begins at 0.
    #[garde(dive, custom(in_order))]
    pub stages: Vec<Stage>,
}

impl Settings for StepCurriculum {
    const KIND: &'static str = "step";

    fn check(&self) -> Result<(), SettingsError> {
        Ok(self.validate()?)
    }
}

fn in_order(stages: &[Stage], (): &()) -> garde::Result {
    if stages.is_empty() {
        return Err(garde::Error::new("hold at least { from = 0.0, probability = … }"));
    }
    let rises = |index: usize| match index.checked_sub(1) {
        None => stages[index].from == 0.0,
        Some(before) => stages[index].from > stages[before].from && stages[index].from < 1.0,
    };
    match (0..stages.len()).find(|index| !rises(*index)) {
        None => Ok(()),
        Some(index) => Err(garde::Error::new(format!(
            "begin at 0 and rise, each below 1; `stages[{index}].from` is {}",
            stages[index].from
        ))),
    }
}

/// One stretch of a [`StepCurriculum`].
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, Validate)]
pub struct Stage {
    /// The finished fraction of training at which the stage begins, in `[0, 1)`.
    #[garde(skip)]
    pub from: f64,
    /// Its noise probability.
    #[garde(custom(check::fraction))]
    pub probability: f64,
}

impl Curriculum for StepCurriculum {
    fn noise_probability(&self, progress: Progress<'_>) -> f64 {
        let fraction = progress.fraction();
        let begun = self.stages.partition_point(|stage| stage.from <= fraction);
        // The first stage begins at 0, so at least one has begun.
        begun.checked_sub(1).map_or(0.0, |it| self.stages[it].probability)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stages(stages: &[(f64, f64)]) -> Vec<Stage> {
        stages.iter().map(|&(from, probability)| Stage { from, probability }).collect()
    }

    #[track_caller]
    fn check(step: usize, expected: f64) {
        let curriculum = StepCurriculum { stages: stages(&[(0.0, 0.1), (0.5, 0.4), (0.75, 0.2)]) };
        let actual = curriculum.noise_probability(Progress::new(step, 8));
        assert_eq!(actual, expected, "step {step}");
    }

    #[test]
    fn holds_until_the_next_stage() {
        check(0, 0.1);
        check(3, 0.1);
        check(4, 0.4);
        check(5, 0.4);
        check(6, 0.2);
        check(8, 0.2);
        check(99, 0.2);
    }

    #[test]
    fn refuses_disorder() {
        for bad in [&[(0.0, 0.1), (0.0, 0.2)][..], &[(0.0, 0.1), (1.0, 0.2)], &[(f64::NAN, 0.1)]] {
            let error = StepCurriculum { stages: stages(bad) }.check().unwrap_err();
            assert!(error.to_string().contains("begin at 0 and rise"), "{error}");
        }
    }
}
