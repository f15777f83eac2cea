//! Attention over packed spans of tokens, forward and backward.

use std::ops::Range;
use std::sync::Arc;

use burn::backend::autodiff::Autodiff;
use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::tensor::{FloatTensor, IntTensor};
use burn::backend::{Backend, Dispatch, ExtensionType, TensorMetadata, backend_extension};
use burn::tensor::{FloatDType, IndexingUpdateOp, Shape, Slice, Tensor, TensorData};

use super::product::Product;
use super::span_layout::{Rectangle, SpanLayout};
use crate::ComputeDtype;
use crate::spans::{Heads, SpanQueries};

/// Number of queries of a span whose scores exist at a time.
const BLOCK: usize = 512;

/// Bias of masked scores: low enough to vanish in the softmax, finite to avoid NaN.
pub(crate) const MASKED: f32 = -1e9;

/// Arguments of the operation that are not tensors.
#[derive(Clone, Debug)]
pub(crate) struct AttentionPlan {
    spans: Arc<Vec<SpanQueries>>,
    heads: Heads,
    shape: Rectangle,
    compute_dtype: ComputeDtype,
}

/// Tensors of [`SpanLayout`] on a backend.
#[derive(Clone, Debug, ExtensionType)]
#[cfg_attr(feature = "accelerator", extension_type(fusion))]
pub(crate) struct SpanIndex<B: Backend> {
    query_index: IntTensor<B>,
    query_place: IntTensor<B>,
    key_index: IntTensor<B>,
    visible: FloatTensor<B>,
}

/// Grouped-query attention, causal in the spans that say so.
///
/// ```text
/// o_i = sum over visible j of p_ij v_j,   p_ij = exp(q_i . k_j) / sum over visible j of exp(q_i . k_j)
///
/// dv_j = sum_i p_ij do_i                  ds_ij = p_ij (do_i . v_j - sum_k p_ik do_i . v_k)
/// dq_i = sum_j ds_ij k_j                  dk_j = sum_i ds_ij q_i
/// ```
///
/// The backward pass saves queries, keys and values, and recomputes the scores one block of queries
/// at a time. With [`ComputeDtype::Bf16`] accelerators round the inputs of each product; the CPU
/// computes attention in f32.
///
/// # Shapes
///
/// - queries, output: `[queries, query_width]`, queries already scaled
/// - keys, values: `[tokens, key_width]`
///
/// # References
///
/// - [GQA](https://arxiv.org/abs/2305.13245), section 2.2
/// - [FlashAttention](https://arxiv.org/abs/2205.14135), section 3.1 and appendix B.2, with all keys
///   of a query in one block, so that partial sums need no rescaling
pub(crate) fn attention(
    [queries, keys, values]: [Tensor<2>; 3],
    layout: &SpanLayout,
    heads: Heads,
    compute_dtype: ComputeDtype,
) -> Tensor<2> {
    let SpanLayout { spans, query_index, query_place, key_index, visible, shape } = layout.clone();
    let index = SpanIndex::<Dispatch> {
        query_index: query_index.into_dispatch(),
        query_place: query_place.into_dispatch(),
        key_index: key_index.into_dispatch(),
        visible: visible.into_dispatch(),
    };
    let plan = AttentionPlan { spans, heads, shape, compute_dtype };
    let [queries, keys, values] = [queries, keys, values].map(Tensor::into_dispatch);
    Tensor::from_dispatch(Dispatch::span_attention(queries, keys, values, index, plan))
}

/// [`attention`] on a backend.
#[backend_extension(
    Cube: cfg(feature = "accelerator"),
    Flex: cfg(feature = "flex"),
    Autodiff,
    Fusion: cfg(feature = "accelerator")
)]
pub(crate) trait SpanAttention: Product {
    #[fusion(default)]
    fn span_attention(
        queries: FloatTensor<Self>,
        keys: FloatTensor<Self>,
        values: FloatTensor<Self>,
        #[extension_type] index: SpanIndex<Self>,
        plan: AttentionPlan,
    ) -> FloatTensor<Self> {
        Rectangles::new([queries, keys, values], &index, &plan).attend(&index)
    }

