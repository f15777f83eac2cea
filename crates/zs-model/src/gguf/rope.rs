//! Rotary frequencies: Llama 3's scaling, recovered from the factors that a file holds instead.

use std::f64::consts::PI;

use serde_json::{Value, json};

use super::GgufError;
use super::file::GgufFile;

/// Tensor of the factors that divide each rotary frequency.
pub(super) const FACTORS: &str = "rope_freqs.weight";

/// Parameters of every released model that uses the scaling of Llama 3; only the factor differs.
const LOW_FREQ_FACTOR: f64 = 1.0;
const HIGH_FREQ_FACTOR: f64 = 4.0;
const ORIGINAL_CONTEXT: f64 = 8192.0;

/// Entry `rope_scaling` of a `config.json`, if the file has factors other than 1.
pub(super) fn llama3_scaling(
    file: &GgufFile,
    theta: f64,
    head_dim: usize,
) -> Result<Option<Value>, GgufError> {
    let Some(tensor) = file.tensors().get(FACTORS) else { return Ok(None) };
    let found = file.values(tensor);
    let factor = found.iter().copied().fold(1.0_f32, f32::max);
    // No more factors are computed than the file holds.
    let expected = factors(f64::from(factor), theta, head_dim.min(2 * found.len() + 2));
    let agrees =
        |(found, expected): (&f32, &f64)| (f64::from(*found) - expected).abs() <= 1e-4 * expected;
    if found.len() != expected.len() || !found.iter().zip(&expected).all(agrees) {
        let problem = "has other factors than Llama 3's RoPE scaling";
        let remedy = "use the model's own directory, with config.json";
        return Err(GgufError::tensor(file.path(), FACTORS, problem, remedy));
    }
    Ok((factor > 1.0).then(|| {
        json!({
            "rope_type": "llama3",
            "factor": factor,
            "low_freq_factor": LOW_FREQ_FACTOR,
            "high_freq_factor": HIGH_FREQ_FACTOR,
            "original_max_position_embeddings": ORIGINAL_CONTEXT as u64,
        })
    }))
}

/// Divisors of the rotary frequencies.
///
/// ```text
/// w_i = 2 pi theta^(2 i / h)             wavelength of frequency i
/// 1                                      if w_i < C / high
/// factor                                 if w_i > C / low
/// 1 / ((1 - s) / factor + s)             else, with s = (C / w_i - low) / (high - low)
/// ```
fn factors(factor: f64, theta: f64, head_dim: usize) -> Vec<f64> {
    let one = |i: usize| {
        let wavelength = 2.0 * PI * theta.powf(2.0 * i as f64 / head_dim as f64);
        if wavelength < ORIGINAL_CONTEXT / HIGH_FREQ_FACTOR {
            1.0
        } else if wavelength > ORIGINAL_CONTEXT / LOW_FREQ_FACTOR {
            factor
        } else {
            let smooth = (ORIGINAL_CONTEXT / wavelength - LOW_FREQ_FACTOR)
                / (HIGH_FREQ_FACTOR - LOW_FREQ_FACTOR);
            1.0 / ((1.0 - smooth) / factor + smooth)
        }
    };
    (0..head_dim / 2).map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn factors_are_those_of_the_converter() {
        // Head of 16, theta 500,000, factor 8: `2 pi theta^(i / 8)` is 6.28, 32.4, 167, 862, 4443,
        // 22911, … Frequency 4 lies between: s = (8192 / 4442.9 - 1) / 3 = 0.281283, and
        // 1 / ((1 - s) / 8 + s) = 2.694530.
        let found = factors(8.0, 500_000.0, 16);
        let expected = [1.0, 1.0, 1.0, 1.0, 2.694_530, 8.0, 8.0, 8.0];
        for (found, expected) in found.iter().zip(expected) {
            assert!((found - expected).abs() < 1e-5, "{found} is not {expected}");
        }
        assert_eq!(found.len(), 8);
    }
}
