//! Logits of a batch, on the host or on their device, and sampling from them.

use burn::tensor::{Device, Int, Tensor, TensorData};
use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use super::SamplingParams;
use super::sampling::{Choice, choose};
use crate::TokenId;

/// Logits of some rows, `[rows, vocab]`.
#[expect(clippy::large_enum_variant, reason = "one value exists at a time, for one step")]
pub(crate) enum Logits {
    /// Row-major values.
    Host(Vec<f32>),
    /// Tensor on the device that computed it.
    Device(Tensor<2>),
}

/// Row of logits to sample from, with its sequence and random generator.
pub(crate) struct SampledRow<'a> {
    pub(crate) row: usize,
    pub(crate) sequence: &'a [TokenId],
    pub(crate) rng: &'a mut ChaCha8Rng,
}

/// Block size of the two-level inverse transform.
const BLOCK: usize = 512;

/// The largest f32 below 1.
const BELOW_ONE: f32 = 1.0 - f32::EPSILON / 2.0;

impl Logits {
    /// Selects rows by index; an index may repeat.
    pub(crate) fn select(self, rows: &[usize], vocab_size: usize) -> Self {
        match self {
            Self::Host(logits) => {
                let row = |row: &usize| &logits[row * vocab_size..][..vocab_size];
                Self::Host(rows.iter().flat_map(row).copied().collect())
            }
            Self::Device(logits) => {
                let device = logits.device();
                let rows: Vec<i32> = rows.iter().map(|it| *it as i32).collect();
                Self::Device(logits.select(0, column(rows, &device).squeeze_dim(1)))
            }
        }
    }

    /// Samples the next token of each sequence, in order, by [`choose`]. One uniform number is
    /// drawn per sequence.
    ///
    /// When sampling from the whole distribution (at any temperature), logits on a device stay
    /// there and three numbers per row are transferred. Truncated and penalised distributions are
    /// sampled on the host.
    pub(crate) fn choose(
        self,
        sampled: Vec<SampledRow<'_>>,
        vocab_size: usize,
        params: &SamplingParams,
    ) -> Vec<Choice> {
        let logits: Vec<f32> = match self {
            Self::Device(logits) if params.keeps_all_tokens() => {
                return choose_on_device(logits, sampled, params);
            }
            Self::Device(logits) => logits.into_data().iter::<f32>().collect(),
            Self::Host(logits) => logits,
        };
        let choose_row = |it: SampledRow<'_>| {
            let logits = &logits[it.row * vocab_size..][..vocab_size];
            choose(logits, it.sequence, params, it.rng)
        };
        sampled.into_iter().map(choose_row).collect()
    }
}

fn choose_on_device(
    logits: Tensor<2>,
    sampled: Vec<SampledRow<'_>>,
    params: &SamplingParams,
) -> Vec<Choice> {
    let [rows, _] = logits.dims();
    let mut uniforms = vec![0.5; rows];
    let mut order = Vec::with_capacity(sampled.len());
    for it in sampled {
        uniforms[it.row] = (it.rng.random::<f64>() as f32).min(BELOW_ONE);
        order.push(it.row);
    }
    let chosen = choose_rows(logits, uniforms, params.temperature);
    order.into_iter().map(|row| chosen[row]).collect()
}

/// [`choose`] for all rows at once, each with its uniform number, without truncation or penalty.
///
/// ```text
/// w_k = exp((l_k - max l) / temperature),   W_b = sum of w over block b,   target = u sum_b W_b
/// block:  the first b with W_0 + .. + W_b > target
/// token:  the first k of that block with W_0 + .. + W_(b-1) + w_(first of b) + .. + w_k > target
/// ```
///
/// Equals the inverse transform over all weights in f32, with the rounding of two short sums
/// instead of one long one. A block has 512 weights. Only a token and two log-probabilities per row
/// leave the device.
///
/// # Shapes
///
/// - logits: `[rows, vocab]`; uniforms: `[rows]`, each in `[0, 1)`
fn choose_rows(logits: Tensor<2>, uniforms: Vec<f32>, temperature: f32) -> Vec<Choice> {
    let device = logits.device();
    let [rows, vocab_size] = logits.dims();
    let shifted = logits.clone() - logits.max_dim(1);
    let log_sum = shifted.clone().exp().sum_dim(1).log();
    let (token, sampling_log_prob) = if temperature <= 0.0 {
        (shifted.clone().argmax(1), Tensor::zeros([rows, 1], &device))
    } else {
        let scaled = shifted.clone() / temperature;
        let (token, total) = inverse_transform(scaled.clone().exp(), uniforms);
        let log_prob = scaled.gather(1, token.clone()) - total.log();
        (token, log_prob)
    };
    let log_prob = shifted.gather(1, token.clone()) - log_sum;
    // Token identifiers are exact in f32 below 2^24, so one transfer carries all results.
    assert!(vocab_size < 1 << 24, "a vocabulary of {vocab_size} tokens");
    let numbers = Tensor::cat(vec![token.float(), log_prob, sampling_log_prob], 1).into_data();
    let numbers: Vec<f32> = numbers.iter::<f32>().collect();
    let choice = |it: &[f32; 3]| Choice {
        token: it[0] as TokenId,
        log_prob: it[1],
        sampling_log_prob: it[2],
    };
    numbers.as_chunks::<3>().0.iter().map(choice).collect()
}

