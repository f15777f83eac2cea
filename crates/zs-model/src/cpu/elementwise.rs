//! Element-wise operations and row reductions, compiled for several vector instruction sets.
//!
//! Sums use [`LANES`] partial sums in a fixed order for every vector width, so results are bitwise
//! reproducible on a machine.

use half::bf16;
use multiversion::multiversion;

/// Number of partial sums of a reduction.
const LANES: usize = 32;

/// `e^x` with an error of about 2 units in the last place; clamped to the values at ±87 beyond
/// them.
///
/// ```text
/// e^x = 2^n e^r,   n = round(x / ln 2),   |r| <= ln(2) / 2
/// ```
///
/// # References
///
/// - Cephes, `expf`: polynomial coefficients
#[inline(always)]
#[expect(clippy::excessive_precision, reason = "as published")]
pub(crate) fn exp(x: f32) -> f32 {
    // Adding 1.5 * 2^23 leaves the nearest integer in the low bits.
    const SHIFT: f32 = 12_582_912.0;
    let x = x.clamp(-87.0, 87.0);
    let shifted = x.mul_add(std::f32::consts::LOG2_E, SHIFT);
    let n = shifted - SHIFT;
    let r = n.mul_add(-0.693_359_375, x);
    let r = n.mul_add(2.121_944_40e-4, r);
    let mut p = 1.987_569_150_0e-4_f32;
    p = p.mul_add(r, 1.398_199_950_7e-3);
    p = p.mul_add(r, 8.333_451_907_3e-3);
    p = p.mul_add(r, 4.166_579_589_4e-2);
    p = p.mul_add(r, 1.666_666_545_9e-1);
    p = p.mul_add(r, 5.000_000_120_1e-1);
    let e = p.mul_add(r * r, r) + 1.0;
    e * f32::from_bits((shifted.to_bits() << 23).wrapping_add(0x3f80_0000))
}

/// Sums `term` over pairs of elements of two rows.
#[inline(always)]
pub(super) fn reduce(a: &[f32], b: &[f32], term: impl Fn(f32, f32) -> f32) -> f32 {
    let mut sums = [0.0_f32; LANES];
    let (a_chunks, a_rest) = a.as_chunks::<LANES>();
    let (b_chunks, b_rest) = b.as_chunks::<LANES>();
    for (a, b) in a_chunks.iter().zip(b_chunks) {
        for lane in 0..LANES {
            sums[lane] += term(a[lane], b[lane]);
        }
    }
    for (lane, (a, b)) in a_rest.iter().zip(b_rest).enumerate() {
        sums[lane] += term(*a, *b);
    }
    fold(sums, |a, b| a + b)
}

#[inline(always)]
pub(super) fn largest(row: &[f32]) -> f32 {
    let mut best = [f32::NEG_INFINITY; LANES];
    let (chunks, rest) = row.as_chunks::<LANES>();
    for chunk in chunks {
        for lane in 0..LANES {
            best[lane] = if chunk[lane] > best[lane] { chunk[lane] } else { best[lane] };
        }
    }
    for (lane, it) in rest.iter().enumerate() {
        best[lane] = best[lane].max(*it);
    }
    fold(best, f32::max)
}

#[inline(always)]
fn fold(mut lanes: [f32; LANES], join: impl Fn(f32, f32) -> f32) -> f32 {
    let mut half = LANES / 2;
    while half > 0 {
        for lane in 0..half {
            lanes[lane] = join(lanes[lane], lanes[lane + half]);
        }
        half /= 2;
    }
    lanes[0]
}

/// RMS norm of each row.
///
/// ```text
/// y = x / sqrt(mean(x^2) + eps) * weight
/// ```
#[multiversion(targets("x86_64+avx512f+avx512vl+avx512dq+avx512bw+avx2+fma", "x86_64+avx2+fma"))]
pub(crate) fn rms_norm(x: &[f32], weight: &[f32], eps: f32, y: &mut [f32]) {
    let width = weight.len();
    for (x, y) in x.chunks_exact(width).zip(y.chunks_exact_mut(width)) {
        let scale = 1.0 / (reduce(x, x, |a, b| a * b) / width as f32 + eps).sqrt();
        for ((y, x), weight) in y.iter_mut().zip(x).zip(weight) {
            *y = x * scale * weight;
        }
    }
}

