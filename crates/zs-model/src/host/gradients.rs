//! Token scores, and gradients of a loss on them.

use burn::optim::GradientsParams;
use burn::tensor::{Device, Tensor, TensorData};

use super::HostNetwork;
use super::block::{gather, scatter_add};
use super::kernels::{RowStatistics, scores_backward, statistics};
use super::layout::PackedRows;
use super::parameter::Gradients;
use super::product::{Matrix, MatrixMut, Write, product};
use crate::network::FlatScores;
use crate::{TokenId, TokenRow};

/// Log-probabilities and entropies of the loss tokens, in row order.
#[derive(Debug, Default)]
pub(crate) struct HostScores {
    log_probs: Vec<f32>,
    statistics: Vec<RowStatistics>,
}

impl HostScores {
    /// The scores as tensors on a device; the entropy only if requested.
    pub(crate) fn flat(&self, device: &Device, with_entropy: bool) -> FlatScores {
        let tensor = |values: Vec<f32>| {
            let len = values.len();
            Tensor::<1>::from_data(TensorData::new(values, [len]), device)
        };
        let entropy = || tensor(self.statistics.iter().map(|it| it.entropy).collect());
        FlatScores {
            log_probs: tensor(self.log_probs.clone()),
            entropy: with_entropy.then(entropy),
        }
    }
}

/// Loss tokens and the hidden states that predict them.
struct PredictingStates<'a> {
    hidden: Vec<f32>,
    targets: Vec<TokenId>,
    /// Row of each hidden state in the trunk's output.
    hidden_rows: Vec<usize>,
    /// Number of positions per call of the head.
    chunk: usize,
    network: &'a HostNetwork,
}

impl HostNetwork {
    /// Scores of the loss tokens, with at most `max_logits` logits in memory.
    pub(crate) fn scores(&self, rows: &[TokenRow], max_logits: usize) -> HostScores {
        let packed = PackedRows::new(rows);
        let (hidden, trunk) = self.forward(&packed, false);
        let predicting =
            PredictingStates::new(self, rows, &packed, &trunk.indices, &hidden, max_logits);
        predicting.scores().0
    }

    /// Gradients of a loss on the scores of the loss tokens.
    ///
    /// The loss is computed on `device`, with autodiff.
    pub(crate) fn gradients<T>(
        &self,
        rows: &[TokenRow],
        max_logits: usize,
        with_entropy: bool,
        device: &Device,
        loss: impl FnOnce(FlatScores) -> (Tensor<1>, T),
    ) -> (GradientsParams, T) {
        let packed = PackedRows::new(rows);
        let (hidden, trunk) = self.forward(&packed, true);
        let predicting =
            PredictingStates::new(self, rows, &packed, &trunk.indices, &hidden, max_logits);
        let (scores, logits) = predicting.scores();

        // The scores are leaves of the loss's graph.
        let FlatScores { log_probs, entropy } = scores.flat(device, with_entropy);
        let log_probs = log_probs.require_grad();
        let entropy = entropy.map(Tensor::require_grad);
        let (loss, output) =
            loss(FlatScores { log_probs: log_probs.clone(), entropy: entropy.clone() });
        let mut from_loss = loss.backward();
        let mut values = |leaf: Tensor<1>| -> Option<Vec<f32>> {
            Some(leaf.grad_remove(&mut from_loss)?.into_data().iter::<f32>().collect())
        };
        let log_prob_grads = values(log_probs).unwrap_or_else(|| vec![0.0; scores.log_probs.len()]);
        let entropy_grads = entropy.and_then(values);

        let mut grads = Gradients::default();
        let entropy_grads = entropy_grads.as_deref();
        let predicting_grads =
            predicting.backward(&scores, logits, &log_prob_grads, entropy_grads, &mut grads);
        let mut hidden_grads = vec![0.0; hidden.len()];
        scatter_add(&mut hidden_grads, &predicting_grads, self.width(), &predicting.hidden_rows);
        let embedded_grads = self.backward(trunk, &hidden_grads, &mut grads);
        if self.embedding.is_trained() {
            let tokens: Vec<usize> = packed.tokens.iter().map(|it| *it as usize).collect();
            scatter_add(grads.sum(&self.embedding), &embedded_grads, self.width(), &tokens);
        }
        (grads.into_params(), output)
    }

