//! Tensors of the CPU backend as slices.

use burn::tensor::{DType, Element, Shape, TensorData};
use burn_flex::FlexTensor;

use super::product::Matrix;

/// The tensor with its elements adjacent, in row-major order.
pub(crate) fn contiguous(tensor: FlexTensor) -> FlexTensor {
    if tensor.is_contiguous() { tensor } else { tensor.to_contiguous() }
}

/// Elements of a [contiguous] f32 tensor, in row-major order.
pub(crate) fn elements(tensor: &FlexTensor) -> &[f32] {
    tensor.as_slice().expect("the tensor is contiguous and f32")
}

/// Integers of a tensor as indices.
pub(crate) fn indices(tensor: FlexTensor) -> Vec<usize> {
    tensor.into_data().iter::<i64>().map(|it| it as usize).collect()
}

/// Tensor that owns the elements.
pub(crate) fn tensor<E: Element>(elements: Vec<E>, shape: impl Into<Shape>) -> FlexTensor {
    FlexTensor::from_data(TensorData::new(elements, shape.into()))
}

/// Elements of whole rows that one thread processes at a time.
pub(crate) fn part_len(width: usize) -> usize {
    const ELEMENTS: usize = 1 << 16;
    (ELEMENTS / width.max(1)).max(1) * width.max(1)
}

/// Matrix of a tensor of two dimensions, without a copy.
///
/// # Panics
///
/// Panics if the tensor has another rank or dtype than `E`, or negative strides.
pub(crate) fn matrix<E>(tensor: &FlexTensor) -> Matrix<'_, E>
where
    E: Element + bytemuck::Pod,
{
    let layout = tensor.layout();
    let ([rows, columns], [row_stride, column_stride]) =
        (sized(layout.shape().as_slice()), sized(layout.strides()));
    let stride = |it: isize| usize::try_from(it).expect("strides of a matrix are not negative");
    let values = &tensor.storage::<E>()[layout.start_offset()..];
    Matrix::new(values, [rows, columns], [stride(row_stride), stride(column_stride)])
}

fn sized<T: Copy>(of: &[T]) -> [T; 2] {
    of.try_into().expect("the tensor is a matrix")
}

/// True for a tensor of bfloat16 numbers.
pub(crate) fn is_bf16(tensor: &FlexTensor) -> bool {
    tensor.dtype() == DType::BF16
}
