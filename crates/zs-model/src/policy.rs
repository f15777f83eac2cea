//! The trainable side of a language model: log-probabilities with gradients.

use burn::module::Module;
use burn::optim::GradientsParams;
use burn::tensor::{Device, Tensor};

use crate::TokenId;

/// One sequence to be scored: its tokens and which of them carry loss.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenRow {
    /// Prompt, completions and observations, in order.
    pub tokens: Vec<TokenId>,
    /// Whether the token at the same index carries loss; the first token never does, since nothing
    /// precedes it.
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

/// A causal language model whose parameters can be optimised.
///
/// Kept as small as the update needs, so that an algorithm can be tested on a table of logits.
pub trait PolicyModel: Module {
    /// Log-probabilities and entropies of the tokens that carry loss.
    ///
    /// # Shapes
    ///
    /// - rows: `rows` sequences of any lengths
    /// - output: `[rows, longest]`, index `t` scoring `tokens[t]`
    ///
    /// # Panics
    ///
    /// When `rows` is empty, a mask's length differs from its tokens', or a first token carries loss.
    fn token_scores(&self, rows: &[TokenRow]) -> TokenScores;

    /// Gradient of a loss on the scores of some rows, and whatever else `loss` returns.
    ///
    /// As scoring the rows and going back through one graph, which is what the provided method does.
    /// A model overrides it to hold less in memory on the way.
    ///
    /// # Panics
    ///
    /// As [`token_scores`](Self::token_scores), and when the loss does not depend on the scores.
    fn score_gradients<T>(
        &self,
        rows: &[TokenRow],
        loss: impl FnOnce(TokenScores) -> (Tensor<1>, T),
    ) -> (GradientsParams, T) {
        let (loss, kept) = loss(self.token_scores(rows));
        (GradientsParams::from_grads(loss.backward(), self), kept)
    }

    /// The device that the parameters live on.
    fn device(&self) -> Device;

    /// The devices that share the work, the one that the parameters live on first.
    fn compute_devices(&self) -> Vec<Device> {
        vec![self.device()]
    }
}

/// A model of how good it is to be somewhere, whose parameters can be optimised.
pub trait ValueModel: Module {
    /// The value of the state before each token that carries loss, zero elsewhere.
    ///
    /// # Shapes
    ///
    /// - rows: `rows` sequences of any lengths
    /// - output: `[rows, longest]`; carries the gradient
    ///
    /// # Panics
    ///
    /// As [`PolicyModel::token_scores`].
    fn values(&self, rows: &[TokenRow]) -> Tensor<2>;

    /// The device that the parameters live on.
    fn device(&self) -> Device;

    /// The devices that share the work, the one that the parameters live on first.
    fn compute_devices(&self) -> Vec<Device> {
        vec![self.device()]
    }
}
