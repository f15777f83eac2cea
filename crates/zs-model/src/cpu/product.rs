//! Matrix products on slices.

use gemmkit::{GemmScalar, MatMut, MatRef, Parallelism};
use half::bf16;

/// Minimum number of multiplications for a product to use several threads.
const MIN_PARALLEL_MULTIPLICATIONS: usize = 192 * 192 * 192;

/// Strided view of a matrix in a slice.
#[derive(Debug)]
pub(crate) struct Matrix<'a, T = f32> {
    values: &'a [T],
    rows: usize,
    columns: usize,
    row_stride: usize,
    column_stride: usize,
}

impl<T> Copy for Matrix<'_, T> {}

impl<T> Clone for Matrix<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}

/// Mutable view of a matrix with contiguous rows.
#[derive(Debug)]
pub(crate) struct MatrixMut<'a> {
    values: &'a mut [f32],
    rows: usize,
    columns: usize,
    row_stride: usize,
}

/// Write mode of a product.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Write {
    /// `out = a b`.
    Replace,
    /// `out = out + a b`.
    Add,
}

impl<'a, T> Matrix<'a, T> {
    /// Views elements with any strides.
    pub(crate) fn new(
        values: &'a [T],
        [rows, columns]: [usize; 2],
        [row_stride, column_stride]: [usize; 2],
    ) -> Self {
        Self { values, rows, columns, row_stride, column_stride }
    }

    /// Views a whole slice as rows of `columns` elements.
    pub(crate) fn of(values: &'a [T], columns: usize) -> Self {
        Self::part(values, values.len() / columns.max(1), columns, columns)
    }

    /// Views rows with stride `row_stride`.
    pub(crate) fn part(values: &'a [T], rows: usize, columns: usize, row_stride: usize) -> Self {
        Self::new(values, [rows, columns], [row_stride, 1])
    }

    /// Transposed view.
    pub(crate) fn t(self) -> Self {
        Self {
            rows: self.columns,
            columns: self.rows,
            row_stride: self.column_stride,
            column_stride: self.row_stride,
            ..self
        }
    }

    fn strides(&self) -> [isize; 2] {
        [self.row_stride as isize, self.column_stride as isize]
    }
}

impl<'a> MatrixMut<'a> {
    /// Views a whole slice as rows of `columns` elements.
    pub(crate) fn of(values: &'a mut [f32], columns: usize) -> Self {
        let rows = values.len() / columns.max(1);
        Self::part(values, rows, columns, columns)
    }

    /// Views rows with stride `row_stride`.
    pub(crate) fn part(
        values: &'a mut [f32],
        rows: usize,
        columns: usize,
        row_stride: usize,
    ) -> Self {
        Self { values, rows, columns, row_stride }
    }
}

/// Threads of a product: those of the current pool if it is large.
pub(super) fn threads(rows: usize, columns: usize, inner: usize) -> Parallelism {
    match rayon::current_num_threads() {
        threads if threads > 1 && rows * columns * inner >= MIN_PARALLEL_MULTIPLICATIONS => {
            Parallelism::Rayon(threads)
        }
        _ => Parallelism::Serial,
    }
}

