//! Initial weights of a model trained from scratch.

use std::convert::Infallible;

use burn::tensor::Device;
use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use zs_core::{Domain, StreamKey};

use super::{fill, transpose};
use crate::{CausalLm, ModelConfig};

/// Standard deviation of the embedding.
const EMBEDDING_STD: f64 = 0.05;

/// Random initial weights, a pure function of configuration and seed.
///
/// ```text
/// matrix in R^(out x in):   N(0, 1 / in)
/// o_proj, down_proj:        N(0, 1 / in) / sqrt(2 layers)
/// embedding:                N(0, 0.05^2);   biases 0;   norms 1
/// ```
///
/// Small models learn to copy with a standard deviation of `1 / sqrt(fan in)`, and fail to with the
/// fixed 0.02 of large models. Projections into the residual stream are scaled down so that its
/// variance does not grow with depth.
///
/// # References
///
/// - GPT-2 (Radford et al., 2019), section 2.3: scaling of residual layers
pub(crate) fn initialize(config: &ModelConfig, seed: u64, device: &Device) -> CausalLm {
    let depth_scale = 1.0 / (2.0 * config.num_hidden_layers as f64).sqrt();
    let mut index = 0;
    let filled = fill(CausalLm::zeros(config, device), |entry| {
        index += 1;
        let key = StreamKey { step: index, ..StreamKey::new(seed) };
        let name = &entry.name;
        // Values are drawn in checkpoint layout.
        let values = match entry.shape[..] {
            [_, fan_in] => {
                let mut std = 1.0 / (fan_in as f64).sqrt();
                if name.contains("embed_tokens") {
                    std = EMBEDDING_STD;
                } else if name.contains("o_proj") || name.contains("down_proj") {
                    std *= depth_scale;
                }
                normal(&mut key.rng(Domain::Weights), entry.len(), std)
            }
            _ if name.ends_with("bias") => vec![0.0; entry.len()],
            _ => vec![1.0; entry.len()],
        };
        Ok::<_, Infallible>(Some(if entry.transposed {
            transpose(&values, entry.shape[0], entry.shape[1])
        } else {
            values
        }))
    });
    match filled {
        Ok(network) => network,
        Err(never) => match never {},
    }
}

/// Draws from `N(0, std^2)` by the Box-Muller transform.
fn normal(rng: &mut ChaCha8Rng, len: usize, std: f64) -> Vec<f32> {
    (0..len)
        .map(|_| {
            // 1 - u is in (0, 1], so the logarithm is finite.
            let radius = (-2.0 * (1.0 - rng.random::<f64>()).ln()).sqrt();
            let angle = 2.0 * std::f64::consts::PI * rng.random::<f64>();
            (std * radius * angle.cos()) as f32
        })
        .collect()
}

/// Draws from the uniform distribution on `[-bound, bound)`.
pub(crate) fn uniform(rng: &mut ChaCha8Rng, len: usize, bound: f64) -> Vec<f32> {
    (0..len).map(|_| (bound * (2.0 * rng.random::<f64>() - 1.0)) as f32).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn normal_draws_have_the_requested_mean_and_variance() {
        let draws = normal(&mut StreamKey::new(1).rng(Domain::Weights), 40_000, 0.5);
        let n = draws.len() as f64;
        let mean = draws.iter().map(|it| f64::from(*it)).sum::<f64>() / n;
        let variance = draws.iter().map(|it| (f64::from(*it) - mean).powi(2)).sum::<f64>() / n;
        // Four standard errors: 0.5 / 200 and 0.25 * sqrt(2) / 200.
        assert!(mean.abs() < 0.01, "{mean}");
        assert!((variance - 0.25).abs() < 0.0071, "{variance}");
    }
}
