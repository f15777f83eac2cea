//! Matrices of bfloat16 numbers in the order in which the vector unit multiplies them.
//!
//! Sampling multiplies the same weights again and again, by one row a sequence in a decoding step. The
//! general product packs its operands at every call, which takes longer than such a product itself.

use std::borrow::Cow;

use half::bf16;
use multiversion::multiversion;
use rayon::prelude::*;

/// Columns of a panel: two vectors of sums.
const PANEL: usize = 32;

/// Elements of a panel for two rows of the matrix.
const PAIR: usize = 2 * PANEL;

/// Matrix `[inner, columns]`, in panels of adjacent columns.
///
/// A panel holds rows `2 k` and `2 k + 1` of its columns next to each other, as the instruction for
/// dot products wants them, so a product reads the matrix once, from its start to its end.
///
/// # Shapes
///
/// - panels: `[columns / 32, inner / 2, 32, 2]`, both quotients rounded up, filled with zeros
#[derive(Clone, Debug)]
pub(crate) struct PackedMatrix {
    panels: Vec<bf16>,
    inner: usize,
    columns: usize,
}

impl PackedMatrix {
    /// Rounds and packs a matrix given by its elements.
    pub(crate) fn new(
        [inner, columns]: [usize; 2],
        at: impl Fn(usize, usize) -> f32 + Sync,
    ) -> Self {
        let panel_len = inner.div_ceil(2) * PAIR;
        let mut panels = vec![bf16::ZERO; columns.div_ceil(PANEL) * panel_len];
        panels.par_chunks_exact_mut(panel_len.max(1)).enumerate().for_each(|(panel, out)| {
            for (index, out) in out.iter_mut().enumerate() {
                let row = index / PAIR * 2 + index % 2;
                let column = panel * PANEL + index % PAIR / 2;
                if row < inner && column < columns {
                    *out = bf16::from_f32(at(row, column));
                }
            }
        });
        Self { panels, inner, columns }
    }

    /// Number of rows and of columns.
    pub(crate) fn shape(&self) -> [usize; 2] {
        [self.inner, self.columns]
    }

    /// Elements of a column.
    pub(crate) fn column(&self, column: usize) -> impl Iterator<Item = bf16> {
        assert!(column < self.columns, "column {column} of {}", self.columns);
        let panel = &self.panels[column / PANEL * self.panel_len()..][..self.panel_len()];
        let first = column % PANEL * 2;
        panel.chunks_exact(PAIR).flat_map(move |it| [it[first], it[first + 1]]).take(self.inner)
    }

    /// Product `x W`, summed in f32.
    ///
    /// ```text
    /// y_ij = sum over k of x_ik w_kj
    /// ```
    ///
    /// A row of the result is bit-exact whatever the other rows are.
    ///
    /// # Shapes
    ///
    /// - x: `[rows, inner]`; output: `[rows, columns]`
    ///
    /// # Panics
    ///
    /// Panics if `x` does not hold whole rows.
    pub(crate) fn product(&self, x: &[bf16]) -> Vec<f32> {
        assert!(x.len().is_multiple_of(self.inner.max(1)), "rows of a product");
        let rows = x.len() / self.inner.max(1);
        let x = self.even_rows(x);
        let mut tiles = vec![0.0; self.columns.div_ceil(PANEL) * rows * PANEL];
        if rows == 0 {
            return tiles;
        }
        self.panels
            .par_chunks_exact(self.panel_len())
            .zip(tiles.par_chunks_exact_mut(rows * PANEL))
            .for_each(|(panel, tile)| multiply(&x, panel, tile));
        let mut out = vec![0.0; rows * self.columns];
        out.par_chunks_exact_mut(self.columns).with_min_len(16).enumerate().for_each(
            |(row, out)| {
                let tiles = tiles.chunks_exact(rows * PANEL);
                for (out, tile) in out.chunks_mut(PANEL).zip(tiles) {
                    out.copy_from_slice(&tile[row * PANEL..][..out.len()]);
                }
            },
        );
        out
    }

    fn panel_len(&self) -> usize {
        self.inner.div_ceil(2) * PAIR
    }

    /// Rows with an even number of elements.
    fn even_rows<'x>(&self, x: &'x [bf16]) -> Cow<'x, [bf16]> {
        if self.inner.is_multiple_of(2) {
            return x.into();
        }
        let rows = x.chunks_exact(self.inner);
        rows.flat_map(|it| it.iter().copied().chain([bf16::ZERO])).collect()
    }
}

