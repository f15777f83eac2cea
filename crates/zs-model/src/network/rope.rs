//! Rotary position embedding in the rotate-half convention of Hugging Face checkpoints.

use burn::tensor::{Device, Int, Tensor, TensorData};

use crate::ModelConfig;
use crate::kernels::rotate;

/// Rotary frequencies, computed on the host in double precision.
///
/// ```text
/// angle(p, i) = p * f_i,   f_i = theta^(-2i / head_dim),   i = 0 .. head_dim / 2
/// ```
///
/// Llama 3 divides low frequencies by `factor`, keeps high ones, and interpolates between.
///
/// # References
///
/// - [RoFormer](https://arxiv.org/abs/2104.09864), equation 34, with the two halves of a head
///   paired instead of adjacent elements (transformers' `rotate_half`)
#[derive(Clone, Debug)]
pub(crate) struct RotaryTable {
    frequencies: Vec<f64>,
}

/// Cosines and sines of positions, each `[rows or 1, new, 1, head_dim / 2]`.
#[derive(Clone, Debug)]
pub(crate) struct Rotary {
    pub(super) cos: Tensor<4>,
    pub(super) sin: Tensor<4>,
}

impl RotaryTable {
    pub(crate) fn new(config: &ModelConfig) -> Self {
        let half = config.head_dim / 2;
        let frequencies = (0..half)
            .map(|i| {
                let frequency = config.rope_theta.powf(-2.0 * i as f64 / config.head_dim as f64);
                let Some(scaling) = config.rope_scaling else { return frequency };
                let original = scaling.original_max_position_embeddings;
                let wavelength = 2.0 * std::f64::consts::PI / frequency;
                let low = original / scaling.low_freq_factor;
                let high = original / scaling.high_freq_factor;
                if wavelength < high {
                    frequency
                } else if wavelength > low {
                    frequency / scaling.factor
                } else {
                    let smooth = (original / wavelength - scaling.low_freq_factor)
                        / (scaling.high_freq_factor - scaling.low_freq_factor);
                    (1.0 - smooth) * frequency / scaling.factor + smooth * frequency
                }
            })
            .collect();
        Self { frequencies }
    }

    /// Rotary embedding of given positions, `[1, positions, 1, head_dim / 2]`.
    pub(crate) fn at(&self, positions: impl Iterator<Item = u32>, device: &Device) -> Rotary {
        let half = self.frequencies.len();
        let (mut cos, mut sin) = (Vec::new(), Vec::new());
        for position in positions {
            for frequency in &self.frequencies {
                // f32 as in transformers, for agreement at long contexts.
                let angle = f64::from(position as f32 * *frequency as f32);
                cos.push(angle.cos() as f32);
                sin.push(angle.sin() as f32);
            }
        }
        let shape = [1, cos.len() / half, 1, half];
        let [cos, sin] = [cos, sin].map(|it| Tensor::from_data(TensorData::new(it, shape), device));
        Rotary { cos, sin }
    }

    /// Frequencies on a device, `[head_dim / 2]`, for [`Rotary::at_positions`].
    pub(crate) fn on(&self, device: &Device) -> Tensor<1> {
        let frequencies: Vec<f32> = self.frequencies.iter().map(|it| *it as f32).collect();
        let half = frequencies.len();
        Tensor::from_data(TensorData::new(frequencies, [half]), device)
    }
}

impl Rotary {
    /// Rotary embedding of given positions, `[rows * new]`, computed on the device.
    pub(crate) fn at_positions(
        frequencies: &Tensor<1>,
        positions: Tensor<1, Int>,
        [rows, new]: [usize; 2],
    ) -> Self {
        let [half] = frequencies.dims();
        let positions: Tensor<2> = positions.float().unsqueeze_dim(1);
        let angles = positions * frequencies.clone().unsqueeze();
        let shape = [rows, new, 1, half];
        Self { cos: angles.clone().cos().reshape(shape), sin: angles.sin().reshape(shape) }
    }

    /// Angles of 0, at which nothing is rotated.
    pub(crate) fn none(&self) -> Self {
        Self { cos: self.cos.ones_like(), sin: self.sin.zeros_like() }
    }

    /// Angles of some positions of one row.
    pub(crate) fn select(&self, positions: &Tensor<1, Int>) -> Self {
        let part = |it: &Tensor<4>| it.clone().select(1, positions.clone());
        Self { cos: part(&self.cos), sin: part(&self.sin) }
    }

    /// The angles as those of one row: `[1, rows * new, 1, head_dim / 2]`.
    pub(crate) fn flat(&self) -> Self {
        let [rows, new, _, half] = self.cos.dims();
        let shape = [1, rows * new, 1, half];
        Self { cos: self.cos.clone().reshape(shape), sin: self.sin.clone().reshape(shape) }
    }

    /// Rotates queries or keys, `[rows, new, heads, head_dim]`, and scales them.
    pub(crate) fn apply(&self, x: Tensor<4>, scale: f64) -> Tensor<4> {
        rotate(x, self.cos.clone(), self.sin.clone(), scale)
    }
}
