//! Rates of several tries.

use serde_json::{Value, json};

/// Rates per second, one a repetition.
#[derive(Clone, Debug, Default)]
pub(crate) struct Rates(Vec<f64>);

impl Rates {
    pub(crate) fn push(&mut self, count: usize, seconds: f64) {
        self.0.push(count as f64 / seconds);
    }

    /// The middle try.
    pub(crate) fn median(&self) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN)
    }

    /// Ratio of these rates to others, by repetition: both sides of a repetition ran one after the
    /// other.
    pub(crate) fn over(&self, other: &Self) -> Self {
        Self(self.0.iter().zip(&other.0).map(|(ours, theirs)| ours / theirs).collect())
    }

    fn bounds(&self) -> (f64, f64) {
        let low = self.0.iter().copied().fold(f64::INFINITY, f64::min);
        (low, self.0.iter().copied().fold(f64::NEG_INFINITY, f64::max))
    }

    pub(crate) fn json(&self) -> Value {
        let (low, high) = self.bounds();
        json!({ "median": self.median(), "min": low, "max": high })
    }
}

impl std::fmt::Display for Rates {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let digits = if self.median() < 100.0 { 2 } else { 0 };
        let (low, high) = self.bounds();
        write!(f, "{:.digits$} [{low:.digits$}, {high:.digits$}]", self.median())
    }
}