/// Gradients of [`rms_norm`]: writes that of the input, adds to that of the weight.
///
/// ```text
/// s = 1 / rms(x)
/// dx = s w dy - x s^3 mean(w dy x),   dw = sum over rows of dy x s
/// ```
#[multiversion(targets("x86_64+avx512f+avx512vl+avx512dq+avx512bw+avx2+fma", "x86_64+avx2+fma"))]
pub(crate) fn rms_norm_backward(
    x: &[f32],
    weight: &[f32],
    eps: f32,
    dy: &[f32],
    dx: &mut [f32],
    dweight: &mut [f32],
) {
    let width = weight.len();
    let rows = x.chunks_exact(width).zip(dy.chunks_exact(width)).zip(dx.chunks_exact_mut(width));
    for ((x, dy), dx) in rows {
        let scale = 1.0 / (reduce(x, x, |a, b| a * b) / width as f32 + eps).sqrt();
        let mut sums = [0.0_f32; LANES];
        let chunks = x.chunks(LANES).zip(dy.chunks(LANES)).zip(weight.chunks(LANES));
        for ((x, dy), weight) in chunks {
            for (((sum, x), dy), weight) in sums.iter_mut().zip(x).zip(dy).zip(weight) {
                *sum += x * dy * weight;
            }
        }
        let mean = fold(sums, |a, b| a + b) / width as f32;
        let back = mean * scale * scale * scale;
        let values = x.iter().zip(dy).zip(weight).zip(dx.iter_mut()).zip(dweight.iter_mut());
        for ((((x, dy), weight), dx), dweight) in values {
            *dx = scale * weight * dy - x * back;
            *dweight += dy * x * scale;
        }
    }
}

/// Rounds to the nearest bfloat16, ties to even.
#[multiversion(targets("x86_64+avx512f+avx512vl+avx512dq+avx512bw+avx2+fma", "x86_64+avx2+fma"))]
pub(crate) fn round(values: &[f32], out: &mut [bf16]) {
    for (value, out) in values.iter().zip(out) {
        let bits = value.to_bits();
        // A carry out of the fraction raises the exponent, up to infinity.
        let rounded = bits.wrapping_add(0x7fff + (bits >> 16 & 1)) >> 16;
        let quiet_nan = bits >> 16 | 0x40;
        *out = bf16::from_bits(if value.is_nan() { quiet_nan } else { rounded } as u16);
    }
}

/// Computes `silu(gate) * up`.
#[multiversion(targets("x86_64+avx512f+avx512vl+avx512dq+avx512bw+avx2+fma", "x86_64+avx2+fma"))]
pub(crate) fn swiglu(gate: &[f32], up: &[f32], out: &mut [f32]) {
    for ((out, gate), up) in out.iter_mut().zip(gate).zip(up) {
        *out = gate / (1.0 + exp(-gate)) * up;
    }
}

/// Gauss error function with an error below 1e-6.
///
/// ```text
/// erf(x) = x p(x^2) / q(x^2),   |x| <= 4; beyond it the value at ±4
/// ```
///
/// # References
///
/// - Eigen, `generic_fast_erf_float`: coefficients of the rational minimax approximation
#[inline(always)]
#[expect(clippy::excessive_precision, reason = "as published")]
fn erf(x: f32) -> f32 {
    let x = x.clamp(-4.0, 4.0);
    let square = x * x;
    let mut p = -2.726_142_258_013_06e-10_f32;
    for coefficient in [
        2.770_681_424_959_02e-8,
        -2.101_024_020_825_08e-6,
        -5.692_506_394_623_46e-5,
        -7.349_906_303_268_55e-4,
        -2.954_599_808_540_25e-3,
        -1.609_603_326_224_15e-2,
    ] {
        p = p.mul_add(square, coefficient);
    }
    let mut q = -1.456_607_184_649_96e-5_f32;
    for coefficient in [
        -2.133_740_552_789_05e-4,
        -1.682_826_974_382_03e-3,
        -7.373_329_167_204_68e-3,
        -1.426_473_905_141_89e-2,
    ] {
        q = q.mul_add(square, coefficient);
    }
    x * p / q
}

/// GELU of each row plus a bias.
///
/// ```text
/// y = a / 2 (1 + erf(a / sqrt 2)),   a = x + b
/// ```
#[multiversion(targets("x86_64+avx512f+avx512vl+avx512dq+avx512bw+avx2+fma", "x86_64+avx2+fma"))]
pub(crate) fn bias_gelu(x: &[f32], bias: &[f32], out: &mut [f32]) {
    let width = bias.len().max(1);
    for (x, out) in x.chunks_exact(width).zip(out.chunks_exact_mut(width)) {
        for ((out, x), bias) in out.iter_mut().zip(x).zip(bias) {
            let a = x + bias;
            *out = 0.5 * a * (1.0 + erf(a * std::f32::consts::FRAC_1_SQRT_2));
        }
    }
}

