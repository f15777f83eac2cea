//! Scores of loss tokens and their gradients.

use burn::optim::GradientsParams;
use burn::tensor::{Device, IndexingUpdateOp, Tensor};

use crate::network::{FlatScores, PackedRows};
use crate::replicas::all_devices;
use crate::{CausalLm, PolicyModel, TokenRow, TokenScores};

impl CausalLm {
    /// Log-probabilities of the loss tokens, in row order, `[loss tokens]`.
    pub(crate) fn flat_log_probs(&self, rows: &[TokenRow]) -> Tensor<1> {
        self.flat_scores(&PackedRows::new(rows), false).log_probs
    }

    /// Scores at least one loss token; on a device with autodiff the result carries a graph.
    fn flat_scores(&self, rows: &PackedRows, with_entropy: bool) -> FlatScores {
        let targets = rows.target_tensor(&self.device());
        self.score(&self.model.predicting(rows), &targets, with_entropy)
    }
}

/// Scatters one number a loss token into a `[rows, longest]` tensor; the other positions are zero.
pub(crate) fn spread(values: Tensor<1>, rows: &PackedRows, device: &Device) -> Tensor<2> {
    let [height, width] = rows.shape();
    Tensor::<1>::zeros([height * width], device)
        .select_assign(0, rows.loss_positions(device), values, IndexingUpdateOp::Add)
        .reshape([height, width])
}

fn spread_scores(scores: FlatScores, rows: &PackedRows, device: &Device) -> TokenScores {
    let log_probs = spread(scores.log_probs, rows, device);
    let entropy =
        scores.entropy.map_or_else(|| log_probs.zeros_like(), |it| spread(it, rows, device));
    TokenScores { log_probs, entropy }
}

impl PolicyModel for CausalLm {
    fn token_scores(&self, rows: &[TokenRow]) -> TokenScores {
        let device = self.device();
        let rows = PackedRows::new(rows);
        if rows.num_loss_tokens() == 0 {
            let zeros = Tensor::<2>::zeros(rows.shape(), &device);
            return TokenScores { log_probs: zeros.clone(), entropy: zeros };
        }
        spread_scores(self.flat_scores(&rows, true), &rows, &device)
    }

    fn score_gradients<T>(
        &self,
        rows: &[TokenRow],
        loss: impl FnOnce(TokenScores) -> (Tensor<1>, T),
    ) -> (GradientsParams, T) {
        let packed = PackedRows::new(rows);
        if packed.num_loss_tokens() == 0 {
            let (loss, output) = loss(self.token_scores(rows));
            return (GradientsParams::from_grads(loss.backward(), self), output);
        }
        let device = self.device();
        self.flat_gradients(&packed, true, |it| loss(spread_scores(it, &packed, &device)))
    }

    fn device(&self) -> Device {
        self.model.norm.weight.val().device()
    }

    fn compute_devices(&self) -> Vec<Device> {
        all_devices(&self.device(), &self.secondary_devices)
    }
}
