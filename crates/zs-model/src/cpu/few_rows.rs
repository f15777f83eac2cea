//! Product of few rows with a bfloat16 matrix, at the speed at which the matrix is read.
//!
//! A decoding step multiplies one row per sequence. The general product packs the matrix first, which
//! takes several times as long as such a product itself.

use std::arch::x86_64::{
    __m512bh, _MM_HINT_T0, _mm_prefetch, _mm512_dpbf16_ps, _mm512_loadu_epi16,
    _mm512_reduce_add_ps, _mm512_setzero_ps,
};

use half::bf16;
use rayon::prelude::*;

use super::product::has_bf16_products;
use super::slices::part_len;

/// Maximum number of rows; with more, the general product is faster.
const MAX_ROWS: usize = 24;

/// Elements that an instruction multiplies.
const LANES: usize = 32;

/// Distance at which weights are prefetched, in blocks of columns. The products of a block take longer
/// than the hardware looks ahead.
const PREFETCH: usize = 2;

/// Product `x W^T`, summed in f32; `None` if there are many rows or the CPU has no such instructions.
///
/// ```text
/// y_ij = sum over k of x_ik w_jk
/// ```
///
/// # Shapes
///
/// - x: `[rows, inner]`; weight: `[columns, inner]`; output: `[rows, columns]`
pub(crate) fn few_rows(x: &[bf16], weight: &[bf16], inner: usize) -> Option<Vec<f32>> {
    let (rows, columns) = (x.len() / inner, weight.len() / inner);
    if rows > MAX_ROWS || !has_bf16_products() {
        return None;
    }
    let mut by_column = vec![0.0; columns * rows];
    let part = part_len(inner);
    weight.par_chunks(part).zip(by_column.par_chunks_mut(part / inner * rows)).for_each(
        |(weight, out)| {
            #[expect(
                unsafe_code,
                reason = "functions compiled for a vector unit are unsafe to call"
            )]
            // SAFETY: the CPU has the instructions, see above.
            unsafe {
                dots(x, weight, inner, out);
            }
        },
    );
    let mut out = vec![0.0; rows * columns];
    for (row, out) in out.chunks_exact_mut(columns).enumerate() {
        let column = by_column.iter().skip(row).step_by(rows);
        out.iter_mut().zip(column).for_each(|(out, it)| *out = *it);
    }
    Some(out)
}

/// Writes the products of every row with every column, `[columns, rows]`.
#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
fn dots(x: &[bf16], weight: &[bf16], inner: usize, out: &mut [f32]) {
    let rows = x.len() / inner;
    // Columns stay in the innermost cache while the rows pass them.
    for (weight, out) in weight.chunks(2 * inner).zip(out.chunks_mut(2 * rows)) {
        let mut first = 0;
        while first < rows {
            let (x, out) = (&x[first * inner..], &mut out[first..]);
            first += match (rows - first, weight.len() / inner) {
                (8.., 2) => block::<8, 2>(x, weight, inner, out, rows),
                (4.., 2) => block::<4, 2>(x, weight, inner, out, rows),
                (_, 2) => block::<1, 2>(x, weight, inner, out, rows),
                _ => block::<1, 1>(x, weight, inner, out, rows),
            };
        }
    }
}

/// Writes the products of the first `R` rows with the first `C` columns; returns `R`.
#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
#[inline]
fn block<const R: usize, const C: usize>(
    x: &[bf16],
    weight: &[bf16],
    inner: usize,
    out: &mut [f32],
    rows: usize,
) -> usize {
    let (x, weight) = (&x[..R * inner], &weight[..C * inner]);
    let mut sums = [[_mm512_setzero_ps(); C]; R];
    let whole = inner / LANES * LANES;
    for at in (0..whole).step_by(LANES) {
        let mut w = [load(weight, at); C];
        for (column, w) in w.iter_mut().enumerate() {
            prefetch(weight, (PREFETCH * C + column) * inner + at);
            *w = load(weight, column * inner + at);
        }
        for (row, sums) in sums.iter_mut().enumerate() {
            let x = load(x, row * inner + at);
            for (sum, w) in sums.iter_mut().zip(w) {
                *sum = _mm512_dpbf16_ps(*sum, x, w);
            }
        }
    }
    for (row, sums) in sums.iter().enumerate() {
        for (column, sum) in sums.iter().enumerate() {
            let (x, w) = (&x[row * inner..][whole..inner], &weight[column * inner..][whole..inner]);
            let rest: f32 = x.iter().zip(w).map(|(x, w)| x.to_f32() * w.to_f32()).sum();
            out[column * rows + row] = _mm512_reduce_add_ps(*sum) + rest;
        }
    }
    R
}

/// Elements from `at` on.
#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
#[inline]
#[expect(unsafe_code, reason = "loads through a pointer, and vectors of one size as another type")]
fn load(of: &[bf16], at: usize) -> __m512bh {
    debug_assert!(at + LANES <= of.len());
    // SAFETY: `block` calls this with whole vectors of its rows and columns only; any bits are a
    // vector of bfloat16 numbers.
    unsafe { std::mem::transmute(_mm512_loadu_epi16(of.as_ptr().add(at).cast())) }
}

/// Prefetches the element `at`, which may lie beyond the end.
#[inline]
fn prefetch(of: &[bf16], at: usize) {
    #[expect(unsafe_code, reason = "an instruction of the CPU")]
    // SAFETY: a prefetch reads nothing and faults at no address.
    unsafe {
        _mm_prefetch::<_MM_HINT_T0>(of.as_ptr().wrapping_add(at).cast());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rows and columns beside a multiple of the blocks, against sums in f64.
    #[test]
    fn products_of_few_rows() {
        for [rows, inner, columns] in [[1, 1, 1], [3, 16, 2], [8, 40, 5], [13, 67, 2049]] {
            let numbers = |len: usize, salt: f32| -> Vec<bf16> {
                (0..len).map(|it| bf16::from_f32(((it as f32 + salt) * 12.9898).sin())).collect()
            };
            let (x, weight) = (numbers(rows * inner, 0.1), numbers(columns * inner, 0.7));
            let Some(found) = few_rows(&x, &weight, inner) else {
                return assert!(!has_bf16_products());
            };
            assert_eq!(found.len(), rows * columns);
            for (at, found) in found.iter().enumerate() {
                let (row, column) = (at / columns, at % columns);
                let (x, w) = (&x[row * inner..], &weight[column * inner..(column + 1) * inner]);
                let expected: f64 = x.iter().zip(w).map(|(x, w)| x.to_f64() * w.to_f64()).sum();
                let error = (f64::from(*found) - expected).abs();
                assert!(error < 1e-6 * inner as f64, "{rows} {inner} {columns}: {error}");
            }
        }
    }

    #[test]
    fn many_rows_are_left_to_the_general_product() {
        assert!(few_rows(&[bf16::ONE; 2 * (MAX_ROWS + 1)], &[bf16::ONE; 6], 2).is_none());
    }
}