    /// Logits of hidden states.
    pub(crate) fn logits(&self, hidden: &[f32]) -> Vec<f32> {
        let x = Matrix::of(hidden, self.width());
        let mut logits = vec![0.0; x.rows() * self.vocab()];
        let out = MatrixMut::of(&mut logits, self.vocab());
        match &self.head {
            Some(head) => head.forward(out, x, Write::Replace),
            None => {
                let embedding = Matrix::of(self.embedding.values(), self.width());
                product(out, x, embedding.t(), Write::Replace);
            }
        }
        logits
    }

    fn vocab(&self) -> usize {
        self.embedding.values().len() / self.width()
    }
}

impl<'a> PredictingStates<'a> {
    fn new(
        network: &'a HostNetwork,
        rows: &[TokenRow],
        packed: &PackedRows,
        indices: &[usize],
        hidden: &[f32],
        max_logits: usize,
    ) -> Self {
        let hidden_rows: Vec<usize> = packed
            .predicting
            .iter()
            .map(|it| indices.partition_point(|index| index < it))
            .collect();
        let targets = rows.iter().flat_map(|row| {
            row.tokens.iter().zip(&row.loss_mask).filter(|it| *it.1).map(|it| *it.0)
        });
        Self {
            hidden: gather(hidden, network.width(), &hidden_rows),
            targets: targets.collect(),
            hidden_rows,
            chunk: (max_logits / network.vocab()).max(1),
            network,
        }
    }

    fn is_one_chunk(&self) -> bool {
        self.targets.len() <= self.chunk
    }

    /// Scores, and the logits if they fit in one chunk.
    fn scores(&self) -> (HostScores, Option<Vec<f32>>) {
        let (width, vocab) = (self.network.width(), self.network.vocab());
        let mut scores = HostScores::default();
        let mut all_logits = None;
        for (hidden, targets) in
            self.hidden.chunks(self.chunk * width).zip(self.targets.chunks(self.chunk))
        {
            let logits = self.network.logits(hidden);
            let mut row_statistics = vec![RowStatistics::default(); targets.len()];
            statistics(&logits, vocab, &mut row_statistics);
            let rows = logits.chunks(vocab).zip(targets).zip(&row_statistics);
            let log_prob = |((row, target), it): ((&[f32], &TokenId), &RowStatistics)| {
                row[*target as usize] - it.log_sum
            };
            scores.log_probs.extend(rows.map(log_prob));
            scores.statistics.extend(row_statistics);
            all_logits = self.is_one_chunk().then_some(logits);
        }
        (scores, all_logits)
    }

    /// Gradients of the hidden states; those of the head are added to `grads`.
    fn backward(
        &self,
        scores: &HostScores,
        mut logits: Option<Vec<f32>>,
        log_prob_grads: &[f32],
        entropy_grads: Option<&[f32]>,
        grads: &mut Gradients,
    ) -> Vec<f32> {
        let (width, vocab) = (self.network.width(), self.network.vocab());
        let mut input_grads = vec![0.0; self.hidden.len()];
        for (index, targets) in self.targets.chunks(self.chunk).enumerate() {
            let rows = index * self.chunk..index * self.chunk + targets.len();
            let range = rows.start * width..rows.end * width;
            let hidden = &self.hidden[range.clone()];
            let mut logits = logits.take().unwrap_or_else(|| self.network.logits(hidden));
            let log_prob_grads = &log_prob_grads[rows.clone()];
            let entropy_grads = entropy_grads.map(|it| &it[rows.clone()]);
            let statistics = &scores.statistics[rows];
            scores_backward(&mut logits, vocab, statistics, log_prob_grads, entropy_grads);
            for ((row, target), grad) in logits.chunks_mut(vocab).zip(targets).zip(log_prob_grads) {
                row[*target as usize] += grad;
            }
            let (x, upstream) = (Matrix::of(hidden, width), Matrix::of(&logits, vocab));
            let input_grads = MatrixMut::of(&mut input_grads[range], width);
            match &self.network.head {
                Some(head) => head.backward(x, upstream, input_grads, Write::Replace, grads),
                None => {
                    let embedding = &self.network.embedding;
                    let weights = Matrix::of(embedding.values(), width);
                    product(input_grads, upstream, weights, Write::Replace);
                    if embedding.is_trained() {
                        let sum = MatrixMut::of(grads.sum(embedding), width);
                        product(sum, upstream.t(), x, Write::Add);
                    }
                }
            }
        }
        input_grads
    }
}
