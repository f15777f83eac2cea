//! From differences over seeds to verdicts.

use serde::{Deserialize, Serialize};

use super::stats::SeedMean;
use crate::config::{ComparisonConfig, Expectation};

/// Verdict on a claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// It contradicts the claim, or leaves less of it than what matters.
    NotSupported,
    /// It fits the claim and its opposite.
    Inconclusive,
    /// There is no evidence yet.
    NotRun,
    /// It supports the claim.
    Supported,
    /// There is nothing to decide: the claim describes.
    Described,
}

impl Verdict {
    /// The words of tables.
    #[must_use]
    pub fn words(self) -> &'static str {
        match self {
            Self::NotSupported => "not supported",
            Self::Inconclusive => "inconclusive",
            Self::NotRun => "not run",
            Self::Supported => "supported",
            Self::Described => "described",
        }
    }

    /// The verdict of a difference `d` with the 95 % interval `[low, high]` and the margin `m`.
    ///
    /// ```text
    /// expected   supported              not supported
    /// d > 0      low > 0                high < m: a difference that matters is excluded
    /// d < 0      high < 0               low > -m
    /// d > -m     low > -m               high < -m
    /// |d| < m    -m < low, high < m     high < -m or low > m
    /// ```
    ///
    /// Anything else is inconclusive, and so is a single seed. Where the first two columns both hold
    /// (a gain for sure, but a small one), the claim is supported.
    #[must_use]
    pub fn of(difference: &SeedMean, expect: Expectation, margin: f64) -> Self {
        let Some([low, high]) = difference.interval.filter(|_| difference.n > 1) else {
            return Self::Inconclusive;
        };
        let (supported, contradicted) = match expect {
            Expectation::Greater => (low > 0.0, high < margin),
            Expectation::Less => (high < 0.0, low > -margin),
            Expectation::AtLeast => (low > -margin, high < -margin),
            Expectation::Within => (low > -margin && high < margin, high < -margin || low > margin),
        };
        match (supported, contradicted) {
            (true, _) => Self::Supported,
            (false, true) => Self::NotSupported,
            (false, false) => Self::Inconclusive,
        }
    }

    /// The verdict of a claim from those of the comparisons that decide it: the worst.
    #[must_use]
    pub fn all(verdicts: impl IntoIterator<Item = Self>) -> Self {
        verdicts.into_iter().min().unwrap_or(Self::Described)
    }
}

/// Expected difference of a comparison, in words.
pub(super) fn expected(comparison: &ComparisonConfig) -> String {
    let margin = comparison.margin;
    match comparison.expect {
        Expectation::Greater => format!("above 0 ({margin} matters)"),
        Expectation::Less => format!("below 0 (-{margin} matters)"),
        Expectation::AtLeast => format!("above -{margin}"),
        Expectation::Within => format!("between -{margin} and {margin}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(low: f64, high: f64, expect: Expectation, expected: Verdict) {
        let mean = SeedMean {
            n: 5,
            mean: low.midpoint(high),
            sd: None,
            interval: Some([low, high]),
            p: None,
        };
        assert_eq!(Verdict::of(&mean, expect, 0.03), expected, "[{low}, {high}] {expect:?}");
    }

    #[test]
    fn intervals_decide() {
        use Expectation::{AtLeast, Greater, Less, Within};
        use Verdict::{Inconclusive, NotSupported, Supported};
        check(0.01, 0.1, Greater, Supported);
        check(0.01, 0.02, Greater, Supported);
        check(-0.01, 0.1, Greater, Inconclusive);
        check(-0.01, 0.02, Greater, NotSupported);
        check(-0.1, -0.05, Greater, NotSupported);
        check(-0.1, -0.01, Less, Supported);
        check(-0.02, 0.05, Less, NotSupported);
        check(-0.1, 0.05, Less, Inconclusive);
        check(-0.02, 0.1, AtLeast, Supported);
        check(-0.04, 0.1, AtLeast, Inconclusive);
        check(-0.09, -0.04, AtLeast, NotSupported);
        check(-0.02, 0.02, Within, Supported);
        check(-0.02, 0.04, Within, Inconclusive);
        check(0.04, 0.05, Within, NotSupported);
        let single = SeedMean { n: 1, mean: 0.5, sd: None, interval: None, p: None };
        assert_eq!(Verdict::of(&single, Greater, 0.03), Inconclusive);
    }

    #[test]
    fn a_claim_is_as_good_as_its_worst_comparison() {
        use Verdict::{Described, Inconclusive, NotRun, NotSupported, Supported};
        assert_eq!(Verdict::all([Supported, Supported]), Supported);
        assert_eq!(Verdict::all([Supported, Inconclusive]), Inconclusive);
        assert_eq!(Verdict::all([Inconclusive, NotSupported, Supported]), NotSupported);
        assert_eq!(Verdict::all([NotRun, Supported]), NotRun);
        assert_eq!(Verdict::all([NotRun, Inconclusive]), Inconclusive);
        assert_eq!(Verdict::all([]), Described);
    }
}
