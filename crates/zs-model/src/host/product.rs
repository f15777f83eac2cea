//! Matrix products on slices.

use std::ops::Range;

use gemm::Parallelism;

use super::kernels::add;

/// Minimum number of multiplications for a product to use several threads.
const MIN_PARALLEL_MULTIPLICATIONS: usize = 192 * 192 * 192;

/// Strided view of a matrix in a slice.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Matrix<'a> {
    values: &'a [f32],
    rows: usize,
    columns: usize,
    row_stride: usize,
    column_stride: usize,
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

/// Index of the last element in the slice.
fn last_index(rows: usize, columns: usize, row_stride: usize, column_stride: usize) -> usize {
    rows.saturating_sub(1) * row_stride + columns.saturating_sub(1) * column_stride
}

impl<'a> Matrix<'a> {
    /// Views a whole slice as rows of `columns` elements.
    pub(crate) fn of(values: &'a [f32], columns: usize) -> Self {
        Self::part(values, values.len() / columns.max(1), columns, columns)
    }

    /// Views rows with stride `row_stride`.
    ///
    /// # Panics
    ///
    /// Panics if the slice is too short.
    pub(crate) fn part(values: &'a [f32], rows: usize, columns: usize, row_stride: usize) -> Self {
        let is_empty = rows == 0 || columns == 0;
        assert!(is_empty || last_index(rows, columns, row_stride, 1) < values.len(), "too short");
        Self { values, rows, columns, row_stride, column_stride: 1 }
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

    pub(crate) fn rows(&self) -> usize {
        self.rows
    }

    pub(crate) fn columns(&self) -> usize {
        self.columns
    }

    /// Sum over the rows of a matrix that is not transposed.
    pub(crate) fn sum_of_rows(&self) -> Vec<f32> {
        debug_assert_eq!(self.column_stride, 1);
        let mut sum = vec![0.0; self.columns];
        for row in self.values.chunks(self.row_stride.max(1)).take(self.rows) {
            add(&mut sum, &row[..self.columns]);
        }
        sum
    }
}

impl<'a> MatrixMut<'a> {
    /// Views a whole slice as rows of `columns` elements.
    pub(crate) fn of(values: &'a mut [f32], columns: usize) -> Self {
        let rows = values.len() / columns.max(1);
        Self::part(values, rows, columns, columns)
    }

    /// Views rows with stride `row_stride`.
    ///
    /// # Panics
    ///
    /// Panics if the slice is too short or rows overlap.
    pub(crate) fn part(
        values: &'a mut [f32],
        rows: usize,
        columns: usize,
        row_stride: usize,
    ) -> Self {
        let is_empty = rows == 0 || columns == 0;
        assert!(is_empty || last_index(rows, columns, row_stride, 1) < values.len(), "too short");
        assert!(rows <= 1 || row_stride >= columns, "rows overlap");
        Self { values, rows, columns, row_stride }
    }

    /// Reborrows the view.
    pub(crate) fn reborrow(&mut self) -> MatrixMut<'_> {
        MatrixMut { values: &mut *self.values, ..*self }
    }

    /// Adds `row` to every row.
    pub(crate) fn add_row(&mut self, row: &[f32]) {
        for out in self.values.chunks_mut(self.row_stride.max(1)).take(self.rows) {
            add(&mut out[..self.columns], row);
        }
    }
}

/// Matrix product.
///
/// A large product is split over the threads of the current pool. Results are bitwise reproducible
/// for the same shapes and number of threads.
///
/// # Panics
///
/// Panics if the shapes do not match.
pub(crate) fn product(out: MatrixMut<'_>, a: Matrix<'_>, b: Matrix<'_>, mode: Write) {
    let (rows, columns, inner) = (out.rows, out.columns, a.columns);
    assert_eq!((a.rows, b.rows, b.columns), (rows, inner, columns), "shapes of a product");
    if rows == 0 || columns == 0 {
        return;
    }
    let is_large = rows * columns * inner >= MIN_PARALLEL_MULTIPLICATIONS;
    let parts = if is_large { rayon::current_num_threads() } else { 1 };
    let target = Target { first: out.values.as_mut_ptr(), row_stride: out.row_stride };
    let along_rows = rows >= columns;
    let part = |index: usize| {
        let cut = |len: usize| index * len / parts..(index + 1) * len / parts;
        let part = if along_rows { (cut(rows), 0..columns) } else { (0..rows, cut(columns)) };
        target.multiply(part, a, b, mode);
    };
    if parts == 1 {
        part(0);
    } else {
        rayon::scope(|scope| (0..parts).for_each(|it| scope.spawn(move |_| part(it))));
    }
}

/// Output location of a product. Created only by [`product`], from a slice that it borrows
/// exclusively.
#[derive(Clone, Copy)]
struct Target {
    first: *mut f32,
    row_stride: usize,
}

#[expect(unsafe_code, reason = "parts of one product write to one matrix from several threads")]
// SAFETY: each thread writes to a different part of the matrix.
unsafe impl Send for Target {}

#[expect(unsafe_code, reason = "as above")]
// SAFETY: as above.
unsafe impl Sync for Target {}

impl Target {
    /// Computes a block of rows and columns of a product.
    fn multiply(
        self,
        (rows, columns): (Range<usize>, Range<usize>),
        a: Matrix<'_>,
        b: Matrix<'_>,
        mode: Write,
    ) {
        if rows.is_empty() || columns.is_empty() {
            return;
        }
        let out = self.first.wrapping_add(rows.start * self.row_stride + columns.start);
        let a_first = a.values.as_ptr().wrapping_add(rows.start * a.row_stride);
        let b_first = b.values.as_ptr().wrapping_add(columns.start * b.column_stride);
        #[expect(unsafe_code, reason = "the constructors checked that every index is in its slice")]
        // SAFETY: `product` checked that the shapes match, and the constructors that the matrices
        // lie in their slices, all borrowed for the call. The rows of the target do not overlap,
        // and its parts are disjoint.
        unsafe {
            gemm::gemm(
                rows.len(),
                columns.len(),
                a.columns,
                out,
                1,
                self.row_stride as isize,
                mode == Write::Add,
                a_first,
                a.column_stride as isize,
                a.row_stride as isize,
                b_first,
                b.column_stride as isize,
                b.row_stride as isize,
                1.0_f32,
                1.0_f32,
                false,
                false,
                false,
                Parallelism::None,
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
}
