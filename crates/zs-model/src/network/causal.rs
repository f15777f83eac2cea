//! Causal attention over whole rows, one block of queries at a time, forward and backward.

use std::ops::Range;

use burn::tensor::{Device, Int, Tensor};

use super::ComputeDtype;
use crate::kernels::MASKED;

/// Number of queries whose scores exist at a time.
const BLOCK: usize = 512;

/// Queries, keys and values of whole rows. Attention on them is not recorded by autodiff.
///
/// # Shapes
///
/// - queries: `[rows, key_value_heads, group, seq, head_dim]`, already scaled
/// - keys, values: `[rows, key_value_heads, seq, head_dim]`
#[derive(Clone, Debug)]
pub(crate) struct Heads {
    pub(crate) queries: Tensor<5>,
    pub(crate) keys: Tensor<4>,
    pub(crate) values: Tensor<4>,
    /// ComputeDtype of the products; softmax and accumulation are f32.
    pub(crate) compute_dtype: ComputeDtype,
}

/// Attention output of [`Heads`].
#[derive(Clone, Debug)]
pub(crate) struct Attended {
    /// `[rows, key_value_heads, group, seq, head_dim]`.
    pub(crate) output: Tensor<5>,
    /// Log-sum-exp of the scores, `[rows, key_value_heads, group, seq, 1]`.
    log_sums: Tensor<5>,
}

/// Causal masks of the blocks of queries.
#[derive(Clone, Debug)]
pub(crate) struct CausalBlocks {
    blocks: Vec<Block>,
}

#[derive(Clone, Debug)]
struct Block {
    queries: Range<usize>,
    /// Causal bias: 0 for keys up to the query's own, [`MASKED`] after it, `[1, 1, 1, queries, end
    /// of queries]`.
    bias: Tensor<5>,
}

impl Heads {
    /// Attention `softmax(Q K^T + causal mask) V`, with the scores of one block of queries in
    /// memory.
    ///
    /// ```text
    /// o_i = sum over j <= i of exp(s_ij - L_i) v_j,   s_ij = q_i . k_j,   L_i = log sum over j <= i of exp s_ij
    /// ```
    ///
    /// Keys after a block are skipped, which saves almost half of the products in long rows. With
    /// [`ComputeDtype::Bf16`] the inputs of each product are rounded.
    ///
    /// # References
    ///
    /// - [FlashAttention](https://arxiv.org/abs/2205.14135), section 3.1, with all keys of a query
    ///   in one block, so that partial sums need no rescaling
    pub(crate) fn attend(&self, blocks: &CausalBlocks) -> Attended {
        let (mut outputs, mut log_sums) = (Vec::new(), Vec::new());
        let of = self.to_matmul_dtype();
        for block in &blocks.blocks {
            let scores = of.scores(block);
            let max = scores.clone().max_dim(4);
            let weights = (scores - max.clone()).exp();
            let sum = weights.clone().sum_dim(4);
            let values = up_to(&of.values, block.queries.end);
            let weights = self.compute_dtype.round(stack(weights));
            let mixed = split(self.compute_dtype.product(weights, values), self.queries.dims());
            outputs.push(mixed / sum.clone());
            log_sums.push(max + sum.log());
        }
        Attended { output: joined(outputs), log_sums: joined(log_sums) }
    }

    /// Gradients of queries, keys and values, given that of the output.
    ///
    /// ```text
    /// p_ij = exp(s_ij - L_i)      dv_j = sum_i p_ij do_i      ds_ij = p_ij (do_i . v_j - do_i . o_i)
    /// dq_i = sum_j ds_ij k_j      dk_j = sum_i ds_ij q_i
    /// ```
    ///
    /// Recomputes scores, one block of queries at a time.
    ///
    /// # Shapes
    ///
    /// - upstream: as the attention output
    ///
    /// # References
    ///
    /// - [FlashAttention](https://arxiv.org/abs/2205.14135), appendix B.2
    pub(crate) fn backward(
        &self,
        blocks: &CausalBlocks,
        attended: &Attended,
        upstream: &Tensor<5>,
    ) -> Self {
        let dims = self.queries.dims();
        let output_dot = (upstream.clone() * attended.output.clone()).sum_dim(4);
        let (compute_dtype, of) = (self.compute_dtype, self.to_matmul_dtype());
        let mut queries = Vec::new();
        let mut sums: Option<(Tensor<4>, Tensor<4>)> = None;
        // Starts with the last block, whose queries attend to all keys.
        for block in blocks.blocks.iter().rev() {
            let end = block.queries.end;
            let rows = |it: &Tensor<5>| it.clone().slice_dim(3, block.queries.clone());
            let weights = stack((of.scores(block) - rows(&attended.log_sums)).exp());
            let upstream = compute_dtype.round(stack(rows(upstream)));
            let (keys, values) = (up_to(&of.keys, end), up_to(&of.values, end));
            let transposed = compute_dtype.round(weights.clone()).swap_dims(2, 3);
            let value_grads = compute_dtype.product(transposed, upstream.clone());
            let weight_grads = compute_dtype.product(upstream, values.swap_dims(2, 3));
            let score_grads = weights * (weight_grads - stack(rows(&output_dot)));
            let score_grads = compute_dtype.round(score_grads);
            queries.push(split(compute_dtype.product(score_grads.clone(), keys), dims));
            let queries = stack(rows(&of.queries));
            let key_grads = compute_dtype.product(score_grads.swap_dims(2, 3), queries);
            sums = Some(match sums {
                None => (key_grads, value_grads),
                Some((keys, values)) => (add_to(keys, key_grads), add_to(values, value_grads)),
            });
        }
        queries.reverse();
        let (keys, values) = sums.expect("a row holds at least one token");
        Self { queries: joined(queries), keys, values, compute_dtype }
    }