/// Writes the products of all rows with a panel, `[rows, 32]`.
fn multiply(x: &[bf16], panel: &[bf16], out: &mut [f32]) {
    #[cfg(target_arch = "x86_64")]
    if super::product::has_bf16_products() {
        #[expect(unsafe_code, reason = "functions compiled for a vector unit are unsafe to call")]
        // SAFETY: the CPU has the instructions.
        return unsafe { dot::multiply(x, panel, out) };
    }
    multiply_widened(x, panel, out);
}

/// [`multiply`] in f32, for any CPU.
#[multiversion(targets("x86_64+avx512f+avx512vl+avx512dq+avx512bw+avx2+fma", "x86_64+avx2+fma"))]
fn multiply_widened(x: &[bf16], panel: &[bf16], out: &mut [f32]) {
    for (x, out) in x.chunks_exact(panel.len() / PANEL).zip(out.chunks_exact_mut(PANEL)) {
        let mut sums = [0.0_f32; PANEL];
        for (x, weights) in x.chunks_exact(2).zip(panel.chunks_exact(PAIR)) {
            let x = [widened(x[0]), widened(x[1])];
            for (sum, weights) in sums.iter_mut().zip(weights.chunks_exact(2)) {
                *sum = widened(weights[0]).mul_add(x[0], *sum);
                *sum = widened(weights[1]).mul_add(x[1], *sum);
            }
        }
        out.copy_from_slice(&sums);
    }
}

/// The same number in f32, without a branch for NaN.
#[inline(always)]
pub(crate) fn widened(it: bf16) -> f32 {
    f32::from_bits(u32::from(it.to_bits()) << 16)
}

/// Products by the dot products of AVX-512 BF16.
#[cfg(target_arch = "x86_64")]
mod dot {
    use std::arch::x86_64::{
        __m512bh, _MM_HINT_T0, _mm_prefetch, _mm512_dpbf16_ps, _mm512_loadu_epi16,
        _mm512_set1_epi32, _mm512_setzero_ps, _mm512_storeu_ps,
    };

    use half::bf16;

    use super::{PAIR, PANEL};

    /// Distance at which weights are prefetched, in pairs of rows: 2 KiB.
    const PREFETCH: usize = 16;

    /// Writes the products of all rows with a panel, `[rows, 32]`.
    #[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
    pub(super) fn multiply(x: &[bf16], panel: &[bf16], out: &mut [f32]) {
        let inner = panel.len() / PANEL;
        let (rows, mut first) = (out.len() / PANEL, 0);
        while first < rows {
            let (x, out) = (&x[first * inner..], &mut out[first * PANEL..]);
            first += match rows - first {
                12.. => block::<12>(x, panel, out),
                8.. => block::<8>(x, panel, out),
                4.. => block::<4>(x, panel, out),
                2.. => block::<2>(x, panel, out),
                _ => block::<1>(x, panel, out),
            };
        }
    }

    /// Writes the products of the first `R` rows with a panel; returns `R`.
    #[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
    #[inline]
    fn block<const R: usize>(x: &[bf16], panel: &[bf16], out: &mut [f32]) -> usize {
        let inner = panel.len() / PANEL;
        let (x, out) = (&x[..R * inner], &mut out[..R * PANEL]);
        let mut sums = [[_mm512_setzero_ps(); 2]; R];
        for (k, pair) in panel.chunks_exact(PAIR).enumerate() {
            prefetch(pair, PREFETCH * PAIR);
            prefetch(pair, PREFETCH * PAIR + PANEL);
            let [left, right] = [load(pair, 0), load(pair, PANEL)];
            for (row, [a, b]) in sums.iter_mut().enumerate() {
                let x = broadcast(x, row * inner + 2 * k);
                *a = _mm512_dpbf16_ps(*a, x, left);
                *b = _mm512_dpbf16_ps(*b, x, right);
            }
        }
        for ([a, b], out) in sums.into_iter().zip(out.chunks_exact_mut(PANEL)) {
            let (left, right) = out.split_at_mut(PANEL / 2);
            #[expect(unsafe_code, reason = "stores through a pointer")]
            // SAFETY: both halves hold the 16 numbers of a vector.
            unsafe {
                _mm512_storeu_ps(left.as_mut_ptr(), a);
                _mm512_storeu_ps(right.as_mut_ptr(), b);
            }
        }
        R
    }

