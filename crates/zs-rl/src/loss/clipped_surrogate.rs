//! The clipped surrogate of PPO, with separate bounds and an optional second clip.

use burn::tensor::{Bool, Tensor};
use garde::Validate;
use serde::{Deserialize, Serialize};
use zs_core::registry::check;

use super::masked_difference;

/// Bounds of the importance ratio, beyond which its gradient stops.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, Validate)]
#[serde(default)]
pub struct ClipOptions {
    /// `epsilon_low`: the ratio is clipped at `1 - low`.
    #[garde(custom(check::fraction))]
    pub low: f64,
    /// `epsilon_high`: the ratio is clipped at `1 + high`.
    #[garde(custom(check::non_negative))]
    pub high: f64,
    /// `c > 1`: the loss of a token with negative advantage is at most `-c A`; none by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[garde(inner(custom(check::above_one)))]
    pub dual: Option<f64>,
}

impl Default for ClipOptions {
    fn default() -> Self {
        Self { low: 0.2, high: 0.2, dual: None }
    }
}

/// Per-token surrogate losses and where they were clipped.
#[derive(Clone, Debug)]
pub struct ClippedSurrogate {
    /// The loss of each token. Carries the gradient.
    pub loss: Tensor<2>,
    /// True where the upper or lower bound was active; its mean is `actor/pg_clipfrac`.
    pub is_clipped: Tensor<2, Bool>,
}

impl ClippedSurrogate {
    /// Loss of an algorithm that clips nothing.
    #[must_use]
    pub fn unclipped(loss: Tensor<2>) -> Self {
        let is_clipped = loss.clone().detach().zeros_like().greater_elem(0.5);
        Self { loss, is_clipped }
    }
}

/// Clipped surrogate policy loss of each token.
///
/// ```text
/// rho_t = exp(log_prob_t - old_log_prob_t)
/// L_t   = max(-rho_t A_t, -clip(rho_t, 1 - low, 1 + high) A_t)
/// L_t   = min(L_t, -c A_t)                    where A_t < 0, with dual clip c
/// ```
///
/// - `A_t`: the advantage; positive makes the token more likely
/// - `rho_t`: how much more likely the token is now than when it was sampled
///
/// The log-ratio is limited to ±20 before `exp`, as in verl, so that the loss stays finite.
///
/// # Shapes
///
/// - log_probs, old_log_probs, advantages, loss_mask: `[batch, tokens]`
/// - output: `[batch, tokens]`, zero where the mask is false
///
/// # References
///
/// - [PPO](https://arxiv.org/abs/1707.06347), equation 7
/// - [DAPO](https://arxiv.org/abs/2503.14476), section 3.1, for separate bounds
/// - [Dual-clip PPO](https://arxiv.org/abs/1912.09729)
#[must_use]
pub fn clipped_surrogate(
    log_probs: Tensor<2>,
    old_log_probs: Tensor<2>,
    advantages: Tensor<2>,
    loss_mask: &Tensor<2, Bool>,
    clip: ClipOptions,
) -> ClippedSurrogate {
    let masked = loss_mask.clone().bool_not();
    let log_ratio = masked_difference(log_probs, old_log_probs, loss_mask).clamp(-20.0, 20.0);
    let negated = -advantages.mask_fill(masked, 0.0);
    let ratio = log_ratio.exp();
    let unclipped = ratio.clone() * negated.clone();
    let clipped = ratio.clamp(1.0 - clip.low, 1.0 + clip.high) * negated.clone();
    let is_clipped = clipped.clone().greater(unclipped.clone());
    let mut loss = unclipped.max_pair(clipped);
    if let Some(bound) = clip.dual {
        let limited = loss.clone().min_pair(negated.clone() * bound);
        loss = loss.mask_where(negated.greater_elem(0.0), limited);
    }
    ClippedSurrogate { loss, is_clipped }
}

#[cfg(test)]
#[cfg(feature = "flex")]
mod tests {
    use burn::tensor::Device;
    use proptest::prelude::*;

    use super::*;
    use crate::loss::{Aggregation, aggregate};
    use crate::testing::reference::{self, assert_close, numbers, tensor};

    const fn clip(low: f64, high: f64, dual: Option<f64>) -> ClipOptions {
        ClipOptions { low, high, dual }
    }

