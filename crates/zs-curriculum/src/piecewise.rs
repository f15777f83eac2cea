//! Noise along straight pieces between given points.

use serde::{Deserialize, Serialize};

use crate::config::probability;
use crate::linear::interpolate;
use crate::{Curriculum, CurriculumError, Progress};

/// Straight pieces through given points.
///
/// ```text
/// p(f) = p_j + (f - f_j) / (f_{j+1} - f_j) * (p_{j+1} - p_j),  f_j <= f <= f_{j+1}
/// ```
///
/// - `f = i/m`: the finished fraction; `(f_j, p_j)`: the points
/// - before the first and after the last point, the probability is theirs
///
/// ```
/// use zs_curriculum::{Curriculum, PiecewiseCurriculum, Point, Progress};
///
/// // Nothing but useful documents in the first fifth, then a rise that ends early.
/// let curriculum = PiecewiseCurriculum::new(vec![
///     Point { at: 0.2, probability: 0.0 },
///     Point { at: 0.8, probability: 0.5 },
/// ])?;
/// assert_eq!(curriculum.noise_probability(Progress::new(1, 10)), 0.0);
/// assert!((curriculum.noise_probability(Progress::new(5, 10)) - 0.25).abs() < 1e-12);
/// # Ok::<(), zs_curriculum::CurriculumError>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct PiecewiseCurriculum {
    points: Vec<Point>,
}

/// A corner of a [`PiecewiseCurriculum`].
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Point {
    /// The finished fraction of training, in `[0, 1]`.
    pub at: f64,
    /// The noise probability there.
    pub probability: f64,
}

impl PiecewiseCurriculum {
    /// A curriculum through some points.
    ///
    /// # Errors
    ///
    /// Fails when there is no point, they do not rise inside `[0, 1]`, or a probability is outside
    /// of it.
    pub fn new(points: Vec<Point>) -> Result<Self, CurriculumError> {
        if points.is_empty() {
            return Err(CurriculumError::NoPoints);
        }
        for (index, point) in points.iter().enumerate() {
            let rises = index == 0 || point.at > points[index - 1].at;
            if !(rises && (0.0..=1.0).contains(&point.at)) {
                return Err(CurriculumError::PointOrder { index, value: point.at });
            }
            probability(&format!("points[{index}].probability"), point.probability)?;
        }
        Ok(Self { points })
    }
}

impl Curriculum for PiecewiseCurriculum {
    fn noise_probability(&self, progress: Progress<'_>) -> f64 {
        let fraction = progress.fraction();
        let passed = self.points.partition_point(|it| it.at <= fraction);
        match (passed.checked_sub(1).map(|it| self.points[it]), self.points.get(passed)) {
            (Some(from), Some(to)) => {
                let ramp = (fraction - from.at) / (to.at - from.at);
                interpolate(from.probability, to.probability, ramp)
            }
            (Some(last), None) => last.probability,
            (None, _) => self.points[0].probability,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn points(points: &[(f64, f64)]) -> Vec<Point> {
        points.iter().map(|&(at, probability)| Point { at, probability }).collect()
    }

    #[track_caller]
    fn check(step: usize, expected: f64) {
        let curriculum =
            PiecewiseCurriculum::new(points(&[(0.25, 0.2), (0.5, 0.6), (0.75, 0.0)])).unwrap();
        let actual = curriculum.noise_probability(Progress::new(step, 8));
        assert!((actual - expected).abs() < 1e-12, "step {step}: {actual} != {expected}");
    }

    #[test]
    fn passes_through_its_points() {
        check(0, 0.2);
        check(2, 0.2);
        check(3, 0.4);
        check(4, 0.6);
        check(5, 0.3);
        check(6, 0.0);
        check(8, 0.0);
    }

    #[test]
    fn refuses_disorder() {
        for bad in [&[(0.5, 0.1), (0.5, 0.2)][..], &[(1.5, 0.1)], &[(f64::NAN, 0.1)]] {
            let error = PiecewiseCurriculum::new(points(bad)).unwrap_err();
            assert!(matches!(error, CurriculumError::PointOrder { .. }), "{error}");
        }
    }
}