/// Layer norm of the sums of two matrices and a bias, row by row.
///
/// ```text
/// s = x + d + b,   y = (s - mean(s)) / sqrt(var(s) + eps) * weight + bias
/// ```
#[multiversion(targets("x86_64+avx512f+avx512vl+avx512dq+avx512bw+avx2+fma", "x86_64+avx2+fma"))]
pub(crate) fn add_layer_norm(
    [x, delta]: [&[f32]; 2],
    [delta_bias, weight, bias]: [&[f32]; 3],
    eps: f32,
    y: &mut [f32],
) {
    let width = weight.len().max(1);
    let rows = x.chunks_exact(width).zip(delta.chunks_exact(width));
    for ((x, delta), y) in rows.zip(y.chunks_exact_mut(width)) {
        for (((y, x), delta), bias) in y.iter_mut().zip(x).zip(delta).zip(delta_bias) {
            *y = x + delta + bias;
        }
        let mean = reduce(y, y, |it, _| it) / width as f32;
        y.iter_mut().for_each(|it| *it -= mean);
        let scale = 1.0 / (reduce(y, y, |a, b| a * b) / width as f32 + eps).sqrt();
        for ((y, weight), bias) in y.iter_mut().zip(weight).zip(bias) {
            *y = *y * scale * weight + bias;
        }
    }
}

/// Gradients of [`swiglu`] with respect to gate and up.
///
/// ```text
/// s = 1 / (1 + exp(-g))
/// dg = d u s (1 + g (1 - s)),   du = d g s
/// ```
#[multiversion(targets("x86_64+avx512f+avx512vl+avx512dq+avx512bw+avx2+fma", "x86_64+avx2+fma"))]
pub(crate) fn swiglu_backward(
    gate: &[f32],
    up: &[f32],
    upstream: &[f32],
    [gate_grads, up_grads]: [&mut [f32]; 2],
) {
    let inputs = gate.iter().zip(up).zip(upstream);
    for (((g, u), d), (gate_grad, up_grad)) in inputs.zip(gate_grads.iter_mut().zip(up_grads)) {
        let sigmoid = 1.0 / (1.0 + exp(-g));
        *gate_grad = d * u * sigmoid * (1.0 + g * (1.0 - sigmoid));
        *up_grad = d * g * sigmoid;
    }
}

/// Softmax of the first `visible` elements of each row, in place; the others become 0.
#[multiversion(targets("x86_64+avx512f+avx512vl+avx512dq+avx512bw+avx2+fma", "x86_64+avx2+fma"))]
pub(crate) fn softmax(scores: &mut [f32], width: usize, visible: &[usize]) {
    for (row, &visible) in scores.chunks_exact_mut(width).zip(visible) {
        let (row, hidden) = row.split_at_mut(visible);
        hidden.fill(0.0);
        let max = largest(row);
        for it in row.iter_mut() {
            *it = exp(*it - max);
        }
        let scale = 1.0 / reduce(row, row, |it, _| it);
        row.iter_mut().for_each(|it| *it *= scale);
    }
}

/// Backward pass of [`softmax`], in place: maps gradients of the output to those of the input.
///
/// ```text
/// ds = p (dp - sum(p dp))
/// ```
#[multiversion(targets("x86_64+avx512f+avx512vl+avx512dq+avx512bw+avx2+fma", "x86_64+avx2+fma"))]
pub(crate) fn softmax_backward(probabilities: &[f32], grads: &mut [f32], width: usize) {
    let rows = probabilities.chunks_exact(width).zip(grads.chunks_exact_mut(width));
    for (p, grads) in rows {
        let mean = reduce(p, grads, |p, d| p * d);
        for (d, p) in grads.iter_mut().zip(p) {
            *d = p * (*d - mean);
        }
    }
}

/// Log-probability of a target, entropy and log-sum-exp of each row of logits.
///
/// ```text
/// L = m + log S,   S = sum exp(z - m),   H = log S - sum (z - m) exp(z - m) / S
/// ```
///
/// # Shapes
///
/// - logits: `[n, vocab]`; targets: `[n]`; out: three numbers a row, `[n, 3]`
#[multiversion(targets("x86_64+avx512f+avx512vl+avx512dq+avx512bw+avx2+fma", "x86_64+avx2+fma"))]
pub(crate) fn token_scores(logits: &[f32], targets: &[usize], out: &mut [f32]) {
    let vocab = logits.len() / targets.len().max(1);
    let (out, _) = out.as_chunks_mut::<3>();
    for ((row, &target), out) in logits.chunks_exact(vocab.max(1)).zip(targets).zip(out) {
        let max = largest(row);
        let mut sums = [0.0_f32; LANES];
        let mut weighted = [0.0_f32; LANES];
        let (chunks, rest) = row.as_chunks::<LANES>();
        for chunk in chunks {
            for lane in 0..LANES {
                let z = chunk[lane] - max;
                let e = exp(z);
                sums[lane] += e;
                weighted[lane] += e * z;
            }
        }
        for (lane, it) in rest.iter().enumerate() {
            let z = it - max;
            let e = exp(z);
            sums[lane] += e;
            weighted[lane] += e * z;
        }
        let sum = fold(sums, |a, b| a + b);
        let log = sum.ln();
        let entropy = log - fold(weighted, |a, b| a + b) / sum;
        let log_sum = max + log;
        *out = [row[target] - log_sum, entropy, log_sum];
    }
}

