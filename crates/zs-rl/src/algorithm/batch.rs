//! Inputs of a policy loss.

use burn::tensor::{Bool, Int, Tensor};

use crate::loss::{ClipOptions, ClippedSurrogate};
use zs_model::TokenScores;

/// Surrogate loss of tokens from log-probabilities, those at sampling time, advantages and mask.
pub type SurrogateFunction =
    fn(Tensor<2>, Tensor<2>, Tensor<2>, &Tensor<2, Bool>, ClipOptions) -> ClippedSurrogate;

/// One micro-batch, aligned with its [`TokenScores`].
#[derive(Clone, Debug)]
pub struct PolicyBatch {
    /// `[rows, tokens]`.
    pub advantages: Tensor<2>,
    /// Log-probabilities recorded at sampling time, `[rows, tokens]`.
    pub old_log_probs: Tensor<2>,
    /// Log-probabilities under the reference model, `[rows, tokens]`, where the algorithm needs them.
    pub ref_log_probs: Option<Tensor<2>>,
    /// Tokens that carry loss, `[rows, tokens]`: those that the policy wrote, and those of helper
    /// models where the algorithm [learns from them](super::Requirements::learns_from_helpers).
    pub loss_mask: Tensor<2, Bool>,
    /// The turn that wrote each token, counted from 1 over the whole micro-batch, `[rows, tokens]`; 0
    /// where the mask is false.
    pub turn_ids: Tensor<2, Int>,
    /// Turns in the micro-batch.
    pub num_turns: usize,
    /// Tokens of these that helper models wrote, `[rows, tokens]`; absent where there are none.
    pub agent_mask: Option<Tensor<2, Bool>>,
    /// The weight of each row's tokens in the loss of the whole mini-batch, `[rows, 1]`: see
    /// [`Aggregation::row_weights`](crate::loss::Aggregation::row_weights).
    pub row_weights: Tensor<2>,
    /// Tokens that carry loss in all micro-batches of the mini-batch, which means are taken over.
    pub num_loss_tokens: usize,
    /// Factor on the KL coefficient: 1 unless it adapts.
    pub kl_scale: f64,
}

impl PolicyBatch {
    /// Tokens that carry loss and that the policy wrote, `[rows, tokens]`.
    #[must_use]
    pub fn policy_mask(&self) -> Tensor<2, Bool> {
        let mask = self.loss_mask.clone();
        match &self.agent_mask {
            None => mask,
            Some(agents) => mask.bool_and(agents.clone().bool_not()),
        }
    }

    /// This micro-batch's share of the mini-batch's loss, from losses that are zero where the mask
    /// is false, `[rows, tokens]` (or `[rows, 1]`) to `[1]`.
    #[must_use]
    pub fn aggregate(&self, loss: Tensor<2>) -> Tensor<1> {
        (loss * self.row_weights.clone()).sum()
    }

    /// This micro-batch's share of a mean over the mini-batch's scored tokens, without
    /// gradient, `[rows, tokens]` to `[1]`.
    #[must_use]
    pub fn token_mean(&self, values: Tensor<2>) -> Tensor<1> {
        let masked = self.loss_mask.clone().bool_not();
        values.detach().mask_fill(masked, 0.0).sum() / self.num_loss_tokens.max(1) as f64
    }

    /// Values that are 0, without gradient, where no token carries loss.
    #[must_use]
    pub fn masked(&self, values: Tensor<2>) -> Tensor<2> {
        values.mask_fill(self.loss_mask.clone().bool_not(), 0.0)
    }

    /// Logarithm of each token's probability ratio, now over when sampled; 0 where no token carries loss.
    #[must_use]
    pub fn log_ratio(&self, log_probs: &Tensor<2>) -> Tensor<2> {
        self.masked(log_probs.clone() - self.old_log_probs.clone())
    }

    /// Surrogate of the micro-batch, e.g. [`clipped_surrogate`](crate::loss::clipped_surrogate).
    #[must_use]
    pub fn surrogate(
        &self,
        of: SurrogateFunction,
        scores: &TokenScores,
        clip: ClipOptions,
    ) -> ClippedSurrogate {
        of(
            scores.log_probs.clone(),
            self.old_log_probs.clone(),
            self.advantages.clone(),
            &self.loss_mask,
            clip,
        )
    }
}