/// Index in each row at which the running sum exceeds its uniform share of the total, and the
/// total: `[rows, 1]` each.
fn inverse_transform(weights: Tensor<2>, uniforms: Vec<f32>) -> (Tensor<2, Int>, Tensor<2>) {
    let device = weights.device();
    let [rows, num_weights] = weights.dims();
    let num_blocks = num_weights.div_ceil(BLOCK);
    let missing = num_blocks * BLOCK - num_weights;
    let padded = match missing {
        0 => weights,
        _ => Tensor::cat(vec![weights, Tensor::zeros([rows, missing], &device)], 1),
    };
    let blocks = padded.reshape([rows, num_blocks, BLOCK]);
    let sums = blocks.clone().sum_dim(2).reshape([rows, num_blocks]);
    let running = sums.clone().cumsum(1);
    let total = running.clone().slice([0..rows, num_blocks - 1..num_blocks]);
    let uniforms = Tensor::<2>::from_data(TensorData::new(uniforms, [rows, 1]), &device);
    let target = uniforms * total.clone();

    let block = first_above(&running, &sums, &target);
    let before = (running - sums).gather(1, block.clone());
    let place = block.clone().reshape([rows, 1, 1]).expand([rows, 1, BLOCK]);
    let inside = blocks.gather(1, place).reshape([rows, BLOCK]);
    let offset = first_above(&inside.clone().cumsum(1), &inside, &(target - before));
    (block * BLOCK as i32 + offset, total)
}

/// First column whose running sum exceeds the target; if rounding leaves none, the last column with
/// a nonzero weight.
fn first_above(running: &Tensor<2>, weights: &Tensor<2>, target: &Tensor<2>) -> Tensor<2, Int> {
    let [rows, columns] = running.dims();
    let device = running.device();
    let target = target.clone().expand([rows, columns]);
    let first = running.clone().lower_equal(target).int().sum_dim(1);
    let numbers = Tensor::<1, Int>::arange(0..columns as i64, &device);
    let numbers = numbers.reshape([1, columns]).expand([rows, columns]);
    let last = (numbers * weights.clone().greater_elem(0.0).int()).max_dim(1);
    first.min_pair(last)
}

fn column(values: Vec<i32>, device: &Device) -> Tensor<2, Int> {
    let len = values.len();
    Tensor::from_data(TensorData::new(values, [len, 1]), device)
}

#[cfg(test)]
#[cfg(feature = "flex")]
mod tests {
    use zs_core::{Domain, StreamKey};

    use super::*;

    /// Rows of a peaked and of a flat distribution over `vocab_size` tokens.
    fn rows(vocab_size: usize) -> Vec<Vec<f32>> {
        let row = |row: u64| {
            let mut rng = StreamKey::new(row).rng(Domain::Weights);
            let scale = [0.1, 1.0, 8.0, 60.0][row as usize % 4];
            (0..vocab_size).map(|_| scale * (rng.random::<f32>() - 0.5)).collect()
        };
        (0..8).map(row).collect()
    }

    /// Compares device sampling with [`choose`] for the same random numbers.
    #[track_caller]
    fn check(vocab_size: usize, params: &SamplingParams) {
        let logits = rows(vocab_size);
        let data = TensorData::new(logits.concat(), [logits.len(), vocab_size]);
        let there = Tensor::<2>::from_data(data, &Device::flex());
        let rng = |row: usize, draw: u64| {
            StreamKey { sample: row as u32, ..StreamKey::new(draw) }.rng(Domain::Sampling)
        };
        for draw in 0..40 {
            // Every second row in reverse order.
            let order: Vec<usize> = (0..logits.len()).rev().step_by(2).collect();
            let mut rngs: Vec<ChaCha8Rng> = order.iter().map(|it| rng(*it, draw)).collect();
            let sampled = order.iter().zip(&mut rngs).map(|(&row, rng)| SampledRow {
                row,
                sequence: &[],
                rng,
            });
            let found = Logits::Device(there.clone()).choose(sampled.collect(), vocab_size, params);
            for (&row, found) in order.iter().zip(found) {
                let expected = choose(&logits[row], &[], params, &mut rng(row, draw));
                assert_eq!(found.token, expected.token, "{row} {draw} {params:?}");
                assert!(
                    (found.log_prob - expected.log_prob).abs() < 1e-4,
                    "{found:?} {expected:?}"
                );
                let difference = found.sampling_log_prob - expected.sampling_log_prob;
                assert!(difference.abs() < 1e-4, "{found:?} {expected:?}");
            }
            for (rng_after, row) in rngs.iter_mut().zip(&order) {
                let mut other = rng(*row, draw);
                let _: f64 = other.random();
                assert_eq!(rng_after.random::<u64>(), other.random::<u64>(), "one draw a token");
            }
        }
    }

