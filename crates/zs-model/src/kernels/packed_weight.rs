//! Weights in the form that sampling on a CPU multiplies.

use burn::tensor::{Int, Tensor};

use crate::ComputeDtype;

/// Weight of a product, packed once; exists on a CPU only. A row of a product is bit-exact whatever
/// the other rows are.
#[derive(Clone, Debug)]
pub(crate) struct PackedWeight {
    #[cfg(feature = "flex")]
    matrix: Matrix,
    #[cfg(not(feature = "flex"))]
    never: std::convert::Infallible,
}

/// Packed matrix in the dtype of products.
#[cfg(feature = "flex")]
#[derive(Clone, Debug)]
enum Matrix {
    Bf16(std::sync::Arc<crate::cpu::packed::PackedMatrix>),
    F32(std::sync::Arc<crate::cpu::packed_f32::PackedF32>),
}

#[cfg(feature = "flex")]
impl PackedWeight {
    /// Packs a weight `[inner, columns]`, or its transpose, rounded to bfloat16 for products in it;
    /// `None` on an accelerator.
    pub(crate) fn new(
        weight: Tensor<2>,
        transposed: bool,
        compute_dtype: ComputeDtype,
    ) -> Option<Self> {
        use crate::cpu::packed::PackedMatrix;
        use crate::cpu::packed_f32::PackedF32;

        if !crate::workers::is_host(&weight.device()) {
            return None;
        }
        let [rows, columns] = weight.dims();
        let data = weight.into_data();
        let values = data.as_slice::<f32>().expect("weights are f32");
        let matrix = match (compute_dtype, transposed) {
            (ComputeDtype::Bf16, false) => Matrix::Bf16(
                PackedMatrix::new([rows, columns], |row, at| values[row * columns + at]).into(),
            ),
            (ComputeDtype::Bf16, true) => Matrix::Bf16(
                PackedMatrix::new([columns, rows], |row, at| values[at * columns + row]).into(),
            ),
            (ComputeDtype::F32 | ComputeDtype::Auto, _) => {
                Matrix::F32(PackedF32::new(values, [rows, columns], transposed).into())
            }
        };
        Some(Self { matrix })
    }

    /// Number of columns.
    pub(crate) fn num_columns(&self) -> usize {
        match &self.matrix {
            Matrix::Bf16(it) => it.shape()[1],
            Matrix::F32(it) => it.shape()[1],
        }
    }

    /// Product `x W` as [`product`](super::product()) computes it, up to rounding.
    ///
    /// # Shapes
    ///
    /// - x: `[n, inner]`; output: `[n, columns]`
    pub(crate) fn product(&self, x: Tensor<2>) -> Tensor<2> {
        use burn::tensor::{DType, TensorData};

        let (device, rows) = (x.device(), x.dims()[0]);
        let values = match &self.matrix {
            Matrix::Bf16(matrix) => {
                let x = super::rounded_to(x, DType::BF16).into_data();
                matrix.product(x.as_slice().expect("it was rounded"))
            }
            Matrix::F32(matrix) => {
                let x = x.into_data();
                matrix.product(x.as_slice().expect("activations are f32"))
            }
        };
        Tensor::from_data(TensorData::new(values, [rows, self.num_columns()]), &device)
    }

    /// The given columns, as rows in f32.
    ///
    /// # Shapes
    ///
    /// - columns: `[n]`; output: `[n, inner]`
    pub(crate) fn columns(&self, columns: Tensor<1, Int>) -> Tensor<2> {
        use burn::tensor::TensorData;

        let (device, n) = (columns.device(), columns.dims()[0]);
        let columns = columns.into_data();
        let columns = columns.iter::<i64>().map(|it| it as usize);
        let (values, inner): (Vec<f32>, usize) = match &self.matrix {
            Matrix::Bf16(it) => {
                let values = columns.flat_map(|column| it.column(column));
                (values.map(half::bf16::to_f32).collect(), it.shape()[0])
            }
            Matrix::F32(it) => {
                (columns.flat_map(|column| it.column(column)).copied().collect(), it.shape()[0])
            }
        };
        Tensor::from_data(TensorData::new(values, [n, inner]), &device)
    }
}

#[cfg(not(feature = "flex"))]
impl PackedWeight {
    pub(crate) fn new(
        _weight: Tensor<2>,
        _transposed: bool,
        _compute_dtype: ComputeDtype,
    ) -> Option<Self> {
        None
    }

    pub(crate) fn num_columns(&self) -> usize {
        match self.never {}
    }

    pub(crate) fn product(&self, _x: Tensor<2>) -> Tensor<2> {
        match self.never {}
    }

    pub(crate) fn columns(&self, _columns: Tensor<1, Int>) -> Tensor<2> {
        match self.never {}
    }
}
