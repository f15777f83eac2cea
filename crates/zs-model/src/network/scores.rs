//! Log-probabilities and entropies of loss tokens, with a bounded number of logits in memory.

use burn::tensor::activation::log_softmax;
use burn::tensor::{Device, Int, Tensor};
use serde::{Deserialize, Serialize};

use super::PackedRows;
use crate::kernels::token_scores;
use crate::replicas::secondary_devices;
use crate::workers::is_host;
use crate::{CausalLm, ComputeDtype, PolicyModel, TokenId};

/// Memory and precision settings of training.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct MemoryConfig {
    /// Maximum number of logits (`positions x vocabulary`) in memory; at least one position is
    /// computed.
    pub max_logits: usize,
    /// Recompute each block in the backward pass and save only its input (activation
    /// checkpointing). Memory holds the activations of one block instead of all, at the cost of one
    /// more forward pass.
    #[serde(alias = "recompute_blocks")]
    pub gradient_checkpointing: bool,
    /// Data type of the matrix products of blocks and head; weights stay in f32.
    #[serde(alias = "products", skip_serializing_if = "ComputeDtype::is_f32")]
    pub compute_dtype: ComputeDtype,
    /// Samples on a CPU so that the log-probabilities of a sequence are bit-exact whatever the rest of
    /// the batch is, and however many tokens are fed at once. Servers that share the sequences of a
    /// run then sample what one machine samples. Costs a second copy of the weights and a slower
    /// prefill; adapters are merged for sampling. Has no effect on an accelerator.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub batch_invariant: bool,
}

impl From<ComputeDtype> for MemoryConfig {
    fn from(compute_dtype: ComputeDtype) -> Self {
        Self { compute_dtype, ..Self::default() }
    }
}

impl Default for MemoryConfig {
    /// 2^25 logits (128 MiB in f32, 220 positions of Qwen2.5), no checkpointing, f32.
    fn default() -> Self {
        Self {
            max_logits: 1 << 25,
            gradient_checkpointing: false,
            compute_dtype: ComputeDtype::F32,
            batch_invariant: false,
        }
    }
}

/// Scores of the loss tokens, in row order, each `[loss tokens]`.
#[derive(Clone, Debug)]
pub(crate) struct FlatScores {
    pub(crate) log_probs: Tensor<1>,
    /// `None` if not requested.
    pub(crate) entropy: Option<Tensor<1>>,
}

impl CausalLm {
    /// Network with other memory settings; [`ComputeDtype::Auto`] becomes the dtype of the network's
    /// device.
    #[must_use]
    pub fn with_memory(mut self, memory: MemoryConfig) -> Self {
        let compute_dtype = memory.compute_dtype.resolved(!is_host(&self.device()));
        self.memory = MemoryConfig { compute_dtype, ..memory };
        self.set_compute_dtype(compute_dtype);
        self
    }

    /// Memory settings.
    #[must_use]
    pub fn memory(&self) -> MemoryConfig {
        self.memory
    }

    /// Network with a replica on each of these devices. Sequences and micro-batches are distributed
    /// over the replicas (data parallelism). The first device must be the network's own, which
    /// holds parameters, summed gradients and optimiser state.
    ///
    /// Results are equal up to rounding. A device may be listed more than once.
    ///
    /// # Panics
    ///
    /// Panics if the first device is not the one of the parameters.
    #[must_use]
    pub fn with_devices(mut self, devices: &[Device]) -> Self {
        self.secondary_devices = secondary_devices(&self.device(), devices);
        self
    }

    /// Scores of hidden states that predict targets, `[loss tokens, hidden]`, with a graph on a
    /// device with autodiff.
    pub(crate) fn score(
        &self,
        predicting: &Tensor<2>,
        targets: &Tensor<1, Int>,
        with_entropy: bool,
    ) -> FlatScores {
        let n = predicting.dims()[0];
        if !predicting.device().is_autodiff() {
            let scores = self.chunk_scores(predicting, targets);
            let column = |at: usize| scores.clone().narrow(1, at, 1).reshape([n]);
            return FlatScores { log_probs: column(0), entropy: with_entropy.then(|| column(1)) };
        }
        let log_p = log_softmax(self.head(predicting.clone()), 1);
        let log_probs = log_p.clone().gather(1, targets.clone().reshape([n, 1])).reshape([n]);
        FlatScores { log_probs, entropy: with_entropy.then(|| entropy(log_p)) }
    }

    /// [`token_scores`] of hidden states, chunk by chunk: `[loss tokens, 3]`.
    pub(crate) fn chunk_scores(
        &self,
        predicting: &Tensor<2>,
        targets: &Tensor<1, Int>,
    ) -> Tensor<2> {
        let chunks = self.chunks(predicting.dims()[0]).map(|(start, len)| {
            let logits = self.head(rows_of(predicting, start, len));
            token_scores(logits, targets.clone().narrow(0, start, len))
        });
        Tensor::cat(chunks.collect(), 0)
    }

    /// Most likely tokens at the loss positions.
    pub(crate) fn greedy_predictions(&self, rows: &PackedRows) -> Vec<TokenId> {
        if rows.num_loss_tokens() == 0 {
            return Vec::new();
        }
        let hidden = self.model.predicting(rows);
        let mut predicted = Vec::with_capacity(rows.num_loss_tokens());
        for (start, len) in self.chunks(rows.num_loss_tokens()) {
            let best = self.head(rows_of(&hidden, start, len)).argmax(1).into_data();
            predicted.extend(best.iter::<i64>().map(|it| it as TokenId));
        }
        predicted
    }

    /// Start and length of each chunk of positions for the head.
    pub(crate) fn chunks(
        &self,
        num_positions: usize,
    ) -> impl Iterator<Item = (usize, usize)> + use<> {
        let embedding = &self.model.embed_tokens;
        let vocab = match &embedding.packed {
            Some(packed) => packed.num_columns(),
            None => embedding.weight.shape()[0],
        };
        let at_once = (self.memory.max_logits / vocab).max(1);
        (0..num_positions)
            .step_by(at_once)
            .map(move |start| (start, at_once.min(num_positions - start)))
    }
}

/// Entropy of each row's softmax distribution, `[n, vocab]` to `[n]`.
///
/// ```text
/// H = -sum over the vocabulary of p log p
/// ```
fn entropy(log_softmax: Tensor<2>) -> Tensor<1> {
    let len = log_softmax.dims()[0];
    -(log_softmax.clone().exp() * log_softmax).sum_dim(1).reshape([len])
}

/// Rows of a matrix; avoids a copy if all rows are selected.
pub(crate) fn rows_of(matrix: &Tensor<2>, start: usize, len: usize) -> Tensor<2> {
    if len == matrix.dims()[0] { matrix.clone() } else { matrix.clone().narrow(0, start, len) }
}