    /// Gradients of queries, keys and values.
    #[fusion(default)]
    fn span_attention_backward(
        queries: FloatTensor<Self>,
        keys: FloatTensor<Self>,
        values: FloatTensor<Self>,
        #[extension_type] index: SpanIndex<Self>,
        plan: AttentionPlan,
        upstream: FloatTensor<Self>,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        let tokens = keys.shape()[0];
        Rectangles::new([queries, keys, values], &index, &plan).backward(upstream, &index, tokens)
    }
}

#[cfg(feature = "flex")]
impl SpanAttention for burn::backend::Flex {
    fn span_attention(
        queries: FloatTensor<Self>,
        keys: FloatTensor<Self>,
        values: FloatTensor<Self>,
        _index: SpanIndex<Self>,
        plan: AttentionPlan,
    ) -> FloatTensor<Self> {
        use crate::cpu::{attention::attention, slices};

        let shape = queries.shape();
        let of = [queries, keys, values].map(slices::contiguous);
        let [queries, keys, values] = of.each_ref().map(slices::elements);
        slices::tensor(attention(queries, keys, values, &plan.spans, plan.heads), shape)
    }

    fn span_attention_backward(
        queries: FloatTensor<Self>,
        keys: FloatTensor<Self>,
        values: FloatTensor<Self>,
        _index: SpanIndex<Self>,
        plan: AttentionPlan,
        upstream: FloatTensor<Self>,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        use crate::cpu::{attention::attention_backward, slices};

        let of = [queries, keys, values].map(slices::contiguous);
        let upstream = slices::contiguous(upstream);
        let elements = of.each_ref().map(slices::elements);
        let grads =
            attention_backward(elements, slices::elements(&upstream), &plan.spans, plan.heads);
        let [queries, keys, values] = of.each_ref().map(TensorMetadata::shape);
        let [query_grads, key_grads, value_grads] = grads;
        (
            slices::tensor(query_grads, queries),
            slices::tensor(key_grads, keys),
            slices::tensor(value_grads, values),
        )
    }
}

#[cfg(feature = "accelerator")]
impl SpanAttention for burn_cubecl::CubeBackend {}

/// Queries, keys and values in rectangles, for batched products: the implementation of
/// [`attention`] as a composition of burn's operations.
struct Rectangles<'a, B: Product> {
    /// `[spans, key_value_heads, group, queries, head_dim]`.
    queries: FloatTensor<B>,
    /// `[spans, key_value_heads, keys, head_dim]`.
    keys: FloatTensor<B>,
    values: FloatTensor<B>,
    /// `[spans, 1, 1, queries, 1]`.
    visible: FloatTensor<B>,
    plan: &'a AttentionPlan,
}

impl<'a, B: Product> Rectangles<'a, B> {
    fn new(
        [queries, keys, values]: [FloatTensor<B>; 3],
        index: &SpanIndex<B>,
        plan: &'a AttentionPlan,
    ) -> Self {
        let [spans, wide] = [plan.spans.len(), plan.shape.queries];
        let queries = B::float_select(queries, 0, index.query_index.clone());
        let keys = [keys, values].map(|it| {
            plan.keys::<B>(plan.rounded::<B>(B::float_select(it, 0, index.key_index.clone())))
        });
        let [keys, values] = keys;
        let visible = B::float_reshape(index.visible.clone(), Shape::new([spans, 1, 1, wide, 1]));
        let queries = plan.queries::<B>(plan.rounded::<B>(queries));
        Self { queries, keys, values, visible, plan }
    }

    fn attend(self, index: &SpanIndex<B>) -> FloatTensor<B> {
        let blocks = self.plan.blocks().map(|block| {
            let weights = self.plan.rounded::<B>(self.weights(&block));
            self.plan.product::<B>(weights, self.values.clone())
        });
        self.joined(blocks.collect(), index)
    }

