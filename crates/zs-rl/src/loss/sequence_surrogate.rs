//! The clipped surrogate with one probability ratio for a whole episode.

use burn::tensor::{Bool, Tensor};

use super::{ClipOptions, ClippedSurrogate, masked_difference};

/// Clipped surrogate policy loss of each token, by the ratio of its whole episode.
///
/// ```text
/// s_i  = exp(1/n_i sum_t m_it (log_prob_it - old_log_prob_it))
/// s_it = sg(s_i) exp(log_prob_it - sg(log_prob_it))
/// L_it = max(-s_it A_it, -clip(s_it, 1 - low, 1 + high) A_it)
/// ```
///
/// - `m_it`: the loss mask; `n_i = sum_t m_it`
/// - `s_i`: the geometric mean of the episode's probability ratios
/// - `sg`: no gradient; the value of `s_it` is `s_i`, its gradient that of `s_i log_prob_it`
/// - `A_it`: the advantage; the same for all tokens of an episode in GSPO, free in GSPO-token
///
/// One token that has become unlikely moves the ratio of its episode by `1/n_i` only, so the bounds are
/// much tighter than PPO's. The log-ratio is at most 10, as in verl. A dual clip does not apply.
///
/// # Shapes
///
/// - log_probs, old_log_probs, advantages, loss_mask: `[batch, tokens]`
/// - output: `[batch, tokens]`, zero where the mask is false
///
/// # References
///
/// - [GSPO](https://arxiv.org/abs/2507.18071), equations 5, 7 and 13
/// - verl 0.9.1 `compute_policy_loss_gspo`
#[must_use]
pub fn sequence_clipped_surrogate(
    log_probs: Tensor<2>,
    old_log_probs: Tensor<2>,
    advantages: Tensor<2>,
    loss_mask: &Tensor<2, Bool>,
    clip: ClipOptions,
) -> ClippedSurrogate {
    let masked = loss_mask.clone().bool_not();
    let detached = log_probs.clone().detach();
    let num_tokens = loss_mask.clone().float().sum_dim(1).clamp_min(1.0);
    let mean =
        masked_difference(detached.clone(), old_log_probs, loss_mask).sum_dim(1) / num_tokens;
    let log_ratio = masked_difference(log_probs, detached, loss_mask) + mean;
    let ratio = log_ratio.clamp_max(10.0).exp();
    let negated = -advantages.mask_fill(masked, 0.0);
    let unclipped = ratio.clone() * negated.clone();
    let clipped = ratio.clamp(1.0 - clip.low, 1.0 + clip.high) * negated;
    let is_clipped = clipped.clone().greater(unclipped.clone());
    ClippedSurrogate { loss: unclipped.max_pair(clipped), is_clipped }
}

#[cfg(test)]
#[cfg(feature = "flex")]
mod tests {
    use burn::tensor::Device;

    use super::*;
    use crate::loss::{Aggregation, aggregate};
    use crate::testing::reference::{self, assert_close, tensor};

    #[test]
    fn by_hand() {
        // Ratios 4 and 1 over two tokens: geometric mean 2, whatever the masked third token is.
        let device = Device::flex().autodiff();
        let log_probs = tensor(&[vec![4_f32.ln(), 0.0, 9.0]], &device).require_grad();
        let mask = tensor(&[vec![1.0, 1.0, 0.0]], &device).greater_elem(0.5);
        let loss = |advantage: f32| {
            let surrogate = sequence_clipped_surrogate(
                log_probs.clone(),
                tensor(&[vec![0.0; 3]], &device),
                tensor(&[vec![advantage; 3]], &device),
                &mask,
                ClipOptions { low: 0.2, high: 0.5, dual: None },
            );
            let grads = surrogate.loss.clone().sum().backward();
            (surrogate.loss, log_probs.grad(&grads).unwrap())
        };
        let (negative, gradient) = loss(-1.0);
        assert_close(negative, &[2.0, 2.0, 0.0], "unclipped");
        assert_close(gradient, &[2.0, 2.0, 0.0], "unclipped gradient");
        let (positive, gradient) = loss(1.0);
        assert_close(positive, &[-1.5, -1.5, 0.0], "clipped");
        assert_close(gradient, &[0.0; 3], "clipped gradient");
    }

    #[test]
    fn agrees_with_verl() {
        let Some(reference) = reference::load() else { return };
        let device = Device::flex().autodiff();
        for (name, low, high) in [
            ("gspo_0.0003_0.0004 seq-mean-token-mean", 3e-4, 4e-4),
            ("gspo_0.2_0.2 seq-mean-token-mean", 0.2, 0.2),
        ] {
            let log_probs = reference.tensor("inputs/log_probs", &device).require_grad();
            let mask = reference.mask(&device);
            let surrogate = sequence_clipped_surrogate(
                log_probs.clone(),
                reference.tensor("inputs/old_log_probs", &device),
                reference.tensor("inputs/advantages", &device),
                &mask,
                ClipOptions { low, high, dual: None },
            );
            let loss = aggregate(surrogate.loss, &mask, Aggregation::SequenceMeanTokenMean);
            let grads = loss.backward();
            reference.check_policy_loss(name, loss, log_probs.grad(&grads).unwrap());
        }
    }
}
