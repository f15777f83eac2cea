//! Noise along straight pieces between given points.

use garde::Validate;
use serde::{Deserialize, Serialize};
use zs_core::registry::{Settings, SettingsError, check};

use crate::linear::interpolate;
use crate::{Curriculum, Progress};

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
/// let curriculum = PiecewiseCurriculum { points: vec![
///     Point { at: 0.2, probability: 0.0 },
///     Point { at: 0.8, probability: 0.5 },
/// ] };
/// assert_eq!(curriculum.noise_probability(Progress::new(1, 10)), 0.0);
/// assert!((curriculum.noise_probability(Progress::new(5, 10)) - 0.25).abs() < 1e-12);
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Validate)]
pub struct PiecewiseCurriculum {
    /// Corners, in order.
    #[garde(dive, custom(in_order))]
    pub points: Vec<Point>,
}

impl Settings for PiecewiseCurriculum {
    const KIND: &'static str = "piecewise";

    fn check(&self) -> Result<(), SettingsError> {
        Ok(self.validate()?)
    }
}

fn in_order(points: &[Point], (): &()) -> garde::Result {
    if points.is_empty() {
        return Err(garde::Error::new("hold at least { at = 0.0, probability = … }"));
    }
    let rises = |index: usize| {
        let at = points[index].at;
        (0.0..=1.0).contains(&at) && index.checked_sub(1).is_none_or(|it| at > points[it].at)
    };
    match (0..points.len()).find(|index| !rises(*index)) {
        None => Ok(()),
        Some(index) => Err(garde::Error::new(format!(
            "rise between 0 and 1; `points[{index}].at` is {}",
            points[index].at
        ))),
    }
}

/// A corner of a [`PiecewiseCurriculum`].
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, Validate)]
pub struct Point {
    /// The finished fraction of training, in `[0, 1]`.
    #[garde(skip)]
    pub at: f64,
    /// The noise probability there.
    #[garde(custom(check::fraction))]
    pub probability: f64,
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
            (None, first) => first.map_or(0.0, |it| it.probability),
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
            PiecewiseCurriculum { points: points(&[(0.25, 0.2), (0.5, 0.6), (0.75, 0.0)]) };
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
            let error = PiecewiseCurriculum { points: points(bad) }.check().unwrap_err();
            assert!(error.to_string().contains("rise between 0 and 1"), "{error}");
        }
    }
}