    /// Heads rounded to the dtype of the products.
    fn to_matmul_dtype(&self) -> Self {
        let Self { queries, keys, values, compute_dtype } = self.clone();
        Self {
            queries: compute_dtype.round(queries),
            keys: compute_dtype.round(keys),
            values: compute_dtype.round(values),
            compute_dtype,
        }
    }

    /// Masked scores of a block: `[rows, key_value_heads, group, queries, keys]`.
    fn scores(&self, block: &Block) -> Tensor<5> {
        let queries = self.queries.clone().slice_dim(3, block.queries.clone());
        let keys = up_to(&self.keys, block.queries.end);
        let [rows, heads, group, len, _] = queries.dims();
        let scores = self.compute_dtype.product(stack(queries), keys.swap_dims(2, 3));
        scores.reshape([rows, heads, group, len, block.queries.end]) + block.bias.clone()
    }
}

impl CausalBlocks {
    pub(crate) fn new(seq: usize, device: &Device) -> Self {
        Self::of(seq, BLOCK, device)
    }

    fn of(seq: usize, block: usize, device: &Device) -> Self {
        let blocks = (0..seq).step_by(block).map(|start| {
            let end = (start + block).min(seq);
            let shape = [end - start, end];
            let numbers = |range: Range<usize>| {
                Tensor::<1, Int>::arange(range.start as i64..range.end as i64, device)
            };
            let query = numbers(start..end).reshape([end - start, 1]).expand(shape);
            let key = numbers(0..end).reshape([1, end]).expand(shape);
            let bias = query.lower(key).float() * MASKED;
            Block { queries: start..end, bias: bias.reshape([1, 1, 1, end - start, end]) }
        });
        Self { blocks: blocks.collect() }
    }
}

/// Stacks the query heads of a group along the sequence: `[rows, heads, group, n, m]` to `[rows,
/// heads, group * n, m]`.
fn stack(x: Tensor<5>) -> Tensor<4> {
    let [rows, heads, group, n, m] = x.dims();
    x.reshape([rows, heads, group * n, m])
}

/// Inverse of [`stack`], for tensors of a head's width.
fn split(x: Tensor<4>, [rows, heads, group, _, head_dim]: [usize; 5]) -> Tensor<5> {
    let n = x.dims()[2] / group;
    x.reshape([rows, heads, group, n, head_dim])
}

/// First `end` keys or values.
fn up_to(x: &Tensor<4>, end: usize) -> Tensor<4> {
    x.clone().slice_dim(2, 0..end)
}

/// Concatenates blocks of queries.
fn joined(mut parts: Vec<Tensor<5>>) -> Tensor<5> {
    if parts.len() == 1 { parts.remove(0) } else { Tensor::cat(parts, 3) }
}

/// Adds `part` to the first rows of each head.
fn add_to(total: Tensor<4>, part: Tensor<4>) -> Tensor<4> {
    let [rows, heads, len, head_dim] = part.dims();
    let place = [0..rows, 0..heads, 0..len, 0..head_dim];
    let sum = total.clone().slice(place.clone()) + part;
    total.slice_assign(place, sum)
}

#[cfg(test)]
#[cfg(feature = "flex")]
mod tests {
    use burn::tensor::TensorData;
    use burn::tensor::activation::softmax;
    use proptest::prelude::*;

    use super::*;
    use crate::network::attention::causal_bias;

    /// Deterministic values between -1 and 1 that look random.
    fn tensor<const D: usize>(shape: [usize; D], salt: f32) -> Tensor<D> {
        let len: usize = shape.iter().product();
        let values = (0..len).map(|it| ((it as f32 + salt) * 12.9898).sin());
        Tensor::from_data(TensorData::new(values.collect::<Vec<f32>>(), shape), &Device::flex())
    }

    fn heads([rows, heads, group, seq, head_dim]: [usize; 5]) -> Heads {
        Heads {
            queries: tensor([rows, heads, group, seq, head_dim], 0.1) * 2.0,
            keys: tensor([rows, heads, seq, head_dim], 0.2),
            values: tensor([rows, heads, seq, head_dim], 0.3),
            compute_dtype: ComputeDtype::F32,
        }
    }