    fn backward(
        self,
        upstream: FloatTensor<B>,
        index: &SpanIndex<B>,
        tokens: usize,
    ) -> (FloatTensor<B>, FloatTensor<B>, FloatTensor<B>) {
        let plan = self.plan;
        let padded = self.spread(
            upstream,
            index.query_place.clone(),
            plan.spans.len() * plan.shape.queries,
            plan.heads.query_width(),
        );
        let upstream = plan.queries::<B>(plan.rounded::<B>(padded));
        let mut query_grads = Vec::new();
        let mut sums: Option<[FloatTensor<B>; 2]> = None;
        for block in plan.blocks() {
            let weights = self.weights(&block);
            let upstream = plan.block::<B>(&upstream, &block);
            let transposed = B::float_transpose(plan.rounded::<B>(weights.clone()));
            let value_grads = plan.product::<B>(transposed, upstream.clone());
            let weight_grads = plan.product::<B>(upstream, B::float_transpose(self.values.clone()));
            let mean = B::float_sum_dim(B::float_mul(weights.clone(), weight_grads.clone()), 3);
            let score_grads = B::float_mul(weights, B::float_sub(weight_grads, mean));
            let score_grads = plan.rounded::<B>(score_grads);
            query_grads.push(plan.product::<B>(score_grads.clone(), self.keys.clone()));
            let queries = plan.block::<B>(&self.queries, &block);
            let key_grads = plan.product::<B>(B::float_transpose(score_grads), queries);
            sums = Some(match sums {
                None => [key_grads, value_grads],
                Some([keys, values]) => {
                    [B::float_add(keys, key_grads), B::float_add(values, value_grads)]
                }
            });
        }
        let query_grads = self.joined(query_grads, index);
        let sums = sums.expect("a span holds at least one query");
        let [key_grads, value_grads] = sums.map(|it| {
            // [spans, heads, keys, head_dim] to [spans * keys, key_width].
            let flat = Shape::new([plan.spans.len() * plan.shape.keys, plan.heads.key_width()]);
            let it = B::float_reshape(B::float_permute(it, &[0, 2, 1, 3]), flat);
            self.spread(it, index.key_index.clone(), tokens, plan.heads.key_width())
        });
        (query_grads, key_grads, value_grads)
    }

    /// Attention weights of a block of queries, `[spans, key_value_heads, group * block, keys]`.
    fn weights(&self, block: &Range<usize>) -> FloatTensor<B> {
        let (plan, shape) = (self.plan, self.plan.shape);
        let Heads { key_value_heads, group, .. } = plan.heads;
        let spans = plan.spans.len();
        let queries = plan.block::<B>(&self.queries, block);
        let scores = plan.product::<B>(queries, B::float_transpose(self.keys.clone()));
        let split = [spans, key_value_heads, group, block.len(), shape.keys];
        let scores = B::float_reshape(scores, Shape::new(split));
        // (visible - 1/2) - column is positive for visible columns.
        let all = Slice::new(0, None, 1);
        let rows = Slice::new(block.start as isize, Some(block.end as isize), 1);
        let visible = B::float_slice(self.visible.clone(), &[all, all, all, rows, all]);
        let columns: Vec<f32> = (0..shape.keys).map(|it| it as f32).collect();
        let columns = TensorData::new(columns, [1, 1, 1, 1, shape.keys]);
        let columns = B::float_from_data(columns, &scores.device());
        let hidden = B::float_clamp_max(B::float_sub(visible, columns), 0.0_f32.into());
        let scores = B::float_add(scores, B::float_mul_scalar(hidden, (-2.0 * MASKED).into()));
        let scores = B::float_sub(scores.clone(), B::float_max_dim(scores, 4));
        let weights = B::float_exp(scores);
        let weights = B::float_div(weights.clone(), B::float_sum_dim(weights, 4));
        let flat = [spans, key_value_heads, group * block.len(), shape.keys];
        B::float_reshape(weights, Shape::new(flat))
    }