    /// Prefetches the element `at`, which may lie beyond the end: in the next panel, or nowhere.
    #[inline]
    fn prefetch(of: &[bf16], at: usize) {
        #[expect(unsafe_code, reason = "an instruction of the CPU")]
        // SAFETY: a prefetch reads nothing and faults at no address.
        unsafe {
            _mm_prefetch::<_MM_HINT_T0>(of.as_ptr().wrapping_add(at).cast());
        }
    }

    /// Vector of the elements from `at` on.
    #[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
    #[inline]
    #[expect(unsafe_code, reason = "loads through a pointer, and vectors of one size as another")]
    fn load(of: &[bf16], at: usize) -> __m512bh {
        debug_assert!(at + PANEL <= of.len());
        // SAFETY: `block` calls this with the two vectors of a pair of rows only; any bits are a
        // vector of bfloat16 numbers.
        unsafe { std::mem::transmute(_mm512_loadu_epi16(of.as_ptr().add(at).cast())) }
    }

    /// Vector that repeats the two elements from `at` on.
    #[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
    #[inline]
    #[expect(unsafe_code, reason = "loads through a pointer, and vectors of one size as another")]
    fn broadcast(of: &[bf16], at: usize) -> __m512bh {
        debug_assert!(at + 2 <= of.len());
        // SAFETY: `block` calls this with pairs of its own rows only; any bits are a vector of
        // bfloat16 numbers.
        unsafe {
            let pair = of.as_ptr().add(at).cast::<i32>().read_unaligned();
            std::mem::transmute(_mm512_set1_epi32(pair))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(len: usize, salt: f32) -> Vec<bf16> {
        (0..len).map(|it| bf16::from_f32(((it as f32 + salt) * 12.9898).sin())).collect()
    }

    /// Rows, inner sizes and columns beside a multiple of the blocks, against sums in f64.
    #[test]
    fn products_are_summed_in_f32() {
        for [rows, inner, columns] in [[1, 1, 1], [3, 16, 2], [8, 40, 33], [31, 67, 1025]] {
            let (x, weight) = (numbers(rows * inner, 0.1), numbers(columns * inner, 0.7));
            let at = |row: usize, column: usize| weight[row * columns + column].to_f32();
            let matrix = PackedMatrix::new([inner, columns], at);
            assert_eq!(matrix.shape(), [inner, columns]);
            let found = matrix.product(&x);
            assert_eq!(found.len(), rows * columns);
            for (index, found) in found.iter().enumerate() {
                let (row, column) = (index / columns, index % columns);
                let x = &x[row * inner..][..inner];
                let weights = (0..inner).map(|it| f64::from(at(it, column)));
                let expected: f64 = x.iter().zip(weights).map(|(x, w)| x.to_f64() * w).sum();
                let error = (f64::from(*found) - expected).abs();
                assert!(error < 1e-6 * inner as f64, "{rows} {inner} {columns}: {error}");
            }
            // Each row alone gives the same bits.
            for (row, x) in x.chunks_exact(inner).enumerate() {
                assert_eq!(matrix.product(x), found[row * columns..][..columns]);
            }
            let panels = matrix.panels.chunks_exact(matrix.panel_len());
            for (panel, found) in panels.zip(found[..columns].chunks(PANEL)) {
                let mut tile = vec![0.0; rows * PANEL];
                multiply_widened(&matrix.even_rows(&x), panel, &mut tile);
                for (found, expected) in found.iter().zip(&tile) {
                    assert!((found - expected).abs() < 1e-6 * inner as f32, "{found} {expected}");
                }
            }
        }
    }

    #[test]
    fn columns_are_those_of_the_matrix() {
        let at = |row: usize, column: usize| (row * 100 + column) as f32;
        let matrix = PackedMatrix::new([3, 70], at);
        for column in [0, 31, 32, 69] {
            let found: Vec<f32> = matrix.column(column).map(bf16::to_f32).collect();
            let rounded = |row| bf16::from_f32(at(row, column)).to_f32();
            assert_eq!(found, [rounded(0), rounded(1), rounded(2)]);
        }
        assert!(matrix.product(&[]).is_empty());
    }
}