    /// Ratio and advantage of one token to its loss, gradient and whether it is clipped.
    #[track_caller]
    fn check(ratio: f32, advantage: f32, clip: ClipOptions, expected: (f32, f32, bool)) {
        let device = Device::flex().autodiff();
        let log_probs = tensor(&[vec![ratio.ln()]], &device).require_grad();
        let mask = tensor(&[vec![1.0]], &device).greater_elem(0.5);
        let surrogate = clipped_surrogate(
            log_probs.clone(),
            tensor(&[vec![0.0]], &device),
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
        let plain = clip(0.2, 0.3, None);
        check(1.0, 2.0, plain, (-2.0, -2.0, false));
        check(1.25, 2.0, plain, (-2.5, -2.5, false));
        check(1.5, 2.0, plain, (-2.6, 0.0, true));
        check(0.5, 2.0, plain, (-1.0, -1.0, false));
        check(0.5, -2.0, plain, (1.6, 0.0, true));
        check(4.0, -2.0, plain, (8.0, 8.0, false));
        // The dual clip stops the last of these at 3 * 2, and leaves the others alone.
        let dual = clip(0.2, 0.3, Some(3.0));
        check(4.0, -2.0, dual, (6.0, 0.0, false));
        check(2.0, -2.0, dual, (4.0, 4.0, false));
        check(1.5, 2.0, dual, (-2.6, 0.0, true));
    }

    #[test]
    fn agrees_with_verl() {
        let Some(reference) = reference::load() else { return };
        let dual_3 = clip(0.2, 0.2, Some(3.0));
        let cases = [
            ("ppo_clip_0.2_dual_3 token-mean", dual_3, Aggregation::TokenMean),
            ("ppo_clip_0.2_dual_3 seq-mean-token-sum", dual_3, Aggregation::SequenceMeanTokenSum),
            ("ppo_clip_0.2_dual_3 seq-mean-token-mean", dual_3, Aggregation::SequenceMeanTokenMean),
            ("clip_higher_0.2_0.28 token-mean", clip(0.2, 0.28, None), Aggregation::TokenMean),
        ];
        let device = Device::flex().autodiff();
        for (name, clip, aggregation) in cases {
            let log_probs = reference.tensor("inputs/log_probs", &device).require_grad();
            let mask = reference.mask(&device);
            let surrogate = clipped_surrogate(
                log_probs.clone(),
                reference.tensor("inputs/old_log_probs", &device),
                reference.tensor("inputs/advantages", &device),
                &mask,
                clip,
            );
            let loss = aggregate(surrogate.loss, &mask, aggregation);
            let grads = loss.backward();
            reference.check_policy_loss(name, loss, log_probs.grad(&grads).unwrap());
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn masked_positions_cost_nothing(
            rows in proptest::collection::vec(
                (-80.0_f32..80.0, -80.0_f32..80.0, -5.0_f32..5.0, any::<bool>()), 1..12
            ),
            poison in prop_oneof![Just(0.0_f32), Just(f32::INFINITY), Just(f32::NAN)],
            dual in prop_oneof![Just(None), Just(Some(3.0))],
        ) {
            let device = Device::flex().autodiff();
            let column = |pick: fn(&(f32, f32, f32, bool)) -> f32| {
                vec![rows.iter().map(pick).collect::<Vec<_>>()]
            };
            let poisoned = |mut values: Vec<Vec<f32>>| {
                for (value, row) in values[0].iter_mut().zip(&rows) {
                    if !row.3 {
                        *value += poison;
                    }
                }
                values
            };
            let log_probs = tensor(&column(|it| it.0), &device).require_grad();
            let mask = tensor(&column(|it| f32::from(u8::from(it.3))), &device).greater_elem(0.5);
            let surrogate = clipped_surrogate(
                log_probs.clone(),
                tensor(&poisoned(column(|it| it.1)), &device),
                tensor(&poisoned(column(|it| it.2)), &device),
                &mask,
                clip(0.2, 0.2, dual),
            );
            let grads = surrogate.loss.clone().sum().backward();
            let gradient = numbers(log_probs.grad(&grads).unwrap());
            for ((loss, gradient), row) in numbers(surrogate.loss).iter().zip(gradient).zip(&rows) {
                prop_assert!(loss.is_finite() && gradient.is_finite());
                prop_assert!(row.3 || (*loss == 0.0 && gradient == 0.0));
            }
        }
    }
}