    /// Concatenates blocks of queries, `[spans, key_value_heads, group * block, head_dim]`, and
    /// returns them in packed order.
    fn joined(&self, blocks: Vec<FloatTensor<B>>, index: &SpanIndex<B>) -> FloatTensor<B> {
        let Heads { key_value_heads, group, head_dim } = self.plan.heads;
        let spans = self.plan.spans.len();
        let parts = blocks.into_iter().zip(self.plan.blocks()).map(|(it, block)| {
            let split = [spans, key_value_heads, group, block.len(), head_dim];
            B::float_reshape(it, Shape::new(split))
        });
        let all = B::float_permute(B::float_cat(parts.collect(), 3), &[0, 3, 1, 2, 4]);
        let flat = [spans * self.plan.shape.queries, self.plan.heads.query_width()];
        let all = B::float_reshape(all, Shape::new(flat));
        B::float_select(all, 0, index.query_place.clone())
    }

    /// Adds rows to the rows of a zero matrix at their places.
    fn spread(
        &self,
        rows: FloatTensor<B>,
        places: IntTensor<B>,
        len: usize,
        width: usize,
    ) -> FloatTensor<B> {
        let zeros = B::float_zeros(Shape::new([len, width]), &rows.device(), FloatDType::F32);
        B::float_select_assign(zeros, 0, places, rows, IndexingUpdateOp::Add)
    }
}

impl AttentionPlan {
    /// Blocks of queries.
    fn blocks(&self) -> impl Iterator<Item = Range<usize>> + use<> {
        let len = self.shape.queries;
        (0..len).step_by(BLOCK).map(move |start| start..(start + BLOCK).min(len))
    }

    /// Splits `[spans * queries, query_width]` into heads.
    fn queries<B: Backend>(&self, flat: FloatTensor<B>) -> FloatTensor<B> {
        let Heads { key_value_heads, group, head_dim } = self.heads;
        let split = [self.spans.len(), self.shape.queries, key_value_heads, group, head_dim];
        B::float_permute(B::float_reshape(flat, Shape::new(split)), &[0, 2, 3, 1, 4])
    }

    /// Splits `[spans * keys, key_width]` into heads.
    fn keys<B: Backend>(&self, flat: FloatTensor<B>) -> FloatTensor<B> {
        let Heads { key_value_heads, head_dim, .. } = self.heads;
        let split = [self.spans.len(), self.shape.keys, key_value_heads, head_dim];
        B::float_permute(B::float_reshape(flat, Shape::new(split)), &[0, 2, 1, 3])
    }

    /// Block of queries, with the heads of a group stacked: `[spans, key_value_heads, group * block,
    /// head_dim]`.
    fn block<B: Backend>(&self, queries: &FloatTensor<B>, block: &Range<usize>) -> FloatTensor<B> {
        let Heads { key_value_heads, group, head_dim } = self.heads;
        let all = Slice::new(0, None, 1);
        let rows = Slice::new(block.start as isize, Some(block.end as isize), 1);
        let part = B::float_slice(queries.clone(), &[all, all, all, rows, all]);
        let stacked = [self.spans.len(), key_value_heads, group * block.len(), head_dim];
        B::float_reshape(part, Shape::new(stacked))
    }

    fn product<B: Product>(&self, a: FloatTensor<B>, b: FloatTensor<B>) -> FloatTensor<B> {
        B::product(a, b, false, self.compute_dtype)
    }

    fn rounded<B: Product>(&self, it: FloatTensor<B>) -> FloatTensor<B> {
        super::product::rounded::<B>(it, self.compute_dtype)
    }
}

#[derive(Debug)]
struct SpanAttentionBackward;

impl<B: SpanAttention> Backward<B, 3> for SpanAttentionBackward {
    type State = ([FloatTensor<B>; 3], SpanIndex<B>, AttentionPlan);

