//! Correction of the mismatch between the probabilities of sampling and training.

use serde::{Deserialize, Serialize};

/// Weight of a token whose probability differs between sampling and training.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ImportanceCorrection {
    /// Treatment of ratios out of bounds.
    pub bound: ImportanceBound,
    /// Unit of a ratio.
    #[serde(default)]
    pub level: ImportanceLevel,
}

/// Treatment of ratios out of bounds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum ImportanceBound {
    /// Truncated to the bound: low variance, a little bias.
    Truncate {
        /// Largest weight of a token.
        max: f64,
    },
    /// Set to 0: a token that training finds impossible contributes no gradient.
    Mask {
        /// Smallest ratio that is kept.
        low: f64,
        /// Largest ratio that is kept.
        high: f64,
    },
}

/// Unit of a ratio.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ImportanceLevel {
    /// Each token on its own.
    #[default]
    Token,
    /// The product over the tokens of an episode, which all of them share.
    Sequence,
}

impl ImportanceCorrection {
    /// Returns true if a weight of [`importance_weights`] was truncated or masked.
    #[must_use]
    pub fn is_bound(self, weight: f32) -> bool {
        match self.bound {
            ImportanceBound::Truncate { max } => weight >= max as f32,
            ImportanceBound::Mask { .. } => weight == 0.0,
        }
    }
}

/// The weight of each token of an episode.
///
/// ```text
/// w_t = p_train(token t) / p_sample(token t)             token
/// w_t = prod_u p_train(token u) / p_sample(token u)      sequence
/// w_t <- min(w_t, max)                                   truncate
/// w_t <- w_t if low <= w_t <= high else 0                mask
/// ```
///
/// - `p_sample`: the probability that was recorded at sampling
/// - `p_train`: the probability under the same weights, computed as training computes it
///
/// The log-ratio is limited to ±20 before `exp`. Tokens that count nothing still count in the means
/// over tokens: fewer of them make a smaller step, not a rescaled one.
///
/// # Shapes
///
/// - train_log_probs, sampled_log_probs, loss_mask, output: `[tokens]`; 1 where the mask is false
///
/// # Panics
///
/// When the lengths differ.
///
/// # References
///
/// - Truncated: [Ionides 2008](https://doi.org/10.1198/106186008X320456); verl 0.9.1 `rollout_is`
/// - Masked: IcePop, [Ring-1T](https://arxiv.org/abs/2510.18855)
///
/// ```
/// use zs_rl::loss::{ImportanceBound, ImportanceCorrection, ImportanceLevel, importance_weights};
///
/// let truncate = ImportanceCorrection {
///     bound: ImportanceBound::Truncate { max: 2.0 },
///     level: ImportanceLevel::Token,
/// };
/// let train = [0.9_f32.ln(), 0.25_f32.ln()];
/// let sampled = [0.3_f32.ln(), 0.5_f32.ln()];
/// let weights = importance_weights(&train, &sampled, &[true, true], truncate);
/// assert!((weights[0] - 2.0).abs() < 1e-6 && (weights[1] - 0.5).abs() < 1e-6);
/// ```
#[must_use]
pub fn importance_weights(
    train_log_probs: &[f32],
    sampled_log_probs: &[f32],
    loss_mask: &[bool],
    correction: ImportanceCorrection,
) -> Vec<f32> {
    assert_eq!(train_log_probs.len(), loss_mask.len(), "one log-probability a token");
    assert_eq!(sampled_log_probs.len(), loss_mask.len(), "one log-probability a token");
    let log_ratios = train_log_probs
        .iter()
        .zip(sampled_log_probs)
        .zip(loss_mask)
        .map(|((train, sampled), mask)| if *mask { f64::from(train - sampled) } else { 0.0 });
    let bounded = |log_ratio: f64| {
        let ratio = log_ratio.clamp(-20.0, 20.0).exp();
        match correction.bound {
            ImportanceBound::Truncate { max } => ratio.min(max) as f32,
            ImportanceBound::Mask { low, high } if (low..=high).contains(&ratio) => ratio as f32,
            ImportanceBound::Mask { .. } => 0.0,
        }
    };
    let weights: Vec<f32> = match correction.level {
        ImportanceLevel::Token => log_ratios.map(bounded).collect(),
        ImportanceLevel::Sequence => vec![bounded(log_ratios.sum()); loss_mask.len()],
    };
    weights.iter().zip(loss_mask).map(|(it, mask)| if *mask { *it } else { 1.0 }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(bound: ImportanceBound, level: ImportanceLevel, expected: [f32; 4]) {
        // Ratios 2, 1/4 and 1/2 about a masked token; their product is 1/4.
        let train = [2_f32, 0.25, f32::NAN, 0.5].map(f32::ln);
        let mask = [true, true, false, true];
        let correction = ImportanceCorrection { bound, level };
        let weights = importance_weights(&train, &[0.0; 4], &mask, correction);
        for (a, e) in weights.iter().zip(expected) {
            assert!((a - e).abs() < 1e-6, "{correction:?}: {weights:?}");
        }
    }

    #[test]
    fn by_hand() {
        use ImportanceBound::{Mask, Truncate};
        use ImportanceLevel::{Sequence, Token};
        check(Truncate { max: 1.5 }, Token, [1.5, 0.25, 1.0, 0.5]);
        check(Mask { low: 0.4, high: 2.5 }, Token, [2.0, 0.0, 1.0, 0.5]);
        check(Truncate { max: 1.5 }, Sequence, [0.25, 0.25, 1.0, 0.25]);
        check(Mask { low: 0.4, high: 2.5 }, Sequence, [0.0, 0.0, 1.0, 0.0]);
    }

    #[test]
    fn configs_read_as_documented() {
        let json = r#"{"bound":{"truncate":{"max":2.0}}}"#;
        let expected = ImportanceCorrection {
            bound: ImportanceBound::Truncate { max: 2.0 },
            level: ImportanceLevel::Token,
        };
        assert_eq!(serde_json::from_str::<ImportanceCorrection>(json).unwrap(), expected);
        let json = r#"{"bound":{"mask":{"low":0.5,"high":5.0}},"level":"sequence"}"#;
        assert!(serde_json::from_str::<ImportanceCorrection>(json).is_ok());
    }
}
