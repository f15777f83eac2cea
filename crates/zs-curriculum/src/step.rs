//! Noise in constant stretches.

use serde::{Deserialize, Serialize};

use crate::config::probability;
use crate::{Curriculum, CurriculumError, Progress};

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
/// let curriculum = StepCurriculum::new(vec![
///     Stage { from: 0.0, probability: 0.0 },
///     Stage { from: 0.5, probability: 0.25 },
/// ])?;
/// assert_eq!(curriculum.noise_probability(Progress::new(5, 10)), 0.25);
/// # Ok::<(), zs_curriculum::CurriculumError>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct StepCurriculum {
    stages: Vec<Stage>,
}

/// One stretch of a [`StepCurriculum`].
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stage {
    /// The finished fraction of training at which the stage begins, in `[0, 1)`.
    pub from: f64,
    /// Its noise probability.
    pub probability: f64,
}

impl StepCurriculum {
    /// A curriculum of the given stages.
    ///
    /// # Errors
    ///
    /// Fails when there is no stage, the first does not begin at 0, they do not rise below 1, or a
    /// probability is outside of `[0, 1]`.
    pub fn new(stages: Vec<Stage>) -> Result<Self, CurriculumError> {
        if stages.is_empty() {
            return Err(CurriculumError::NoStages);
        }
        let mut previous = None;
        for (index, stage) in stages.iter().enumerate() {
            let in_order = match previous {
                None => stage.from == 0.0,
                Some(previous) => stage.from > previous && stage.from < 1.0,
            };
            if !in_order {
                return Err(CurriculumError::StageOrder { index, value: stage.from });
            }
            probability(&format!("stages[{index}].probability"), stage.probability)?;
            previous = Some(stage.from);
        }
        Ok(Self { stages })
    }
}

impl Curriculum for StepCurriculum {
    fn noise_probability(&self, progress: Progress<'_>) -> f64 {
        let fraction = progress.fraction();
        let begun = self.stages.partition_point(|stage| stage.from <= fraction);
        // The first stage begins at 0, so at least one has begun.
        self.stages[begun - 1].probability
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
        let curriculum = StepCurriculum::new(stages(&[(0.0, 0.1), (0.5, 0.4), (0.75, 0.2)]));
        let actual = curriculum.unwrap().noise_probability(Progress::new(step, 8));
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
            let error = StepCurriculum::new(stages(bad)).unwrap_err();
            assert!(matches!(error, CurriculumError::StageOrder { .. }), "{error}");
        }
    }
}