    fn backward(
        self,
        ops: Ops<Self::State, 3>,
        grads: &mut Gradients,
        _checkpointer: &mut Checkpointer,
    ) {
        let ([queries, keys, values], index, plan) = ops.state;
        let upstream = grads.consume::<B>(&ops.node);
        let (query_grads, key_grads, value_grads) =
            B::span_attention_backward(queries, keys, values, index, plan, upstream);
        for (node, grad) in ops.parents.into_iter().zip([query_grads, key_grads, value_grads]) {
            if let Some(node) = node {
                grads.register::<B>(node.id, grad);
            }
        }
    }
}

impl<B: SpanAttention, C: CheckpointStrategy> SpanAttention for Autodiff<B, C> {
    fn span_attention(
        queries: FloatTensor<Self>,
        keys: FloatTensor<Self>,
        values: FloatTensor<Self>,
        index: SpanIndex<Self>,
        plan: AttentionPlan,
    ) -> FloatTensor<Self> {
        let prepared =
            SpanAttentionBackward.prepare::<C>([queries.node(), keys.node(), values.node()]);
        let [queries, keys, values] = [queries, keys, values].map(|it| it.into_primitive());
        let index = SpanIndex::<B> {
            query_index: index.query_index,
            query_place: index.query_place,
            key_index: index.key_index,
            visible: index.visible.into_primitive(),
        };
        let run = |index: SpanIndex<B>, plan: AttentionPlan| {
            B::span_attention(queries.clone(), keys.clone(), values.clone(), index, plan)
        };
        match prepared.compute_bound().stateful() {
            OpsKind::Tracked(prep) => {
                let output = run(index.clone(), plan.clone());
                prep.finish(([queries, keys, values], index, plan), output)
            }
            OpsKind::UnTracked(prep) => prep.finish(run(index, plan)),
        }
    }
}

#[cfg(test)]
#[cfg(feature = "flex")]
mod tests {
    use burn::backend::Flex;
    use burn::tensor::{Device, Int};
    use proptest::prelude::*;

    use super::*;

    fn tensor(shape: [usize; 2], salt: f32) -> FloatTensor<Flex> {
        let len = shape[0] * shape[1];
        let values: Vec<f32> = (0..len).map(|it| ((it as f32 + salt) * 12.9898).sin()).collect();
        crate::cpu::slices::tensor(values, shape)
    }

    fn numbers(it: &FloatTensor<Flex>) -> Vec<f32> {
        crate::cpu::slices::elements(&crate::cpu::slices::contiguous(it.clone())).to_vec()
    }

    #[track_caller]
    fn close(found: &FloatTensor<Flex>, expected: &FloatTensor<Flex>, what: &str) {
        let (found, expected) = (numbers(found), numbers(expected));
        assert_eq!(found.len(), expected.len(), "{what}");
        for (a, b) in found.iter().zip(&expected) {
            assert!((a - b).abs() < 2e-5, "{what}: {a}, not {b}");
        }
    }

