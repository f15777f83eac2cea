//! Weights in the form that sampling on a CPU multiplies fastest.

use burn::tensor::{Int, Tensor};

/// Weight of a product, rounded to bfloat16 once and packed; exists on a CPU only.
#[derive(Clone, Debug)]
pub(crate) struct PackedWeight {
    #[cfg(feature = "flex")]
    matrix: std::sync::Arc<crate::cpu::packed::PackedMatrix>,
    #[cfg(not(feature = "flex"))]
    never: std::convert::Infallible,
}

#[cfg(feature = "flex")]
impl PackedWeight {
    /// Packs a weight `[inner, columns]`, or its transpose; `None` on an accelerator.
    pub(crate) fn new(weight: Tensor<2>, transposed: bool) -> Option<Self> {
        use crate::cpu::packed::PackedMatrix;

        if !crate::workers::is_host(&weight.device()) {
            return None;
        }
        let [rows, columns] = weight.dims();
        let data = weight.into_data();
        let values = data.as_slice::<f32>().expect("weights are f32");
        let matrix = match transposed {
            false => PackedMatrix::new([rows, columns], |row, at| values[row * columns + at]),
            true => PackedMatrix::new([columns, rows], |row, at| values[at * columns + row]),
        };
        Some(Self { matrix: matrix.into() })
    }

    /// Product `x W` as [`product`](super::product()) computes it in bf16.
    ///
    /// # Shapes
    ///
    /// - x: `[n, inner]`; output: `[n, columns]`
    pub(crate) fn product(&self, x: Tensor<2>) -> Tensor<2> {
        use burn::tensor::{DType, TensorData};

        let (device, rows) = (x.device(), x.dims()[0]);
        let x = super::rounded_to(x, DType::BF16).into_data();
        let values = self.matrix.product(x.as_slice().expect("it was rounded"));
        Tensor::from_data(TensorData::new(values, [rows, self.matrix.shape()[1]]), &device)
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
        let values = columns.iter::<i64>().flat_map(|it| self.matrix.column(it as usize));
        let values: Vec<f32> = values.map(half::bf16::to_f32).collect();
        Tensor::from_data(TensorData::new(values, [n, self.matrix.shape()[0]]), &device)
    }
}

#[cfg(not(feature = "flex"))]
impl PackedWeight {
    pub(crate) fn new(_weight: Tensor<2>, _transposed: bool) -> Option<Self> {
        None
    }

    pub(crate) fn product(&self, _x: Tensor<2>) -> Tensor<2> {
        match self.never {}
    }

    pub(crate) fn columns(&self, _columns: Tensor<1, Int>) -> Tensor<2> {
        match self.never {}
    }
}
