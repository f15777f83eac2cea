//! Linear maps and norms on slices.

use super::kernels::{rms_norm, rms_norm_backward};
use super::leaf::{Gradients, Leaf};
use super::product::{Into, Matrix, MatrixMut, product};
use crate::network::{Linear, LowRank, RmsNorm};

/// [`Linear`] on slices.
#[derive(Debug)]
pub(crate) struct HostLinear {
    weight: Leaf,
    bias: Option<Leaf>,
    adapter: Option<HostLowRank>,
    shape: [usize; 2],
}

#[derive(Debug)]
struct HostLowRank {
    a: Leaf,
    b: Leaf,
    r: usize,
    scale: f32,
}

impl HostLinear {
    pub(crate) fn of(linear: &Linear) -> Option<Self> {
        let adapter = match &linear.adapter {
            Some(it) => Some(HostLowRank::of(it)?),
            None => None,
        };
        let bias = match &linear.bias {
            Some(it) => Some(Leaf::of(it)?),
            None => None,
        };
        let shape = linear.weight.shape().dims();
        Some(Self { weight: Leaf::of(&linear.weight)?, bias, adapter, shape })
    }

    pub(crate) fn output(&self) -> usize {
        self.shape[1]
    }

    /// `out = x W + b`, or added to what is there.
    pub(crate) fn forward(&self, mut out: MatrixMut<'_>, x: Matrix<'_>, into: Into) {
        product(out.reborrow(), x, Matrix::of(self.weight.numbers(), self.output()), into);
        if let Some(bias) = &self.bias {
            out.add_row(bias.numbers());
        }
        if let Some(HostLowRank { a, b, r, scale }) = &self.adapter {
            let inner = scaled_product(x, Matrix::of(a.numbers(), *r), *scale);
            product(out, Matrix::of(&inner, *r), Matrix::of(b.numbers(), self.output()), Into::Add);
        }
    }

    /// Pulls the gradient of the output through, into `below` and to the parameters.
    pub(crate) fn backward(
        &self,
        x: Matrix<'_>,
        upstream: Matrix<'_>,
        below: MatrixMut<'_>,
        into: Into,
        grads: &mut Gradients,
    ) {
        self.below(below, upstream, into);
        self.to_parameters(x, upstream, grads);
    }

    /// The gradient of the input, or added to what is there.
    pub(crate) fn below(&self, mut below: MatrixMut<'_>, upstream: Matrix<'_>, into: Into) {
        let output = self.output();
        let weight = Matrix::of(self.weight.numbers(), output);
        product(below.reborrow(), upstream, weight.t(), into);
        if let Some(HostLowRank { a, b, r, scale }) = &self.adapter {
            let of_inner = scaled_product(upstream, Matrix::of(b.numbers(), output).t(), *scale);
            let a = Matrix::of(a.numbers(), *r);
            product(below, Matrix::of(&of_inner, *r), a.t(), Into::Add);
        }
    }

    /// The gradients of the parameters.
    pub(crate) fn to_parameters(&self, x: Matrix<'_>, upstream: Matrix<'_>, grads: &mut Gradients) {
        let output = self.output();
        if self.weight.is_trained() {
            grads.put(&self.weight, transposed_product(x, upstream));
        }
        if let Some(bias) = self.bias.as_ref().filter(|it| it.is_trained()) {
            grads.put(bias, upstream.sum_of_rows());
        }
        let Some(HostLowRank { a, b, r, scale }) = &self.adapter else { return };
        if a.is_trained() {
            let of_inner = scaled_product(upstream, Matrix::of(b.numbers(), output).t(), *scale);
            grads.put(a, transposed_product(x, Matrix::of(&of_inner, *r)));
        }
        if b.is_trained() {
            let inner = scaled_product(x, Matrix::of(a.numbers(), *r), *scale);
            grads.put(b, transposed_product(Matrix::of(&inner, *r), upstream));
        }
    }
}

impl HostLowRank {
    fn of(adapter: &LowRank) -> Option<Self> {
        let [_, r] = adapter.lora_a.shape().dims();
        let scale = adapter.scale() as f32;
        Some(Self { a: Leaf::of(&adapter.lora_a)?, b: Leaf::of(&adapter.lora_b)?, r, scale })
    }
}

/// `scale x w`.
fn scaled_product(x: Matrix<'_>, w: Matrix<'_>, scale: f32) -> Vec<f32> {
    let mut out = vec![0.0; x.rows() * w.columns()];
    product(MatrixMut::of(&mut out, w.columns()), x, w, Into::Replace);
    out.iter_mut().for_each(|it| *it *= scale);
    out
}

/// `x^T y`: the gradient of a weight.
pub(crate) fn transposed_product(x: Matrix<'_>, y: Matrix<'_>) -> Vec<f32> {
    let mut out = vec![0.0; x.columns() * y.columns()];
    product(MatrixMut::of(&mut out, y.columns()), x.t(), y, Into::Replace);
    out
}

/// [`RmsNorm`] on slices.
#[derive(Debug)]
pub(crate) struct HostNorm {
    weight: Leaf,
    eps: f32,
}

impl HostNorm {
    pub(crate) fn of(norm: &RmsNorm) -> Option<Self> {
        Some(Self { weight: Leaf::of(&norm.weight)?, eps: norm.eps() as f32 })
    }

    pub(crate) fn width(&self) -> usize {
        self.weight.numbers().len()
    }

    /// The normalised rows, and one over the root mean square of each.
    pub(crate) fn forward(&self, x: &[f32]) -> (Vec<f32>, Vec<f32>) {
        let mut y = vec![0.0; x.len()];
        let mut inverse = vec![0.0; x.len() / self.width()];
        rms_norm(x, self.weight.numbers(), self.eps, &mut y, &mut inverse);
        (y, inverse)
    }

    /// Adds the gradient of the input to `below`.
    pub(crate) fn backward(
        &self,
        x: &[f32],
        inverse: &[f32],
        upstream: &[f32],
        below: &mut [f32],
        grads: &mut Gradients,
    ) {
        let mut of_weight = vec![0.0; self.width()];
        let weight = self.weight.numbers();
        rms_norm_backward(x, weight, inverse, upstream, below, &mut of_weight);
        if self.weight.is_trained() {
            grads.put(&self.weight, of_weight);
        }
    }
}
