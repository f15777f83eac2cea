//! Matrices of f32 whose products round the same for any number of rows.

use std::fmt::{self, Debug, Formatter};

use gemmkit::{MatMut, MatRef, PackedRhs, gemm_packed_b, prepack_rhs};

use super::product::threads;

/// Matrix `[inner, columns]`, packed once. Its blocks do not depend on the rows that it is multiplied
/// with, while the [general product](super::product::product) chooses another order of sums for a
/// single row.
pub(crate) struct PackedF32 {
    packed: PackedRhs<f32>,
    /// Columns one after the other, of a matrix that was given as its transpose; else empty.
    columns: Vec<f32>,
}

impl PackedF32 {
    /// Packs a matrix `[rows, columns]` with contiguous rows, or its transpose.
    pub(crate) fn new(values: &[f32], [rows, columns]: [usize; 2], transposed: bool) -> Self {
        let view = match transposed {
            false => MatRef::new(values, rows, columns, columns as isize, 1),
            true => MatRef::new(values, columns, rows, 1, columns as isize),
        };
        let columns = if transposed { values.to_vec() } else { Vec::new() };
        Self { packed: prepack_rhs(view), columns }
    }

    /// Number of rows and of columns.
    pub(crate) fn shape(&self) -> [usize; 2] {
        [self.packed.rows(), self.packed.cols()]
    }

    /// Elements of a column.
    ///
    /// # Panics
    ///
    /// Panics if the matrix was not given as its transpose, which is an embedding, or has no such
    /// column.
    pub(crate) fn column(&self, column: usize) -> &[f32] {
        let inner = self.packed.rows();
        &self.columns[column * inner..(column + 1) * inner]
    }

    /// Product `x W`.
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
    pub(crate) fn product(&self, x: &[f32]) -> Vec<f32> {
        let [inner, columns] = self.shape();
        assert!(x.len().is_multiple_of(inner.max(1)), "rows of a product");
        let rows = x.len() / inner.max(1);
        if rows == 0 {
            return Vec::new();
        }
        // Only columns that are contiguous let the packed matrix be the right one.
        let mut by_column = vec![0.0; rows * columns];
        let out = MatMut::new(&mut by_column, rows, columns, 1, rows as isize);
        let x = MatRef::new(x, rows, inner, inner as isize, 1);
        gemm_packed_b(1.0, x, &self.packed, 0.0, out, threads(rows, columns, inner));
        if rows == 1 {
            return by_column;
        }
        let mut out = vec![0.0; rows * columns];
        for (column, values) in by_column.chunks_exact(rows).enumerate() {
            for (row, value) in values.iter().enumerate() {
                out[row * columns + column] = *value;
            }
        }
        out
    }
}

impl Debug for PackedF32 {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.debug_struct("PackedF32").field("shape", &self.shape()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_is_bit_exact_whatever_the_other_rows_are() {
        // Few columns and few rows select the kernels of small products elsewhere.
        for [inner, columns] in [[3, 1], [17, 16], [64, 33], [300, 7], [1100, 40]] {
            let number = |it: usize| ((it * 7919 % 1009) as f32 - 504.0) / 311.0;
            let values: Vec<f32> = (0..inner * columns).map(number).collect();
            let matrix = PackedF32::new(&values, [inner, columns], false);
            let x: Vec<f32> = (0..37 * inner).map(|it| number(it + 13)).collect();
            let alone: Vec<f32> = x.chunks(inner).flat_map(|it| matrix.product(it)).collect();
            for rows in [2, 5, 16, 17, 37] {
                let together: Vec<f32> =
                    x.chunks(rows * inner).flat_map(|it| matrix.product(it)).collect();
                assert_eq!(together, alone, "{rows} rows, {inner} x {columns}");
            }
            let expected: f64 = (0..inner)
                .map(|it| f64::from(x[it]) * f64::from(values[it * columns + columns - 1]))
                .sum();
            assert!((f64::from(alone[columns - 1]) - expected).abs() < 1e-3);
            let turned: Vec<f32> = (0..columns)
                .flat_map(|column| (0..inner).map(move |row| (row, column)))
                .map(|(row, column)| values[row * columns + column])
                .collect();
            let turned = PackedF32::new(&turned, [columns, inner], true);
            let last = values.chunks(columns).map(|it| it[columns - 1]);
            assert!(turned.column(columns - 1).iter().copied().eq(last));
            assert_eq!((turned.shape(), turned.product(&x)), (matrix.shape(), matrix.product(&x)));
        }
    }
}