    #[test]
    fn device_sampling_equals_host_sampling() {
        for vocab_size in [3, 512, 700, 3000] {
            for temperature in [0.0, 0.7, 1.0, 1.5] {
                check(vocab_size, &SamplingParams { temperature, ..SamplingParams::default() });
            }
        }
        // Truncated and penalised distributions are sampled on the host.
        check(700, &SamplingParams { top_k: 5, ..SamplingParams::default() });
        check(700, &SamplingParams { min_p: 0.2, ..SamplingParams::default() });
    }

    /// The caller refuses such a choice.
    #[test]
    fn a_row_that_is_not_finite_has_no_finite_log_prob() {
        for value in [f32::NAN, f32::INFINITY] {
            for temperature in [0.0, 1.0, 0.5] {
                let params = SamplingParams { temperature, ..SamplingParams::default() };
                let rows = vec![0.5, value, 0.25, 0.5, 0.25, 0.25];
                let data = TensorData::new(rows.clone(), [2, 3]);
                let there = Logits::Device(Tensor::from_data(data, &Device::flex()));
                for logits in [Logits::Host(rows), there] {
                    let mut rngs = [0, 1].map(|it| StreamKey::new(it).rng(Domain::Sampling));
                    let sampled = rngs.iter_mut().enumerate();
                    let sampled = sampled.map(|(row, rng)| SampledRow { row, sequence: &[], rng });
                    let found = logits.choose(sampled.collect(), 3, &params);
                    let finite: Vec<bool> =
                        found.iter().map(|it| it.log_prob.is_finite()).collect();
                    assert_eq!(finite, [false, true], "{value} {temperature} {found:?}");
                }
            }
        }
    }

    #[track_caller]
    fn check_draw(weights: &[f32], uniform: f32, expected: i32) {
        let data = TensorData::new(weights.to_vec(), [1, weights.len()]);
        let weights = Tensor::<2>::from_data(data, &Device::flex());
        let (index, _) = inverse_transform(weights, vec![uniform]);
        assert_eq!(index.into_scalar::<i32>(), expected, "{uniform}");
    }

    #[test]
    fn inverse_transform_picks_the_first_running_sum_above_the_target() {
        let weights = [0.0, 0.5, 0.0, 0.25, 0.25, 0.0];
        for (uniform, expected) in
            [(0.0, 1), (0.49, 1), (0.5, 3), (0.74, 3), (0.75, 4), (BELOW_ONE, 4)]
        {
            check_draw(&weights, uniform, expected);
        }
        // At block borders: the last weight of one block and the first of the next.
        let mut wide = vec![0.0; 3 * BLOCK];
        (wide[BLOCK - 1], wide[BLOCK], wide[2 * BLOCK + 7]) = (1.0, 1.0, 2.0);
        for (uniform, expected) in
            [(0.2, BLOCK - 1), (0.25, BLOCK), (0.5, 2 * BLOCK + 7), (BELOW_ONE, 2 * BLOCK + 7)]
        {
            check_draw(&wide, uniform, expected as i32);
        }
    }

    #[test]
    fn rows_are_selected_on_the_host_and_on_the_device() {
        let host = Logits::Host(vec![1.0, 2.0, 3.0, 4.0]).select(&[1, 0, 1], 2);
        let data = TensorData::new(vec![1.0_f32, 2.0, 3.0, 4.0], [2, 2]);
        let there = Tensor::<2>::from_data(data, &Device::flex());
        let there = Logits::Device(there).select(&[1, 0, 1], 2);
        let (Logits::Host(host), Logits::Device(there)) = (host, there) else {
            panic!("logits stay on the device")
        };
        assert_eq!(host, [3.0, 4.0, 1.0, 2.0, 3.0, 4.0]);
        assert_eq!(there.into_data().iter::<f32>().collect::<Vec<_>>(), host);
    }
}
