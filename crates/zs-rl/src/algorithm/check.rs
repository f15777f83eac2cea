//! Checks of settings, and the error that names what is wrong with one.

use super::LossTerms;
use crate::loss::{Aggregation, ClipOptions};

/// A setting that no algorithm can work with.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("`{field}` of algorithm `{algorithm}` is {value}; it must {requirement}")]
pub struct AlgorithmError {
    /// The algorithm.
    pub algorithm: &'static str,
    /// The setting.
    pub field: &'static str,
    /// Its value.
    pub value: f64,
    /// What it must be.
    pub requirement: &'static str,
}

/// Checks the settings of one algorithm.
#[derive(Clone, Copy)]
pub(super) struct Check(pub(super) &'static str);

impl Check {
    pub(super) fn that(
        self,
        holds: bool,
        field: &'static str,
        value: f64,
        requirement: &'static str,
    ) -> Result<(), AlgorithmError> {
        let error = AlgorithmError { algorithm: self.0, field, value, requirement };
        if holds { Ok(()) } else { Err(error) }
    }

    pub(super) fn coefficient(self, field: &'static str, value: f64) -> Result<(), AlgorithmError> {
        let holds = value.is_finite() && value >= 0.0;
        self.that(holds, field, value, "be finite and not negative")
    }

    pub(super) fn positive(self, field: &'static str, value: f64) -> Result<(), AlgorithmError> {
        self.that(value.is_finite() && value > 0.0, field, value, "be finite and above 0")
    }

    pub(super) fn share(self, field: &'static str, value: f64) -> Result<(), AlgorithmError> {
        self.that((0.0..=1.0).contains(&value), field, value, "lie in [0, 1]")
    }

    pub(super) fn clip(self, clip: ClipOptions) -> Result<(), AlgorithmError> {
        let ClipOptions { low, high, dual } = clip;
        self.share("clip.low", low)?;
        self.coefficient("clip.high", high)?;
        let dual = dual.unwrap_or(f64::MAX);
        self.that(dual > 1.0 && dual.is_finite(), "clip.dual", dual, "be finite and above 1")
    }

    /// For losses that have no dual clip.
    pub(super) fn clip_without_dual(self, clip: ClipOptions) -> Result<(), AlgorithmError> {
        self.clip(clip)?;
        let dual = clip.dual.unwrap_or(0.0);
        self.that(clip.dual.is_none(), "clip.dual", dual, "be left out: this loss has no dual clip")
    }

    pub(super) fn terms(self, terms: LossTerms) -> Result<(), AlgorithmError> {
        if let Aggregation::FixedLength { length } = terms.aggregation {
            self.that(length > 0, "aggregation.fixed_length.length", 0.0, "be at least 1")?;
        }
        self.coefficient("kl_coef", terms.kl_coef)?;
        self.coefficient("entropy_coef", terms.entropy_coef)
    }
}
