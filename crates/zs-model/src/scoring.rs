//! Scores of loss tokens and their gradients, by the host implementation where it applies and in
//! tensors elsewhere.

use burn::optim::GradientsParams;
use burn::tensor::{Device, IndexingUpdateOp, Tensor};

use crate::batch::PaddedBatch;
use crate::host::HostNetwork;
use crate::network::FlatScores;
use crate::replicas::all_devices;
use crate::{CausalLm, PolicyModel, TokenRow, TokenScores};

impl CausalLm {
    /// Log-probabilities of the loss tokens, in row order, `[loss tokens]`.
    pub(crate) fn flat_log_probs(&self, rows: &[TokenRow]) -> Tensor<1> {
        self.flat_scores(rows, false).log_probs
    }

    /// Scores at least one loss token; on a device with autodiff the result carries a graph.
    #[cfg_attr(
        not(feature = "flex"),
        expect(
            unreachable_code,
            reason = "without the CPU backend there is no host implementation"
        )
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

    /// Gradients of a loss on the scores of rows with at least one loss token.
    ///
    /// Uses the host implementation for an f32 network on the CPU, else tensors.
    pub(crate) fn flat_gradients<T>(
        &self,
        rows: &[TokenRow],
        with_entropy: bool,
        loss: impl FnOnce(FlatScores) -> (Tensor<1>, T),
    ) -> (GradientsParams, T) {
        if let Some(host) = HostNetwork::of(self) {
            let max_logits = self.memory.max_logits;
            return host.gradients(rows, max_logits, with_entropy, &self.device(), loss);
        }
        self.tensor_gradients(&PaddedBatch::for_device(rows, &self.device()), with_entropy, loss)
    }
}

/// Scatters flat scores into a `[rows, longest]` tensor; positions without loss are zero.
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
            let (loss, output) = loss(self.token_scores(rows));
            return (GradientsParams::from_grads(loss.backward(), self), output);
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
