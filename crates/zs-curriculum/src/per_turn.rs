//! More or less noise in later turns of an episode.

use garde::Validate;
use serde::{Deserialize, Serialize};
use zs_core::registry::{BoxedError, Settings, SettingsError, Spec, check};

use crate::{Curriculum, CurriculumRegistry, Progress};

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

/// Settings of [`PerTurnCurriculum`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Validate)]
pub struct PerTurn {
    /// Curriculum to scale.
    #[garde(skip)]
    pub curriculum: Spec,
    /// One factor a turn; the last holds for all later turns.
    #[garde(length(min = 1), inner(custom(check::non_negative)))]
    pub factors: Vec<f64>,
}

impl Settings for PerTurn {
    const KIND: &'static str = "per_turn";

    fn check(&self) -> Result<(), SettingsError> {
        Ok(self.validate()?)
    }

    fn nested(&self) -> Vec<String> {
        vec!["curriculum".to_owned()]
    }
}

impl PerTurn {
    pub(crate) fn build(
        self,
        registry: &CurriculumRegistry,
    ) -> Result<Box<dyn Curriculum>, BoxedError> {
        let inner = registry.build(&self.curriculum, &())?;
        Ok(Box::new(PerTurnCurriculum { inner, factors: self.factors }))
    }
}

impl Curriculum for PerTurnCurriculum {
    fn noise_probability(&self, progress: Progress<'_>) -> f64 {
        let turn = (progress.turn as usize).min(self.factors.len().saturating_sub(1));
        let factor = self.factors.get(turn).copied().unwrap_or(1.0);
        (self.inner.noise_probability(progress) * factor).clamp(0.0, 1.0)
    }

    fn follows_success(&self) -> bool {
        self.inner.follows_success()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ConstantCurriculum, builtin};

    fn scaled(factors: &[f64]) -> Spec {
        let curriculum = Spec::of(&ConstantCurriculum { probability: 0.4 }).unwrap();
        Spec::of(&PerTurn { curriculum, factors: factors.to_vec() }).unwrap()
    }

    #[test]
    fn scales_each_turn_and_stays_a_probability() {
        let curriculum = builtin().build(&scaled(&[1.0, 0.5, 4.0]), &()).unwrap();
        for (turn, expected) in [(0, 0.4), (1, 0.2), (2, 1.0), (9, 1.0)] {
            let p = curriculum.noise_probability(Progress::new(1, 2).at_turn(turn));
            assert_eq!(p, expected, "turn {turn}");
        }
    }

    #[test]
    fn refuses_what_is_no_factor() {
        let error = |factors| builtin().build(&scaled(factors), &()).unwrap_err();
        assert_eq!(error(&[]).key().as_deref(), Some("factors"));
        assert_eq!(error(&[1.0, -0.5]).key().as_deref(), Some("factors[1]"));
    }
}