    /// Spans of the given lengths; all but the first continue the first one.
    fn check(lengths: &[usize], heads: Heads, is_causal: bool) {
        let mut start = 0;
        let spans = lengths.iter().enumerate().map(|(at, len)| {
            let own = start..start + len;
            start = own.end;
            let prefix = if at == 0 { 0..0 } else { 0..lengths[0] };
            let (queries, indices) = (own.clone(), own.clone().collect());
            SpanQueries { prefix, queries, indices, own, is_causal }
        });
        let spans: Vec<SpanQueries> = spans.collect();
        let tokens: usize = lengths.iter().sum();
        let device = Device::flex();
        let layout = SpanLayout::with_rectangles(spans, &device);
        let ints = |it: Tensor<1, Int>| it.try_into_primitive::<Flex>().expect("on the CPU");
        let index = SpanIndex::<Flex> {
            query_index: ints(layout.query_index),
            query_place: ints(layout.query_place),
            key_index: ints(layout.key_index),
            visible: layout.visible.try_into_primitive::<Flex>().expect("on the CPU"),
        };
        let SpanLayout { spans, shape, .. } = SpanLayout::new(layout.spans.to_vec(), &device);
        let plan = AttentionPlan { spans, heads, shape, compute_dtype: ComputeDtype::F32 };
        let of = || {
            [
                tensor([tokens, heads.query_width()], 0.1),
                tensor([tokens, heads.key_width()], 0.2),
                tensor([tokens, heads.key_width()], 0.3),
            ]
        };
        let upstream = tensor([tokens, heads.query_width()], 0.7);
        let what = format!("{lengths:?} {heads:?} {is_causal}");
        let composed = || Rectangles::<Flex>::new(of(), &index, &plan);
        let [q, k, v] = of();
        let found = Flex::span_attention(q, k, v, index.clone(), plan.clone());
        close(&found, &composed().attend(&index), &what);
        let (q, k, v) = composed().backward(upstream.clone(), &index, tokens);
        let expected = [q, k, v];
        let [q, k, v] = of();
        let (q, k, v) =
            Flex::span_attention_backward(q, k, v, index.clone(), plan.clone(), upstream);
        for (found, expected) in [q, k, v].iter().zip(&expected) {
            close(found, expected, &what);
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]

        #[test]
        fn the_cpu_kernel_equals_the_composition(
            lengths in proptest::collection::vec(1_usize..70, 1..4),
            (key_value_heads, group, head_dim) in (1_usize..3, 1_usize..4, 1_usize..6),
            is_causal in proptest::bool::ANY,
        ) {
            check(&lengths, Heads { key_value_heads, group, head_dim }, is_causal);
        }
    }

    /// More queries than a block of the composition.
    #[test]
    fn long_spans_are_computed_in_blocks() {
        check(&[BLOCK + 3, 20], Heads { key_value_heads: 1, group: 2, head_dim: 4 }, true);
    }

    /// One head of width 1, queries 0 and ln 3, keys 0 and 1, values 1 and 5. The second query
    /// weighs the keys 1 to 3, so its output is 4. With an upstream gradient of 0 and 1, ds = 3/4
    /// (5 - 4) for the second key and 1/4 (1 - 4) for the first.
    #[test]
    fn gradients_of_two_tokens() {
        let device = Device::flex().autodiff();
        let column = |values: [f32; 2]| Tensor::<1>::from_floats(values, &device).reshape([2, 1]);
        let of = [[0.0, 3_f32.ln()], [0.0, 1.0], [1.0, 5.0]];
        let of: [Tensor<2>; 3] = of.map(|it| column(it).require_grad());
        let heads = Heads { key_value_heads: 1, group: 1, head_dim: 1 };
        let indices = vec![0, 1];
        let span = SpanQueries { prefix: 0..0, own: 0..2, queries: 0..2, indices, is_causal: true };
        let layout = SpanLayout::new(vec![span], &Device::flex());
        let output = attention(of.clone(), &layout, heads, ComputeDtype::F32);
        let numbers = |it: TensorData| it.iter::<f32>().collect::<Vec<_>>();
        let close = |found: TensorData, expected: [f32; 2]| {
            let found = numbers(found);
            let difference = found.iter().zip(expected).map(|(a, b)| (a - b).abs());
            assert!(difference.fold(0.0, f32::max) < 1e-5, "{found:?}, not {expected:?}");
        };
        close(output.clone().into_data(), [1.0, 4.0]);
        let mut grads = (output * column([0.0, 1.0])).sum().backward();
        let grads = of.map(|it| it.grad_remove(&mut grads).expect("it is a leaf").into_data());
        let [query_grads, key_grads, value_grads] = grads;
        close(query_grads, [0.0, 0.75]);
        close(key_grads, [-0.75 * 3_f32.ln(), 0.75 * 3_f32.ln()]);
        close(value_grads, [0.25, 0.75]);
    }
}
