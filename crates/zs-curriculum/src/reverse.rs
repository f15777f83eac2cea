//! Any curriculum from its end to its start.

use serde::{Deserialize, Serialize};
use zs_core::registry::{BoxedError, Settings, Spec};

use crate::{Curriculum, CurriculumRegistry, Progress};

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
/// step, is not changed by it; building one is refused.
#[derive(Debug)]
pub struct ReverseCurriculum {
    inner: Box<dyn Curriculum>,
}

/// Settings of [`ReverseCurriculum`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Reverse {
    /// Curriculum to reverse.
    pub curriculum: Spec,
}

impl Settings for Reverse {
    const KIND: &'static str = "reverse";

    fn nested(&self) -> Vec<String> {
        vec!["curriculum".to_owned()]
    }
}

impl Reverse {
    pub(crate) fn build(
        self,
        registry: &CurriculumRegistry,
    ) -> Result<Box<dyn Curriculum>, BoxedError> {
        let inner = registry.build(&self.curriculum, &())?;
        if inner.follows_success() {
            let message = "a curriculum that follows the success rate has no reverse; reverse one \
                           that follows the step";
            return Err(message.into());
        }
        Ok(Box::new(ReverseCurriculum { inner }))
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
    use crate::{LinearCurriculum, builtin};

    #[test]
    fn goes_from_end_to_start() {
        let curriculum = Spec::of(&LinearCurriculum { start: 0.0, end: 0.8 }).unwrap();
        let spec = Spec::of(&Reverse { curriculum }).unwrap();
        let curriculum = builtin().build(&spec, &()).unwrap();
        for (step, expected) in [(0, 0.8), (2, 0.6), (4, 0.4), (8, 0.0), (99, 0.0)] {
            let p = curriculum.noise_probability(Progress::new(step, 8));
            assert!((p - expected).abs() < 1e-12, "step {step}: {p}");
        }
    }
}
