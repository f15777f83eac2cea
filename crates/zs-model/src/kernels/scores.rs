//! Log-probabilities of targets and entropies of next-token distributions, with their gradients.

use burn::backend::tensor::{FloatTensor, IntTensor};
use burn::backend::{Backend, Dispatch, TensorMetadata, backend_extension};
use burn::tensor::{IndexingUpdateOp, Int, Shape, Slice, Tensor};

/// Scores of rows of logits: the log-probability of the target, the entropy of the softmax, and the
/// log-sum-exp.
///
/// ```text
/// log p_target = z_target - L,   H = -sum over the vocabulary of p log p,   L = log sum exp z
/// ```
///
/// Has no gradient of its own; see [`token_scores_backward`].
///
/// # Shapes
///
/// - logits: `[n, vocab]`; targets: `[n]`; output: `[n, 3]`
pub(crate) fn token_scores(logits: Tensor<2>, targets: Tensor<1, Int>) -> Tensor<2> {
    let (logits, targets) = (logits.into_dispatch(), targets.into_dispatch());
    Tensor::from_dispatch(Dispatch::token_scores(logits, targets))
}

/// Gradient of the logits, given those of the [scores](token_scores).
///
/// ```text
/// dL/dz_k = g (1[k = target] - p_k) - h p_k (log p_k + H)
/// g = dL/d log p_target,   h = dL/dH,   p = softmax(z)
/// ```
///
/// # Shapes
///
/// - logits, output: `[n, vocab]`; targets, g, h: `[n]`; scores: `[n, 3]`
pub(crate) fn token_scores_backward(
    logits: Tensor<2>,
    targets: Tensor<1, Int>,
    scores: Tensor<2>,
    g: Tensor<1>,
    h: Tensor<1>,
) -> Tensor<2> {
    Tensor::from_dispatch(Dispatch::token_scores_backward(
        logits.into_dispatch(),
        targets.into_dispatch(),
        scores.into_dispatch(),
        g.into_dispatch(),
        h.into_dispatch(),
    ))
}

/// [`token_scores`] on a backend.
#[backend_extension(
    Cube: cfg(feature = "accelerator"),
    Flex: cfg(feature = "flex"),
    Fusion: cfg(feature = "accelerator")
)]
pub(crate) trait TokenScoring: Backend {
    #[fusion(default)]
    fn token_scores(logits: FloatTensor<Self>, targets: IntTensor<Self>) -> FloatTensor<Self> {
        let n = logits.shape()[0];
        let largest = Self::float_max_dim(logits.clone(), 1);
        let shifted = Self::float_sub(logits.clone(), largest.clone());
        let exp = Self::float_exp(shifted.clone());
        let sum = Self::float_sum_dim(exp.clone(), 1);
        let log = Self::float_log(sum.clone());
        let mean = Self::float_div(Self::float_sum_dim(Self::float_mul(exp, shifted), 1), sum);
        let entropy = Self::float_sub(log.clone(), mean);
        let log_sum = Self::float_add(largest, log);
        let targets = Self::int_reshape(targets, Shape::new([n, 1]));
        let log_prob = Self::float_sub(Self::float_gather(1, logits, targets), log_sum.clone());
        Self::float_cat(vec![log_prob, entropy, log_sum], 1)
    }

    #[fusion(default)]
    fn token_scores_backward(
        logits: FloatTensor<Self>,
        targets: IntTensor<Self>,
        scores: FloatTensor<Self>,
        g: FloatTensor<Self>,
        h: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        let n = logits.shape()[0];
        let column = |it| Self::float_reshape(it, Shape::new([n, 1]));
        let score = |at: isize| {
            let rows = Slice::new(0, None, 1);
            Self::float_slice(scores.clone(), &[rows, Slice::new(at, Some(at + 1), 1)])
        };
        let (g, h) = (column(g), column(h));
        let log_p = Self::float_sub(logits, score(2));
        let factor = Self::float_mul(Self::float_add(log_p.clone(), score(1)), h);
        let factor = Self::float_add(factor, g.clone());
        let grads = Self::float_neg(Self::float_mul(Self::float_exp(log_p), factor));
        let targets = Self::int_reshape(targets, Shape::new([n, 1]));
        Self::float_scatter(1, grads, targets, g, IndexingUpdateOp::Add)
    }
}

#[cfg(feature = "flex")]
impl TokenScoring for burn::backend::Flex {
    fn token_scores(logits: FloatTensor<Self>, targets: IntTensor<Self>) -> FloatTensor<Self> {
        use rayon::prelude::*;

        use crate::cpu::{elementwise, slices};

        let (vocab, logits) = (logits.shape()[1], slices::contiguous(logits));
        let targets = slices::indices(targets);
        let (part, rows) = (slices::part_len(vocab), slices::part_len(vocab) / vocab);
        let mut scores = vec![0.0; 3 * targets.len()];
        slices::elements(&logits)
            .par_chunks(part)
            .zip(targets.par_chunks(rows))
            .zip(scores.par_chunks_mut(3 * rows))
            .for_each(|((logits, targets), out)| elementwise::token_scores(logits, targets, out));
        slices::tensor(scores, [targets.len(), 3])
    }

    fn token_scores_backward(
        logits: FloatTensor<Self>,
        targets: IntTensor<Self>,
        scores: FloatTensor<Self>,
        g: FloatTensor<Self>,
        h: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        use rayon::prelude::*;

        use crate::cpu::{elementwise, slices};

        let shape = logits.shape();
        let mut grads = slices::elements(&slices::contiguous(logits)).to_vec();
        let of = [scores, g, h].map(slices::contiguous);
        let [scores, g, h] = of.each_ref().map(slices::elements);
        let targets = slices::indices(targets);
        let (part, rows) = (slices::part_len(shape[1]), slices::part_len(shape[1]) / shape[1]);
        grads
            .par_chunks_mut(part)
            .zip(targets.par_chunks(rows))
            .zip(scores.par_chunks(3 * rows))
            .zip(g.par_chunks(rows).zip(h.par_chunks(rows)))
            .for_each(|(((grads, targets), scores), (g, h))| {
                elementwise::token_scores_backward(grads, targets, scores, g, h);
            });
        slices::tensor(grads, shape)
    }
}

#[cfg(feature = "accelerator")]
impl TokenScoring for burn_cubecl::CubeBackend {}