/// Matrix product.
///
/// A large product is split over the threads of the current pool. Results are bitwise reproducible
/// on a machine for any number of threads.
///
/// # Panics
///
/// Panics if the shapes do not match or a view exceeds its slice.
pub(crate) fn product(out: MatrixMut<'_>, a: Matrix<'_>, b: Matrix<'_>, mode: Write) {
    fn view<T: GemmScalar>(it: Matrix<'_, T>) -> MatRef<'_, T> {
        let [row_stride, column_stride] = it.strides();
        MatRef::new(it.values, it.rows, it.columns, row_stride, column_stride)
    }
    let MatrixMut { values, rows, columns, row_stride } = out;
    let threads = threads(rows, columns, a.columns);
    let out = MatMut::new(values, rows, columns, row_stride as isize, 1);
    let keep = if mode == Write::Add { 1.0 } else { 0.0 };
    gemmkit::gemm(1.0, view(a), view(b), keep, out, threads);
}

/// Product of bfloat16 matrices, accumulated and returned in f32 with contiguous rows.
///
/// Uses the dot products of AVX-512 BF16 where the CPU has them. Elsewhere the operands are widened,
/// which is exact, so only the order of the sums differs.
///
/// # Panics
///
/// Panics if the shapes do not match or a view exceeds its slice.
pub(crate) fn product_bf16(a: Matrix<'_, bf16>, b: Matrix<'_, bf16>) -> Vec<f32> {
    let (rows, columns) = (a.rows, b.columns);
    let mut out = vec![0.0; rows * columns];
    #[cfg(target_arch = "x86_64")]
    if has_bf16_products() {
        dot::product(&mut out, a, b);
        return out;
    }
    let (a, b) = (widened(a), widened(b));
    let (a, b) = (Matrix::of(&a, b.len() / columns.max(1)), Matrix::of(&b, columns));
    product(MatrixMut::of(&mut out, columns), a, b, Write::Replace);
    out
}

/// True if the CPU multiplies bfloat16 numbers in hardware.
pub(crate) fn has_bf16_products() -> bool {
    #[cfg(target_arch = "x86_64")]
    {
        is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512bf16")
    }
    #[cfg(not(target_arch = "x86_64"))]
    false
}

/// True if products of bfloat16 are faster than those of f32 on this CPU: AMD's cores execute two dot
/// products a cycle, Intel's fewer than they do f32 products.
pub(crate) fn prefers_bf16() -> bool {
    #[cfg(target_arch = "x86_64")]
    {
        let vendor = raw_cpuid::CpuId::new().get_vendor_info();
        has_bf16_products() && vendor.is_some_and(|it| it.as_str() == "AuthenticAMD")
    }
    #[cfg(not(target_arch = "x86_64"))]
    false
}

/// Elements of a matrix in f32, in row-major order.
fn widened(of: Matrix<'_, bf16>) -> Vec<f32> {
    let at = |row: usize, column: usize| row * of.row_stride + column * of.column_stride;
    (0..of.rows)
        .flat_map(|row| (0..of.columns).map(move |column| of.values[at(row, column)].to_f32()))
        .collect()
}

#[cfg(target_arch = "x86_64")]
mod dot {
    use gemmkit::Workspace;
    use gemmkit::driver;
    use gemmkit::kernel::Bf16DotGemmF32;
    use gemmkit::simd::Avx512Bf16;
    use half::bf16;

    use super::{Matrix, threads};

    /// Rows of a register tile, in vectors, and its columns.
    const TILE: [usize; 2] = [2, 12];

    /// Writes `a b` to `out`, which has contiguous rows.
    pub(super) fn product(out: &mut [f32], a: Matrix<'_, bf16>, b: Matrix<'_, bf16>) {
        let ([m, k], n) = ([a.rows, a.columns], b.columns);
        assert_eq!((b.rows, out.len()), (k, m * n), "shapes of a product");
        for it in [&a, &b] {
            let last = it.rows.saturating_sub(1) * it.row_stride
                + it.columns.saturating_sub(1) * it.column_stride;
            assert!(
                it.rows * it.columns == 0 || last < it.values.len(),
                "a view exceeds its slice"
            );
        }
        if m * n * k == 0 {
            return;
        }
        let ([a_rows, a_columns], [b_rows, b_columns]) = (a.strides(), b.strides());
        #[expect(
            unsafe_code,
            reason = "the checked entries of gemmkit round the result to bfloat16"
        )]
        // SAFETY: every index of the three matrices was checked above; `out` is borrowed
        // exclusively, so it overlaps neither operand; the caller found the instruction set. The
        // product is computed as b^T a^T, whose output has contiguous columns.
        unsafe {
            driver::run::<Bf16DotGemmF32, Avx512Bf16, { TILE[0] }, { TILE[1] }>(
                Avx512Bf16,
                n,
                k,
                m,
                1.0,
                b.values.as_ptr(),
                b_columns,
                b_rows,
                a.values.as_ptr(),
                a_columns,
                a_rows,
                0.0,
                out.as_mut_ptr(),
                1,
                n as isize,
                threads(m, n, k),
                &mut Workspace::new(),
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn products_of_small_matrices() {
        let a = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0];
        let b = [1.0, 0.0, -1.0, 2.0, 1.0, 1.0];
        let mut out = [10.0; 4];
        product(MatrixMut::of(&mut out, 2), Matrix::of(&a, 3), Matrix::of(&b, 2), Write::Replace);
        assert_eq!(out, [2.0, 7.0, 5.0, 16.0]);
        product(MatrixMut::of(&mut out, 2), Matrix::of(&a, 3), Matrix::of(&b, 2), Write::Add);
        assert_eq!(out, [4.0, 14.0, 10.0, 32.0]);
        // A transposed matrix, and columns 1.. of wider matrices.
        let mut wide = [0.0; 9];
        let part = MatrixMut::part(&mut wide[1..], 3, 2, 3);
        product(part, Matrix::of(&a, 3).t(), Matrix::part(&b[1..], 2, 2, 3), Write::Replace);
        assert_eq!(wide, [0.0, 4.0, 3.0, 0.0, 5.0, 3.0, 0.0, 6.0, 3.0]);
    }

    /// Matrices of several shapes, transposed or not, against sums in f64.
    #[test]
    fn bf16_products_are_summed_in_f32() {
        for [m, k, n] in [[1, 1, 1], [3, 5, 2], [17, 33, 40], [64, 130, 31]] {
            let numbers = |len: usize, salt: f32| -> Vec<bf16> {
                (0..len).map(|it| bf16::from_f32(((it as f32 + salt) * 12.9898).sin())).collect()
            };
            let (a, b) = (numbers(m * k, 0.1), numbers(k * n, 0.7));
            for transposed in [false, true] {
                let (a, b) = match transposed {
                    false => (Matrix::of(&a, k), Matrix::of(&b, n)),
                    true => (Matrix::of(&a, m).t(), Matrix::of(&b, k).t()),
                };
                let found = product_bf16(a, b);
                for row in 0..m {
                    for column in 0..n {
                        let at = |it: Matrix<'_, bf16>, row: usize, column: usize| {
                            it.values[row * it.row_stride + column * it.column_stride].to_f64()
                        };
                        let expected: f64 =
                            (0..k).map(|it| at(a, row, it) * at(b, it, column)).sum();
                        let error = (f64::from(found[row * n + column]) - expected).abs();
                        assert!(error < 1e-5 * k as f64, "{m} {k} {n} {transposed}: {error}");
                    }
                }
            }
        }
    }
}
