//! Log-probabilities and entropies of the tokens that carry loss, through a head that runs on a
//! bounded number of positions at a time.

use burn::optim::GradientsParams;
use burn::tensor::activation::log_softmax;
use burn::tensor::{Device, IndexingUpdateOp, Int, Tensor};
use serde::{Deserialize, Serialize};

use super::Precision;
use crate::batch::PaddedBatch;
use crate::host::HostNetwork;
use crate::replicas::{all_devices, secondary_devices};
use crate::{CausalLm, PolicyModel, TokenId, TokenRow, TokenScores};

/// What training keeps in memory, what it computes again, and how precisely.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct MemoryConfig {
    /// Logits that exist at a time: `positions x vocabulary` never exceeds this, at one position at
    /// least.
    pub max_logits: usize,
    /// Keep the input of each block only and run the block again on the way back: activations of
    /// one block instead of all, for one more forward pass.
    #[serde(alias = "recompute_blocks")]
    pub gradient_checkpointing: bool,
    /// What the matrix products of blocks and head are computed in; weights stay in f32.
    #[serde(alias = "products", skip_serializing_if = "Precision::is_f32")]
    pub compute_dtype: Precision,
}

impl Default for MemoryConfig {
    /// 2^25 logits (128 MiB in f32, 220 positions of Qwen2.5), no recomputation, f32.
    fn default() -> Self {
        Self { max_logits: 1 << 25, gradient_checkpointing: false, compute_dtype: Precision::F32 }
    }
}

/// Scores of the tokens that carry loss, in row order, each `[loss tokens]`.
#[derive(Clone, Debug)]
pub(crate) struct FlatScores {
    pub(crate) log_probs: Tensor<1>,
    /// Left out where nobody asked.
    pub(crate) entropy: Option<Tensor<1>>,
}

impl CausalLm {
    /// The same network with another trade of memory for time in training.
    #[must_use]
    pub fn with_memory(mut self, memory: MemoryConfig) -> Self {
        self.memory = memory;
        self.set_compute_dtype(memory.compute_dtype);
        self
    }

    /// How training trades memory for time.
    #[must_use]
    pub fn memory(&self) -> MemoryConfig {
        self.memory
    }

    /// The same network, computing on these devices: sampling and training deal sequences and
    /// micro-batches out to replicas. Its own device comes first, and keeps parameters, sums of
    /// gradients, and the state of optimisers.
    ///
    /// What comes out is the same up to rounding. The same device may be named several times.
    ///
    /// # Panics
    ///
    /// When the first is not the device that the parameters live on.
    #[must_use]
    pub fn with_devices(mut self, devices: &[Device]) -> Self {
        self.secondary_devices = secondary_devices(&self.device(), devices);
        self
    }

    /// Log-probabilities of the tokens that carry loss, in row order, `[loss tokens]`.
    pub(crate) fn flat_log_probs(&self, rows: &[TokenRow]) -> Tensor<1> {
        self.flat_scores(rows, false).log_probs
    }

    /// Scores the tokens that carry loss, at least one; with a graph on a device that has graphs.
    #[cfg_attr(
        not(feature = "flex"),
        expect(unreachable_code, reason = "without the CPU backend there are no scores on slices")
    )]
    fn flat_scores(&self, rows: &[TokenRow], with_entropy: bool) -> FlatScores {
        let device = self.device();
        if !device.is_autodiff()
            && let Some(host) = HostNetwork::of(self)
        {
            return host.scores(rows, self.memory.max_logits).flat(&device, with_entropy);
        }
        let batch = PaddedBatch::for_device(rows, &device);
        let hidden = self.model.hidden(batch.tokens(&device));
        self.score(hidden, &batch, with_entropy)
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

    /// Most likely tokens at the places that carry loss, with the true ones and their rows.
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

    /// Start and length of each chunk of positions that the head runs on at a time.
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

/// Entropy of each row's distribution, `[n, vocab]` to `[n]`.
///
/// ```text
/// H = -sum over the vocabulary of p log p
/// ```
fn entropy(log_softmax: Tensor<2>) -> Tensor<1> {
    let len = log_softmax.dims()[0];
    -(log_softmax.clone().exp() * log_softmax).sum_dim(1).reshape([len])
}

/// Some rows of a matrix; the matrix itself where they are all.
pub(crate) fn rows_of(matrix: &Tensor<2>, start: usize, len: usize) -> Tensor<2> {
    if len == matrix.dims()[0] { matrix.clone() } else { matrix.clone().narrow(0, start, len) }
}

fn concatenate(mut parts: Vec<Tensor<1>>) -> Tensor<1> {
    if parts.len() == 1 { parts.remove(0) } else { Tensor::cat(parts, 0) }
}

/// Flat scores as the rectangle of the batch, zero where no loss is.
fn spread(scores: FlatScores, batch: &PaddedBatch, device: &Device) -> TokenScores {
    let [height, width] = batch.shape();
    let loss_positions = batch.loss_positions(device);
    let spread = |values: Tensor<1>| -> Tensor<2> {
        Tensor::<1>::zeros([height * width], device)
            .select_assign(0, loss_positions.clone(), values, IndexingUpdateOp::Add)
            .reshape([height, width])
    };
    let log_probs = spread(scores.log_probs);
    let entropy = scores.entropy.map_or_else(|| log_probs.zeros_like(), spread);
    TokenScores { log_probs, entropy }
}

impl PolicyModel for CausalLm {
    fn token_scores(&self, rows: &[TokenRow]) -> TokenScores {
        let device = self.device();
        let batch = PaddedBatch::new(rows);
        if batch.num_loss_tokens() == 0 {
            let zeros = Tensor::<2>::zeros(batch.shape(), &device);
            return TokenScores { log_probs: zeros.clone(), entropy: zeros };
        }
        spread(self.flat_scores(rows, true), &batch, &device)
    }

    fn score_gradients<T>(
        &self,
        rows: &[TokenRow],
        loss: impl FnOnce(TokenScores) -> (Tensor<1>, T),
    ) -> (GradientsParams, T) {
        let batch = PaddedBatch::new(rows);
        if batch.num_loss_tokens() == 0 {
            let (loss, kept) = loss(self.token_scores(rows));
            return (GradientsParams::from_grads(loss.backward(), self), kept);
        }
        let device = self.device();
        self.flat_gradients(rows, true, |scores| loss(spread(scores, &batch, &device)))
    }

    fn device(&self) -> Device {
        self.model.norm.weight.val().device()
    }

    fn compute_devices(&self) -> Vec<Device> {
        all_devices(&self.device(), &self.secondary_devices)
    }
}