/// Replaces rows of logits by the gradients of a loss on log-probabilities and entropies.
///
/// ```text
/// dz_k = g (1[k = target] - p_k) - h p_k (log p_k + H),   log p_k = z_k - L
/// ```
///
/// - `g`, `h`: derivatives of the loss with respect to the row's log-probability and entropy
/// - scores: of [`token_scores`]
#[multiversion(targets("x86_64+avx512f+avx512vl+avx512dq+avx512bw+avx2+fma", "x86_64+avx2+fma"))]
pub(crate) fn token_scores_backward(
    logits: &mut [f32],
    targets: &[usize],
    scores: &[f32],
    g: &[f32],
    h: &[f32],
) {
    let vocab = logits.len() / targets.len().max(1);
    let (scores, _) = scores.as_chunks::<3>();
    let rows = logits.chunks_exact_mut(vocab.max(1)).zip(scores).zip(targets);
    for (((row, [_, entropy, log_sum]), &target), (&g, &h)) in rows.zip(g.iter().zip(h)) {
        if h == 0.0 {
            row.iter_mut().for_each(|z| *z = -g * exp(*z - log_sum));
        } else {
            for z in row.iter_mut() {
                let log_p = *z - log_sum;
                *z = -exp(log_p) * (g + h * (log_p + entropy));
            }
        }
        row[target] += g;
    }
}

/// Rotates the two halves of each head against each other, in place, by the given angles of each
/// row, and scales the result.
///
/// ```text
/// (a, b) -> scale (a cos - b sin, b cos + a sin)
/// ```
///
/// # Shapes
///
/// - x: rows of `heads` heads with `2 half` elements each; cos, sin: `[rows, half]`
#[multiversion(targets("x86_64+avx512f+avx512vl+avx512dq+avx512bw+avx2+fma", "x86_64+avx2+fma"))]
pub(crate) fn rotate(
    x: &mut [f32],
    heads: usize,
    half: usize,
    (cos, sin): (&[f32], &[f32]),
    scale: f32,
) {
    let angles = cos.chunks_exact(half).zip(sin.chunks_exact(half));
    for (row, (cos, sin)) in x.chunks_mut(2 * half * heads).zip(angles) {
        for head in row.chunks_exact_mut(2 * half) {
            let (first, second) = head.split_at_mut(half);
            for (((a, b), cos), sin) in first.iter_mut().zip(second).zip(cos).zip(sin) {
                let (x, y) = (*a, *b);
                *a = (x * cos - y * sin) * scale;
                *b = (y * cos + x * sin) * scale;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exp_agrees_with_double_precision() {
        for step in -8_600..8_600 {
            let x = step as f32 / 100.0;
            let expected = f64::from(x).exp();
            let error = (f64::from(exp(x)) - expected).abs() / expected;
            assert!(error < 2.5e-7, "{x}: {error}");
        }
        assert!(exp(-1e9) < 1e-37 && exp(0.0) == 1.0);
    }

    #[test]
    fn rounds_to_the_nearest_even_bf16() {
        let halves = [1.0 + 2_f32.powi(-8), 1.0 + 3.0 * 2_f32.powi(-8), -257.0, 259.0];
        let edges = [0.0, -0.0, 1e-40, f32::MAX, f32::INFINITY, f32::NEG_INFINITY, f32::NAN];
        let many = (0..1000).map(|it| (it as f32 * 0.37).sin() * 10_f32.powi(it % 60 - 30));
        let values: Vec<f32> = halves.into_iter().chain(edges).chain(many).collect();
        let mut found = vec![bf16::ZERO; values.len()];
        round(&values, &mut found);
        for (value, found) in values.iter().zip(found) {
            assert_eq!(found.to_bits(), bf16::from_f32(*value).to_bits(), "{value}");
        }
    }

    #[test]
    fn softmax_is_zero_beyond_the_visible_elements() {
        let mut rows = [0.0, 9.0, 9.0, 1.0, 1.0, 9.0];
        softmax(&mut rows, 3, &[1, 2]);
        assert_eq!(rows, [1.0, 0.0, 0.0, 0.5, 0.5, 0.0]);
    }

    #[test]
    fn scores_of_a_uniform_row() {
        let mut scores = [0.0; 3];
        token_scores(&[3.0, 3.0, 3.0, 3.0], &[1], &mut scores);
        let four = 4.0_f32.ln();
        for (found, expected) in scores.iter().zip([-four, four, 3.0 + four]) {
            assert!((found - expected).abs() < 1e-6, "{scores:?}");
        }
    }
}
