//! Residual addition and RMS norm in one pass.

use burn::tensor::{DType, Tensor};

use super::rms_norm;

/// Adds a layer's output to the residual stream and normalises the sum.
///
/// ```text
/// s = x + d,   y = s / sqrt(mean(s^2) + eps) * w
/// ```
///
/// A single kernel on an accelerator, which reads x and d once and rounds y when writing it. Has no
/// gradient: it is used in decoding, where a step consists of many small kernels and launch
/// overhead dominates.
///
/// # Shapes
///
/// - x, delta: `[rows, width]`; weight: `[width]`
/// - output: s in f32 and y in `dtype`, both `[rows, width]`
///
/// # References
///
/// - [Root Mean Square Layer Normalization](https://arxiv.org/abs/1910.07467), equation 4
pub(crate) fn add_norm(
    x: Tensor<2>,
    delta: Tensor<2>,
    weight: Tensor<1>,
    eps: f64,
    dtype: DType,
) -> (Tensor<2>, Tensor<2>) {
    #[cfg(feature = "accelerator")]
    if !crate::workers::is_host(&x.device()) {
        return kernel::run(x, delta, weight, eps as f32, dtype);
    }
    reference(x, delta, weight, eps, dtype)
}

/// [`add_norm`] as a composition of tensor operations.
pub(super) fn reference(
    x: Tensor<2>,
    delta: Tensor<2>,
    weight: Tensor<1>,
    eps: f64,
    dtype: DType,
) -> (Tensor<2>, Tensor<2>) {
    let sum = x + delta;
    (sum.clone(), rms_norm(sum, weight, eps).cast(dtype))
}

#[cfg(feature = "accelerator")]
mod kernel {
    use burn::backend::fusion::custom::TensorSpec;
    use burn::backend::tensor::FloatTensor;
    use burn::backend::{Backend, Dispatch, backend_extension};
    use burn::tensor::{DType, Tensor as BurnTensor};
    use burn_cubecl::CubeBackend;
    use burn_cubecl::kernel::into_contiguous;
    use burn_cubecl::ops::numeric::empty_device_contiguous_dtype;
    use cubecl::prelude::*;

    use super::super::cube_norm::{norm_scale, one_cube_per_row};

    /// Maximum number of units of a cube.
    const UNITS: usize = 256;

    pub(super) fn run(
        x: BurnTensor<2>,
        delta: BurnTensor<2>,
        weight: BurnTensor<1>,
        eps: f32,
        dtype: DType,
    ) -> (BurnTensor<2>, BurnTensor<2>) {
        let (sum, normed) = Dispatch::add_norm(
            x.into_dispatch(),
            delta.into_dispatch(),
            weight.into_dispatch(),
            eps,
            dtype,
        );
        (BurnTensor::from_dispatch(sum), BurnTensor::from_dispatch(normed))
    }

    #[backend_extension(Cube, Fusion)]
    pub(super) trait AddNorm: Backend {
        #[fusion(meta = |x: &TensorSpec, _: &TensorSpec, _: &TensorSpec, _: &f32, dtype: &DType| {
            (x.clone(), TensorSpec::new(x.shape.clone(), *dtype))
        })]
        fn add_norm(
            x: FloatTensor<Self>,
            delta: FloatTensor<Self>,
            weight: FloatTensor<Self>,
            eps: f32,
            dtype: DType,
        ) -> (FloatTensor<Self>, FloatTensor<Self>);
    }

    impl AddNorm for CubeBackend {
        fn add_norm(
            x: FloatTensor<Self>,
            delta: FloatTensor<Self>,
            weight: FloatTensor<Self>,
            eps: f32,
            dtype: DType,
        ) -> (FloatTensor<Self>, FloatTensor<Self>) {
            let [x, delta, weight] = [x, delta, weight].map(into_contiguous);
            let shape = x.meta.shape().clone();
            let (rows, width) = (shape[0], shape[1]);
            let client = x.client.clone();
            let output = |dtype: DType| {
                empty_device_contiguous_dtype(
                    client.clone(),
                    x.device.clone(),
                    shape.clone(),
                    dtype,
                )
            };
            let (sum, normed) = (output(x.dtype), output(dtype));
            let units = width.next_power_of_two().clamp(32, UNITS);
            add_norm_kernel::launch(
                &client,
                one_cube_per_row(rows),
                CubeDim::new_1d(units as u32),
                x.into_tensor_arg(),
                delta.into_tensor_arg(),
                weight.into_tensor_arg(),
                sum.clone().into_tensor_arg(),
                normed.clone().into_tensor_arg(),
                eps,
                units,
                burn::backend::cubecl::dtype_to_storage_type(dtype),
            );
            (sum, normed)
        }
    }

    /// One cube per row.
    #[cube(launch)]
    fn add_norm_kernel<O: Float>(
        x: &Tensor<f32>,
        delta: &Tensor<f32>,
        weight: &Tensor<f32>,
        sum: &mut Tensor<f32>,
        normed: &mut Tensor<O>,
        eps: f32,
        #[comptime] units: usize,
        #[define(O)] _type: ElemType,
    ) {
        let row = CUBE_POS_Y as usize * CUBE_COUNT_X as usize + CUBE_POS_X as usize;
        if row >= x.shape(0) {
            terminate!();
        }
        let unit = UNIT_POS_X as usize;
        let width = x.shape(1);
        let first = row * width;
        let mut square = f32::new(0.0);
        let mut at = unit;
        while at < width {
            let number = x[first + at] + delta[first + at];
            sum[first + at] = number;
            square += number * number;
            at += units;
        }
        let scale = norm_scale(square, width as u32, eps, units);
        at = unit;
        while at < width {
            // Each unit reads only elements that it wrote itself.
            normed[first + at] = O::cast_from(sum[first + at] * scale * weight[at]);
            at += units;
        }
    }
}
