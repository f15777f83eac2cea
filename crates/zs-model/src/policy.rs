//! Trainable interface of a language model: log-probabilities with gradients.

use burn::module::Module;
use burn::optim::GradientsParams;
use burn::tensor::{Device, Tensor};

use crate::TokenId;

/// Sequence to score, with the mask of its loss tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenRow {
    /// Prompt, completions and observations, in order.
    pub tokens: Vec<TokenId>,
    /// True for tokens that carry loss. The first token never does, since nothing predicts it.
    pub loss_mask: Vec<bool>,
}

/// Scores of a batch of [`TokenRow`]s, aligned with their tokens.
#[derive(Clone, Debug)]
pub struct TokenScores {
    /// `log p(tokens[t] | tokens[..t])`, `[rows, longest]`; zero where the loss mask is false and on
    /// padding. Carries the gradient.
    pub log_probs: Tensor<2>,
    /// Entropy of the next-token distribution that `tokens[t]` was drawn from, `[rows, longest]`;
    /// zero where the loss mask is false. Carries the gradient.
    pub entropy: Tensor<2>,
}

/// Trainable causal language model.
///
/// The trait contains only what the update needs, so that algorithms can be tested on a table of
/// logits.
pub trait PolicyModel: Module {
    /// Log-probabilities and entropies of the loss tokens.
    ///
    /// # Shapes
    ///
    /// - rows: `rows` sequences of any lengths
    /// - output: `[rows, longest]`; index `t` scores `tokens[t]`
    ///
    /// # Panics
    ///
    /// Panics if `rows` is empty, a mask's length differs from its tokens', or a first token
    /// carries loss.
    fn token_scores(&self, rows: &[TokenRow]) -> TokenScores;

    /// Gradients of a loss on the scores of rows, and the second value that `loss` returns.
    ///
    /// The provided method scores the rows and runs backward in one graph. A model may override it
    /// to save memory.
    ///
    /// # Panics
    ///
    /// Panics like [`token_scores`](Self::token_scores), and if the loss does not depend on the
    /// scores.
    fn score_gradients<T>(
        &self,
        rows: &[TokenRow],
        loss: impl FnOnce(TokenScores) -> (Tensor<1>, T),
    ) -> (GradientsParams, T) {
        let (loss, output) = loss(self.token_scores(rows));
        (GradientsParams::from_grads(loss.backward(), self), output)
    }

    /// Device of the parameters.
    fn device(&self) -> Device;

    /// Devices of all replicas, the one of the parameters first.
    fn compute_devices(&self) -> Vec<Device> {
        vec![self.device()]
    }
}

/// Trainable value model.
pub trait ValueModel: Module {
    /// Value of the state before each loss token; zero elsewhere.
    ///
    /// # Shapes
    ///
    /// - rows: `rows` sequences of any lengths
    /// - output: `[rows, longest]`; carries the gradient
    ///
    /// # Panics
    ///
    /// Panics like [`PolicyModel::token_scores`].
    fn values(&self, rows: &[TokenRow]) -> Tensor<2>;

    /// Gradients of a loss on the values of rows, and the second value that `loss` returns.
    ///
    /// The provided method computes the values and runs backward in one graph. A model may override
    /// it to save memory.
    ///
    /// # Panics
    ///
    /// Panics like [`values`](Self::values), and if the loss does not depend on the values.
    fn value_gradients<T>(
        &self,
        rows: &[TokenRow],
        loss: impl FnOnce(Tensor<2>) -> (Tensor<1>, T),
    ) -> (GradientsParams, T) {
        let (loss, output) = loss(self.values(rows));
        (GradientsParams::from_grads(loss.backward(), self), output)
    }

    /// Device of the parameters.
    fn device(&self) -> Device;

    /// Devices of all replicas, the one of the parameters first.
    fn compute_devices(&self) -> Vec<Device> {
        vec![self.device()]
    }
}
