//! Residual addition and layer norm in one pass, for encoders.

use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, Dispatch, TensorMetadata, backend_extension};
use burn::tensor::{Shape, Tensor};

/// Weights of a layer norm.
#[derive(Clone, Debug)]
pub(crate) struct LayerNorm {
    pub(crate) weight: Tensor<1>,
    pub(crate) bias: Tensor<1>,
    pub(crate) eps: f64,
}

/// Adds a layer's output and its bias to rows, and normalises the sums. Has no gradient: encoders are
/// not trained.
///
/// ```text
/// s = x + d + b,   y = (s - mean(s)) / sqrt(var(s) + eps) * weight + bias
/// ```
///
/// # Shapes
///
/// - x, delta (d), output: `[rows, width]`; delta_bias (b), weight, bias: `[width]`
///
/// # References
///
/// - [Layer Normalization](https://arxiv.org/abs/1607.06450), equation 4
pub(crate) fn add_layer_norm(
    [x, delta]: [Tensor<2>; 2],
    delta_bias: Tensor<1>,
    norm: &LayerNorm,
) -> Tensor<2> {
    Tensor::from_dispatch(Dispatch::add_layer_norm(
        x.into_dispatch(),
        delta.into_dispatch(),
        delta_bias.into_dispatch(),
        norm.weight.clone().into_dispatch(),
        norm.bias.clone().into_dispatch(),
        norm.eps as f32,
    ))
}

/// [`add_layer_norm`] on a backend.
#[backend_extension(
    Cube: cfg(feature = "accelerator"),
    Flex: cfg(feature = "flex"),
    Fusion: cfg(feature = "accelerator")
)]
pub(crate) trait AddLayerNorm: Backend {
    #[fusion(default)]
    fn add_layer_norm(
        x: FloatTensor<Self>,
        delta: FloatTensor<Self>,
        delta_bias: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        eps: f32,
    ) -> FloatTensor<Self> {
        composed::<Self>([x, delta], [delta_bias, weight, bias], eps)
    }
}

/// [`add_layer_norm`] as a composition of tensor operations.
fn composed<B: Backend>(
    [x, delta]: [FloatTensor<B>; 2],
    vectors: [FloatTensor<B>; 3],
    eps: f32,
) -> FloatTensor<B> {
    let width = x.shape()[1];
    let [delta_bias, weight, bias] = vectors.map(|it| B::float_reshape(it, Shape::new([1, width])));
    let sum = B::float_add(B::float_add(x, delta), delta_bias);
    let centred = B::float_sub(sum.clone(), B::float_mean_dim(sum, 1));
    let variance = B::float_mean_dim(B::float_mul(centred.clone(), centred.clone()), 1);
    let deviation = B::float_sqrt(B::float_add_scalar(variance, eps.into()));
    B::float_add(B::float_mul(B::float_div(centred, deviation), weight), bias)
}

#[cfg(feature = "flex")]
impl AddLayerNorm for burn::backend::Flex {
    fn add_layer_norm(
        x: FloatTensor<Self>,
        delta: FloatTensor<Self>,
        delta_bias: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        eps: f32,
    ) -> FloatTensor<Self> {
        use rayon::prelude::*;

        use crate::cpu::{elementwise, slices};

        let shape = x.shape();
        let of = [x, delta, delta_bias, weight, bias].map(slices::contiguous);
        let [x, delta, vectors @ ..] = of.each_ref().map(slices::elements);
        let mut out = vec![0.0; x.len()];
        let part = slices::part_len(shape[1]);
        let rows = x.par_chunks(part).zip(delta.par_chunks(part));
        rows.zip(out.par_chunks_mut(part)).for_each(|((x, delta), out)| {
            elementwise::add_layer_norm([x, delta], vectors, eps, out);
        });
        slices::tensor(out, shape)
    }
}

#[cfg(feature = "accelerator")]
impl AddLayerNorm for burn_cubecl::CubeBackend {}

#[cfg(test)]
#[cfg(feature = "flex")]
mod tests {
    use burn::backend::Flex;
    use proptest::prelude::*;

    use super::*;
    use crate::cpu::slices;

    proptest! {
        #[test]
        fn the_cpu_kernel_equals_the_composition(rows in 1_usize..5, width in 1_usize..90) {
            let of = |rows: usize, salt: f32| -> FloatTensor<Flex> {
                let value = |it: usize| ((it as f32 + salt) * 12.9898).sin();
                slices::tensor((0..rows * width).map(value).collect(), match rows {
                    1 if salt > 1.0 => vec![width],
                    _ => vec![rows, width],
                })
            };
            let inputs = || [of(rows, 0.1), of(rows, 0.2)];
            let vectors = || [of(1, 1.3), of(1, 1.4), of(1, 1.5)];
            let ([x, delta], [delta_bias, weight, bias]) = (inputs(), vectors());
            let found = Flex::add_layer_norm(x, delta, delta_bias, weight, bias, 1e-3);
            let expected = slices::contiguous(composed::<Flex>(inputs(), vectors(), 1e-3));
            for (a, b) in slices::elements(&found).iter().zip(slices::elements(&expected)) {
                prop_assert!((a - b).abs() < 1e-5, "{a}, not {b}");
            }
        }
    }
}
