//! Linear layers and norms in host memory.

use super::kernels::{rms_norm, rms_norm_backward};
use super::parameter::{Gradients, Parameter};
use super::product::{Matrix, MatrixMut, Write, product};
use crate::network::{Linear, LowRank, RmsNorm};

/// [`Linear`] in host memory.
#[derive(Debug)]
pub(crate) struct HostLinear {
    weight: Parameter,
    bias: Option<Parameter>,
    adapter: Option<HostLowRank>,
    shape: [usize; 2],
}

#[derive(Debug)]
struct HostLowRank {
    a: Parameter,
    b: Parameter,
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
            Some(it) => Some(Parameter::of(it)?),
            None => None,
        };
        let shape = linear.weight.shape().dims();
        Some(Self { weight: Parameter::of(&linear.weight)?, bias, adapter, shape })
    }

    pub(crate) fn output(&self) -> usize {
        self.shape[1]
    }

    /// Computes `out = x W + b`, or adds it to `out`.
    pub(crate) fn forward(&self, mut out: MatrixMut<'_>, x: Matrix<'_>, mode: Write) {
        product(out.reborrow(), x, Matrix::of(self.weight.values(), self.output()), mode);
        if let Some(bias) = &self.bias {
            out.add_row(bias.values());
        }
        if let Some(HostLowRank { a, b, r, scale }) = &self.adapter {
            let inner = scaled_product(x, Matrix::of(a.values(), *r), *scale);
            product(out, Matrix::of(&inner, *r), Matrix::of(b.values(), self.output()), Write::Add);
        }
    }

    /// Backward pass: computes the gradient of the input and accumulates those of the parameters.
    pub(crate) fn backward(
        &self,
        x: Matrix<'_>,
        upstream: Matrix<'_>,
        input_grads: MatrixMut<'_>,
        mode: Write,
        grads: &mut Gradients,
    ) {
        self.input_gradient(input_grads, upstream, mode);
        self.parameter_gradients(x, upstream, grads);
    }

    /// Computes the gradient of the input, or adds it to `input_grads`.
    pub(crate) fn input_gradient(
        &self,
        mut input_grads: MatrixMut<'_>,
        upstream: Matrix<'_>,
        mode: Write,
    ) {
        let output = self.output();
        let weight = Matrix::of(self.weight.values(), output);
        product(input_grads.reborrow(), upstream, weight.t(), mode);
        if let Some(HostLowRank { a, b, r, scale }) = &self.adapter {
            let inner_grads = scaled_product(upstream, Matrix::of(b.values(), output).t(), *scale);
            let a = Matrix::of(a.values(), *r);
            product(input_grads, Matrix::of(&inner_grads, *r), a.t(), Write::Add);
        }
    }

    /// Accumulates the gradients of the parameters.
    pub(crate) fn parameter_gradients(
        &self,
        x: Matrix<'_>,
        upstream: Matrix<'_>,
        grads: &mut Gradients,
    ) {
        let output = self.output();
        if self.weight.is_trained() {
            grads.put(&self.weight, transposed_product(x, upstream));
        }
        if let Some(bias) = self.bias.as_ref().filter(|it| it.is_trained()) {
            grads.put(bias, upstream.sum_of_rows());
        }
        let Some(HostLowRank { a, b, r, scale }) = &self.adapter else { return };
        if a.is_trained() {
            let inner_grads = scaled_product(upstream, Matrix::of(b.values(), output).t(), *scale);
            grads.put(a, transposed_product(x, Matrix::of(&inner_grads, *r)));
        }
        if b.is_trained() {
            let inner = scaled_product(x, Matrix::of(a.values(), *r), *scale);
            grads.put(b, transposed_product(Matrix::of(&inner, *r), upstream));
        }
    }
}

impl HostLowRank {
    fn of(adapter: &LowRank) -> Option<Self> {
        let [_, r] = adapter.lora_a.shape().dims();
        let scale = adapter.scale() as f32;
        Some(Self {
            a: Parameter::of(&adapter.lora_a)?,
            b: Parameter::of(&adapter.lora_b)?,
            r,
            scale,
        })
    }
}

/// Product `scale x w`.
fn scaled_product(x: Matrix<'_>, w: Matrix<'_>, scale: f32) -> Vec<f32> {
    let mut out = vec![0.0; x.rows() * w.columns()];
    product(MatrixMut::of(&mut out, w.columns()), x, w, Write::Replace);
    out.iter_mut().for_each(|it| *it *= scale);
    out
}

/// Product `x^T y`, the gradient of a weight.
pub(crate) fn transposed_product(x: Matrix<'_>, y: Matrix<'_>) -> Vec<f32> {
    let mut out = vec![0.0; x.columns() * y.columns()];
    product(MatrixMut::of(&mut out, y.columns()), x.t(), y, Write::Replace);
    out
}

/// [`RmsNorm`] in host memory.
#[derive(Debug)]
pub(crate) struct HostNorm {
    weight: Parameter,
    eps: f32,
}

impl HostNorm {
    pub(crate) fn of(norm: &RmsNorm) -> Option<Self> {
        Some(Self { weight: Parameter::of(&norm.weight)?, eps: norm.eps() as f32 })
    }

    pub(crate) fn width(&self) -> usize {
        self.weight.values().len()
    }

    /// Normalised rows, and the reciprocal root mean square of each row.
    pub(crate) fn forward(&self, x: &[f32]) -> (Vec<f32>, Vec<f32>) {
        let mut y = vec![0.0; x.len()];
        let mut inverse = vec![0.0; x.len() / self.width()];
        rms_norm(x, self.weight.values(), self.eps, &mut y, &mut inverse);
        (y, inverse)
    }

    /// Adds the gradient of the input to `input_grads`.
    pub(crate) fn backward(
        &self,
        x: &[f32],
        inverse: &[f32],
        upstream: &[f32],
        input_grads: &mut [f32],
        grads: &mut Gradients,
    ) {
        let mut weight_grads = vec![0.0; self.width()];
        let weight = self.weight.values();
        rms_norm_backward(x, weight, inverse, upstream, input_grads, &mut weight_grads);
        if self.weight.is_trained() {
            grads.put(&self.weight, weight_grads);
        }
    }
}
