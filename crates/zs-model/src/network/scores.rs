//! Log-probabilities and entropies of loss tokens, with a bounded number of logits in memory.

use burn::tensor::activation::log_softmax;
use burn::tensor::{Device, Int, Tensor};
use serde::{Deserialize, Serialize};

use super::ComputeDtype;
use crate::batch::PaddedBatch;
use crate::replicas::secondary_devices;
use crate::{CausalLm, PolicyModel, TokenId, TokenRow};

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
    /// ComputeDtype of the matrix products of blocks and head; weights stay in f32.
    #[serde(alias = "products", skip_serializing_if = "ComputeDtype::is_f32")]
    pub compute_dtype: ComputeDtype,
}

impl Default for MemoryConfig {
    /// 2^25 logits (128 MiB in f32, 220 positions of Qwen2.5), no checkpointing, f32.
    fn default() -> Self {
        Self {
            max_logits: 1 << 25,
            gradient_checkpointing: false,
            compute_dtype: ComputeDtype::F32,
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
    /// Network with other memory settings.
    #[must_use]
    pub fn with_memory(mut self, memory: MemoryConfig) -> Self {
        self.memory = memory;
        self.set_compute_dtype(memory.compute_dtype);
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

    /// Scores final hidden states, `[rows * seq, hidden]`, chunk by chunk.
    pub(crate) fn score(
        &self,
        hidden: Tensor<2>,
        batch: &PaddedBatch,
        with_entropy: bool,
    ) -> FlatScores {
        let device = self.device();
        let predicting = hidden.select(0, batch.predicting_positions(&device));
        self.score_predicting(predicting, batch.targets(&device), with_entropy)
    }

    /// Scores the hidden states that predict the targets, `[loss tokens, hidden]`.
    pub(crate) fn score_predicting(
        &self,
        predicting: Tensor<2>,
        targets: Tensor<1, Int>,
        with_entropy: bool,
    ) -> FlatScores {
        let mut log_probs = Vec::new();
        let mut entropies = Vec::new();
        for (start, len) in self.chunks(predicting.dims()[0]) {
            let logits = self.head(rows_of(&predicting, start, len));
            let log_softmax = log_softmax(logits, 1);
            let targets = targets.clone().narrow(0, start, len).reshape([len, 1]);
            log_probs.push(log_softmax.clone().gather(1, targets).reshape([len]));
            if with_entropy {
                entropies.push(entropy(log_softmax));
            }
        }
        FlatScores {
            log_probs: concatenate(log_probs),
            entropy: with_entropy.then(|| concatenate(entropies)),
        }
    }

    /// Most likely tokens at the loss positions, with the target tokens and their rows.
    pub(crate) fn greedy_predictions(
        &self,
        rows: &[TokenRow],
    ) -> (Vec<TokenId>, Vec<TokenId>, Vec<usize>) {
        let device = self.device();
        let batch = PaddedBatch::for_device(rows, &device);
        if batch.num_loss_tokens() == 0 {
            return (Vec::new(), Vec::new(), Vec::new());
        }
        let hidden =
            self.model.hidden(batch.tokens(&device)).select(0, batch.predicting_positions(&device));
        let mut predicted = Vec::with_capacity(batch.num_loss_tokens());
        for (start, len) in self.chunks(batch.num_loss_tokens()) {
            let best = self.head(rows_of(&hidden, start, len)).argmax(1).into_data();
            predicted.extend(best.iter::<i64>().map(|it| it as TokenId));
        }
        (predicted, batch.target_ids().collect(), batch.loss_rows().collect())
    }

    /// Start and length of each chunk of positions for the head.
    pub(crate) fn chunks(
        &self,
        num_positions: usize,
    ) -> impl Iterator<Item = (usize, usize)> + use<> {
        let [vocab, _] = self.model.embed_tokens.weight.shape().dims();
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

fn concatenate(mut parts: Vec<Tensor<1>>) -> Tensor<1> {
    if parts.len() == 1 { parts.remove(0) } else { Tensor::cat(parts, 0) }
}
