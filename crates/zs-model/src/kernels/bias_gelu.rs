//! Bias and GELU in one pass, for encoders.

use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, Dispatch, TensorMetadata, backend_extension};
use burn::tensor::{Shape, Tensor};

/// Adds a bias to rows and applies GELU. Has no gradient: encoders are not trained.
///
/// ```text
/// y = a / 2 (1 + erf(a / sqrt 2)),   a = x + b
/// ```
///
/// # Shapes
///
/// - x, output: `[rows, width]`; bias: `[width]`
///
/// # References
///
/// - [Gaussian Error Linear Units](https://arxiv.org/abs/1606.08415), section 2, without the
///   approximation by tanh
pub(crate) fn bias_gelu(x: Tensor<2>, bias: Tensor<1>) -> Tensor<2> {
    Tensor::from_dispatch(Dispatch::bias_gelu(x.into_dispatch(), bias.into_dispatch()))
}

/// [`bias_gelu`] on a backend.
#[backend_extension(
    Cube: cfg(feature = "accelerator"),
    Flex: cfg(feature = "flex"),
    Fusion: cfg(feature = "accelerator")
)]
pub(crate) trait BiasGelu: Backend {
    #[fusion(default)]
    fn bias_gelu(x: FloatTensor<Self>, bias: FloatTensor<Self>) -> FloatTensor<Self> {
        composed::<Self>(x, bias)
    }
}

/// [`bias_gelu`] as a composition of tensor operations.
fn composed<B: Backend>(x: FloatTensor<B>, bias: FloatTensor<B>) -> FloatTensor<B> {
    let width = bias.shape()[0];
    B::gelu(B::float_add(x, B::float_reshape(bias, Shape::new([1, width]))))
}

#[cfg(feature = "flex")]
impl BiasGelu for burn::backend::Flex {
    fn bias_gelu(x: FloatTensor<Self>, bias: FloatTensor<Self>) -> FloatTensor<Self> {
        use rayon::prelude::*;

        use crate::cpu::{elementwise, slices};

        let shape = x.shape();
        let of = [x, bias].map(slices::contiguous);
        let [x, bias] = of.each_ref().map(slices::elements);
        let mut out = vec![0.0; x.len()];
        let part = slices::part_len(bias.len());
        x.par_chunks(part)
            .zip(out.par_chunks_mut(part))
            .for_each(|(x, out)| elementwise::bias_gelu(x, bias, out));
        slices::tensor(out, shape)
    }
}

#[cfg(feature = "accelerator")]
impl BiasGelu for burn_cubecl::CubeBackend {}

#[cfg(test)]
#[cfg(feature = "flex")]
mod tests {
    use burn::backend::Flex;
    use proptest::prelude::*;

    use super::*;
    use crate::cpu::slices;

    proptest! {
        #[test]
        fn the_cpu_kernel_equals_the_composition(
            values in proptest::collection::vec(-9.0_f32..9.0, 1..200),
            width in 1_usize..70,
        ) {
            let rows = values.len().div_ceil(width);
            let x = || {
                let filled = values.iter().copied().cycle().take(rows * width).collect();
                slices::tensor::<f32>(filled, [rows, width])
            };
            let bias = || slices::tensor((0..width).map(|it| it as f32 / 70.0).collect(), [width]);
            let (found, expected) = (Flex::bias_gelu(x(), bias()), composed::<Flex>(x(), bias()));
            let expected = slices::contiguous(expected);
            for (a, b) in slices::elements(&found).iter().zip(slices::elements(&expected)) {
                prop_assert!((a - b).abs() < 2e-6 * b.abs().max(1.0), "{a}, not {b}");
            }
        }
    }
}
