//! The policy gradient with clipped importance weights: no token's gradient is ever dropped.

use burn::tensor::{Bool, Tensor};

use super::{ClipOptions, ClippedSurrogate, masked_difference};

/// Policy-gradient loss of each token, weighted by its clipped probability ratio.
///
/// ```text
/// rho_t = exp(log_prob_t - old_log_prob_t)
/// L_t   = -sg(clip(rho_t, 1 - low, 1 + high)) A_t log_prob_t
/// ```
///
/// - `A_t`: the advantage; `rho_t`: how much more likely the token is now than when it was sampled
/// - `sg`: no gradient; the ratio is a weight, and only `log_prob_t` is differentiated
///
/// Where the clipped surrogate stops the gradient of a token whose ratio has left the bounds, this
/// only bounds its weight. `is_clipped` says where; a dual clip does not apply. The log-ratio is
/// limited to ±20 before `exp`, as in verl.
///
/// # Shapes
///
/// - log_probs, old_log_probs, advantages, loss_mask: `[batch, tokens]`
/// - output: `[batch, tokens]`, zero where the mask is false
///
/// # References
///
/// - [MiniMax-M1](https://arxiv.org/abs/2506.13585), section 3.1, equations 4 and 5 (CISPO)
/// - verl 0.9.1 `compute_policy_loss_cispo`
#[must_use]
pub fn clipped_importance(
    log_probs: Tensor<2>,
    old_log_probs: Tensor<2>,
    advantages: Tensor<2>,
    loss_mask: &Tensor<2, Bool>,
    clip: ClipOptions,
) -> ClippedSurrogate {
    let masked = loss_mask.clone().bool_not();
    let log_ratio = masked_difference(log_probs.clone().detach(), old_log_probs, loss_mask);
    let ratio = log_ratio.clamp(-20.0, 20.0).exp();
    let weight = ratio.clone().clamp(1.0 - clip.low, 1.0 + clip.high);
    let is_clipped = weight.clone().not_equal(ratio);
    let negated = -advantages.mask_fill(masked.clone(), 0.0);
    let loss = weight * negated * log_probs.mask_fill(masked, 0.0);
    ClippedSurrogate { loss, is_clipped }
}

#[cfg(test)]
#[cfg(feature = "flex")]
mod tests {
    use burn::tensor::Device;

    use super::*;
    use crate::loss::{Aggregation, aggregate};
    use crate::testing::reference::{self, assert_close, numbers, tensor};

    /// Log-probability, ratio and advantage of one token to its loss, gradient and whether clipped.
    #[track_caller]
    fn check(log_prob: f32, ratio: f32, advantage: f32, expected: (f32, f32, bool)) {
        let device = Device::flex().autodiff();
        let log_probs = tensor(&[vec![log_prob]], &device).require_grad();
        let mask = tensor(&[vec![1.0]], &device).greater_elem(0.5);
        let clip = ClipOptions { low: 0.5, high: 0.25, dual: None };
        let surrogate = clipped_importance(
            log_probs.clone(),
            tensor(&[vec![log_prob - ratio.ln()]], &device),
            tensor(&[vec![advantage]], &device),
            &mask,
            clip,
        );
        let grads = surrogate.loss.clone().sum().backward();
        let (loss, gradient, is_clipped) = expected;
        assert_close(surrogate.loss, &[loss], "loss");
        assert_close(log_probs.grad(&grads).unwrap(), &[gradient], "gradient");
        assert_eq!(numbers(surrogate.is_clipped.float()), [f32::from(u8::from(is_clipped))]);
    }

    #[test]
    fn by_hand() {
        check(-2.0, 1.0, 3.0, (6.0, -3.0, false));
        check(-2.0, 4.0, 1.0, (2.5, -1.25, true));
        check(-2.0, 0.25, -1.0, (-1.0, 0.5, true));
        check(-2.0, 0.75, -1.0, (-1.5, 0.75, false));
    }

    #[test]
    fn agrees_with_verl() {
        let Some(reference) = reference::load() else { return };
        let device = Device::flex().autodiff();
        let log_probs = reference.tensor("inputs/log_probs", &device).require_grad();
        let mask = reference.mask(&device);
        let surrogate = clipped_importance(
            log_probs.clone(),
            reference.tensor("inputs/old_log_probs", &device),
            reference.tensor("inputs/advantages", &device),
            &mask,
            ClipOptions { low: 0.2, high: 0.2, dual: None },
        );
        let loss = aggregate(surrogate.loss, &mask, Aggregation::TokenMean);
        let grads = loss.backward();
        reference.check_policy_loss(
            "cispo_0.2_0.2 token-mean",
            loss,
            log_probs.grad(&grads).unwrap(),
        );
    }
}
