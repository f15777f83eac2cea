//! More or less noise in later turns of an episode.

use crate::{Curriculum, CurriculumError, Progress};

/// Another curriculum, scaled turn by turn.
///
/// ```text
/// p(i, t) = min(1, q(i) * factors[min(t, last)])
/// ```
///
/// - `q`: the other curriculum; `i`: the step; `t`: the turn of the search, from 0
///
/// Factors below 1 spare the later hops of a question, whose documents depend on what was found
/// before; factors above 1 spare the first search. The reference code hands the turn to its
/// schedule, which ignores it.
#[derive(Debug)]
pub struct PerTurnCurriculum {
    inner: Box<dyn Curriculum>,
    factors: Vec<f64>,
}

impl PerTurnCurriculum {
    /// `inner`, times one factor a turn; the last one holds for all later turns.
    ///
    /// # Errors
    ///
    /// Fails when there is no factor, or one is negative or not finite.
    pub fn new(inner: Box<dyn Curriculum>, factors: Vec<f64>) -> Result<Self, CurriculumError> {
        if factors.is_empty() {
            return Err(CurriculumError::NoFactors);
        }
        let bad = factors.iter().position(|it| !(it.is_finite() && *it >= 0.0));
        match bad {
            Some(index) => Err(CurriculumError::Factor { index, value: factors[index] }),
            None => Ok(Self { inner, factors }),
        }
    }
}

impl Curriculum for PerTurnCurriculum {
    fn noise_probability(&self, progress: Progress<'_>) -> f64 {
        let turn = (progress.turn as usize).min(self.factors.len() - 1);
        (self.inner.noise_probability(progress) * self.factors[turn]).clamp(0.0, 1.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ConstantCurriculum;

    fn scaled(factors: &[f64]) -> Result<PerTurnCurriculum, CurriculumError> {
        let inner = Box::new(ConstantCurriculum::new(0.4).unwrap());
        PerTurnCurriculum::new(inner, factors.to_vec())
    }

    #[test]
    fn scales_each_turn_and_stays_a_probability() {
        let curriculum = scaled(&[1.0, 0.5, 4.0]).unwrap();
        for (turn, expected) in [(0, 0.4), (1, 0.2), (2, 1.0), (9, 1.0)] {
            let p = curriculum.noise_probability(Progress::new(1, 2).at_turn(turn));
            assert_eq!(p, expected, "turn {turn}");
        }
    }

    #[test]
    fn refuses_what_is_no_factor() {
        assert_eq!(scaled(&[]).unwrap_err(), CurriculumError::NoFactors);
        for bad in [-0.5, f64::INFINITY, f64::NAN] {
            let error = scaled(&[1.0, bad]).unwrap_err().to_string();
            assert!(error.contains("curriculum.factors[1]"), "{error}");
        }
    }
}