    /// Reference: attention with all scores at once, and its gradients by autodiff.
    fn whole(of: &Heads, upstream: &Tensor<5>) -> (Tensor<5>, Heads) {
        let (queries, keys, values) = (
            Tensor::from_inner(of.queries.clone()).require_grad(),
            Tensor::from_inner(of.keys.clone()).require_grad(),
            Tensor::from_inner(of.values.clone()).require_grad(),
        );
        let [rows, heads, group, seq, _] = queries.dims();
        let scores = stack(queries.clone()).matmul(keys.clone().swap_dims(2, 3));
        let bias = Tensor::from_inner(causal_bias(seq, &Device::flex()));
        let weights = softmax(scores.reshape([rows, heads, group, seq, seq]) + bias, 4);
        let output = split(stack(weights).matmul(values.clone()), queries.dims());
        let mut grads = (output.clone() * Tensor::from_inner(upstream.clone())).sum().backward();
        let gradients = Heads {
            queries: queries.grad_remove(&mut grads).expect("it is a leaf"),
            keys: keys.grad_remove(&mut grads).expect("it is a leaf"),
            values: values.grad_remove(&mut grads).expect("it is a leaf"),
            compute_dtype: of.compute_dtype,
        };
        (output.inner(), gradients)
    }

    #[track_caller]
    fn close<const D: usize>(a: &Tensor<D>, b: &Tensor<D>, tolerance: f32, what: &str) {
        assert_eq!(a.dims(), b.dims(), "{what}");
        let difference = (a.clone() - b.clone()).abs().max().into_scalar::<f32>();
        assert!(difference < tolerance, "{what}: {difference}");
    }

    #[track_caller]
    fn check(dims: [usize; 5], block: usize) {
        let of = heads(dims);
        let upstream = tensor(dims, 0.7);
        let blocks = CausalBlocks::of(dims[3], block, &Device::flex());
        let (output, expected) = whole(&of, &upstream);
        // bfloat16 has a relative precision of 2^-8; sums of some twenty products deviate by a few
        // of these.
        for (compute_dtype, tolerance) in [(ComputeDtype::F32, 2e-5), (ComputeDtype::Bf16, 5e-2)] {
            let of = Heads { compute_dtype, ..of.clone() };
            let attended = of.attend(&blocks);
            let gradients = of.backward(&blocks, &attended, &upstream);
            let what = format!("{dims:?} in blocks of {block}, {compute_dtype:?}");
            close(&attended.output, &output, tolerance, &what);
            close(&gradients.queries, &expected.queries, tolerance, &what);
            close(&gradients.keys, &expected.keys, tolerance, &what);
            close(&gradients.values, &expected.values, tolerance, &what);
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]

        #[test]
        fn blockwise_attention_equals_full_attention(
            dims in (1_usize..3, 1_usize..3, 1_usize..4, 1_usize..20, 1_usize..6),
            block in 1_usize..24,
        ) {
            let (rows, heads, group, seq, head_dim) = dims;
            check([rows, heads, group, seq, head_dim], block);
        }
    }

    /// One head of width 1, queries 0 and ln 3, keys 0 and 1, values 1 and 5. The second query
    /// weighs the keys 1 to 3, so its output is 4. With an upstream gradient of 0 and 1, ds = 3/4
    /// (5 - 4) for the second key and 1/4 (1 - 4) for the first.
    #[test]
    fn gradients_of_two_tokens() {
        let device = Device::flex();
        let column = |values: [f32; 2]| Tensor::<1>::from_floats(values, &device);
        let of = Heads {
            queries: column([0.0, 3_f32.ln()]).reshape([1, 1, 1, 2, 1]),
            keys: column([0.0, 1.0]).reshape([1, 1, 2, 1]),
            values: column([1.0, 5.0]).reshape([1, 1, 2, 1]),
            compute_dtype: ComputeDtype::F32,
        };
        for block in [1, 2] {
            let blocks = CausalBlocks::of(2, block, &device);
            let attended = of.attend(&blocks);
            let numbers = |it: TensorData| it.iter::<f32>().collect::<Vec<_>>();
            let close = |found: TensorData, expected: [f32; 2]| {
                let found = numbers(found);
                let difference = found.iter().zip(expected).map(|(a, b)| (a - b).abs());
                assert!(difference.fold(0.0, f32::max) < 1e-5, "{found:?}, not {expected:?}");
            };
            close(attended.output.clone().into_data(), [1.0, 4.0]);
            close(attended.log_sums.clone().into_data(), [0.0, 4_f32.ln()]);
            let upstream = column([0.0, 1.0]).reshape([1, 1, 1, 2, 1]);
            let gradients = of.backward(&blocks, &attended, &upstream);
            close(gradients.queries.into_data(), [0.0, 0.75]);
            close(gradients.keys.into_data(), [-0.75 * 3_f32.ln(), 0.75 * 3_f32.ln()]);
            close(gradients.values.into_data(), [0.25, 0.75]);
        }
    }
}
