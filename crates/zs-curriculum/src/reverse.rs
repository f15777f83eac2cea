//! Any curriculum from its end to its start.

use crate::{Curriculum, Progress};

/// Another curriculum, run backwards: from hard to easy where that one goes from easy to hard.
///
/// ```text
/// p(i) = q(m - i)
/// ```
///
/// - `q`: the other curriculum; `i`: the step, at most `m`; `m`: steps of the whole run
///
/// A control for the claim that easy-to-hard matters. Success rates are handed on as they were
/// recorded, so a [`FeedbackCurriculum`](crate::FeedbackCurriculum), which does not look at the
/// step, is not changed by it; [`CurriculumConfig`](crate::CurriculumConfig) refuses that.
#[derive(Debug)]
pub struct ReverseCurriculum {
    inner: Box<dyn Curriculum>,
}

impl ReverseCurriculum {
    /// `inner`, backwards.
    #[must_use]
    pub fn new(inner: Box<dyn Curriculum>) -> Self {
        Self { inner }
    }
}

impl Curriculum for ReverseCurriculum {
    fn noise_probability(&self, progress: Progress<'_>) -> f64 {
        let step = progress.total_steps.saturating_sub(progress.step);
        self.inner.noise_probability(Progress { step, ..progress })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::LinearCurriculum;

    #[test]
    fn goes_from_end_to_start() {
        let line = LinearCurriculum::new(0.0, 0.8).unwrap();
        let curriculum = ReverseCurriculum::new(Box::new(line));
        for (step, expected) in [(0, 0.8), (2, 0.6), (4, 0.4), (8, 0.0), (99, 0.0)] {
            let p = curriculum.noise_probability(Progress::new(step, 8));
            assert!((p - expected).abs() < 1e-12, "step {step}: {p}");
        }
    }
}
