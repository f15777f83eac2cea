//! The loss of tokens that another model wrote.

use burn::tensor::{Bool, Tensor};
use garde::Validate;
use serde::{Deserialize, Serialize};
use zs_core::registry::check;

use super::masked_difference;

/// Weight of a token that the policy did not write itself.
///
/// ```text
/// rho_t = exp(log_prob_t - behaviour_log_prob_t)
///
///                loss                          gradient weight g(rho)
/// exact_ratio    -rho A                        rho
/// shaped         -rho / (rho + gamma) A        gamma rho / (rho + gamma)^2
/// truncated      -sg(clip(rho, lo, hi)) A log_prob    clip(rho, lo, hi)
/// ```
///
/// - `rho_t`: the probability ratio between the policy and whoever wrote the token; with a behaviour
///   log-probability of 0 (unknown), the probability under the policy
/// - `g`: the derivative of the loss by `log_prob` is `-g(rho) A`
/// - `sg`: no gradient through it
///
/// With the exact ratio the gradient of a token that the policy finds unlikely vanishes with its
/// probability; shaping keeps it alive (at 0.01 and `gamma` 0.1 it is 8 times larger), a lower bound
/// of the truncated form even more so.
///
/// # References
///
/// - `shaped`: [LUFFY](https://arxiv.org/abs/2504.14945), section 3.2, `gamma` 0.1
/// - `truncated`: [truncated importance sampling](https://doi.org/10.1198/106186008X320456), with a
///   lower bound of our own
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, Validate)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum OffPolicyWeight {
    /// The ratio itself: unbiased where the behaviour log-probabilities are known.
    ExactRatio {},
    /// The ratio, shaped so that unlikely tokens keep a gradient.
    Shaped {
        /// Ratio at which the gradient is greatest; above 0.
        #[garde(custom(check::positive))]
        gamma: f64,
    },
    /// The ratio within bounds, as a weight of the log-likelihood.
    Truncated {
        /// Minimum weight.
        #[garde(custom(check::non_negative))]
        lo: f64,
        /// Maximum weight.
        #[garde(custom(check::non_negative), custom(check::at_least("lo", *lo)))]
        hi: f64,
    },
}

impl Default for OffPolicyWeight {
    fn default() -> Self {
        Self::Shaped { gamma: 0.1 }
    }
}

/// Losses of tokens that another model wrote; there is no clipping of the gradient beyond the weight.
///
/// # Shapes
///
/// - log_probs, behaviour_log_probs, advantages, mask: `[batch, tokens]`
/// - output: `[batch, tokens]`, zero where the mask is false
///
/// # References
///
/// - see [`OffPolicyWeight`]
#[must_use]
pub fn off_policy_surrogate(
    log_probs: Tensor<2>,
    behaviour_log_probs: Tensor<2>,
    advantages: Tensor<2>,
    mask: &Tensor<2, Bool>,
    weight: OffPolicyWeight,
) -> Tensor<2> {
    let masked = mask.clone().bool_not();
    let negated = -advantages.mask_fill(masked.clone(), 0.0);
    let log_ratio = masked_difference(log_probs.clone(), behaviour_log_probs, mask);
    let ratio = log_ratio.clamp(-20.0, 20.0).exp();
    match weight {
        OffPolicyWeight::ExactRatio {} => ratio * negated,
        OffPolicyWeight::Shaped { gamma } => ratio.clone() / (ratio + gamma) * negated,
        OffPolicyWeight::Truncated { lo, hi } => {
            let weight = ratio.detach().clamp(lo, hi);
            weight * negated * log_probs.mask_fill(masked, 0.0)
        }
    }
}

#[cfg(test)]
#[cfg(feature = "flex")]
mod tests {
    use burn::tensor::Device;
    use proptest::prelude::*;

    use super::*;
    use crate::testing::reference::{numbers, tensor};

    const SHAPED: OffPolicyWeight = OffPolicyWeight::Shaped { gamma: 0.1 };
    const ALL: [OffPolicyWeight; 3] =
        [OffPolicyWeight::ExactRatio {}, SHAPED, OffPolicyWeight::Truncated { lo: 0.05, hi: 2.0 }];

    /// Loss and gradient of one token with advantage 1.
    fn one(weight: OffPolicyWeight, log_prob: f32, behaviour: f32) -> (f32, f32) {
        let device = Device::flex().autodiff();
        let log_probs = tensor(&[vec![log_prob]], &device).require_grad();
        let mask = tensor(&[vec![1.0]], &device).greater_elem(0.5);
        let loss = off_policy_surrogate(
            log_probs.clone(),
            tensor(&[vec![behaviour]], &device),
            tensor(&[vec![1.0]], &device),
            &mask,
            weight,
        );
        let grads = loss.clone().sum().backward();
        (numbers(loss)[0], numbers(log_probs.grad(&grads).unwrap())[0])
    }

    #[track_caller]
    fn check(weight: OffPolicyWeight, probability: f32, loss: f32, gradient: f32) {
        let (actual_loss, actual_gradient) = one(weight, probability.ln(), 0.0);
        assert!((actual_loss - loss).abs() < 1e-5, "{weight:?} {probability}: {actual_loss}");
        assert!((actual_gradient - gradient).abs() < 1e-5, "{weight:?}: {actual_gradient}");
    }

    #[test]
    fn golden_values() {
        // f(p) = p / (p + 0.1) and p f'(p) = 0.1 p / (p + 0.1)^2.
        check(SHAPED, 0.01, -0.090_909, -0.082_645);
        check(SHAPED, 0.1, -0.5, -0.25);
        check(SHAPED, 0.5, -0.833_333, -0.138_889);
        check(SHAPED, 0.9, -0.9, -0.09);
        check(OffPolicyWeight::ExactRatio {}, 0.01, -0.01, -0.01);
        let truncated = OffPolicyWeight::Truncated { lo: 0.05, hi: 0.8 };
        check(truncated, 0.01, -0.05 * 0.01_f32.ln(), -0.05);
        check(truncated, 0.5, -0.5 * 0.5_f32.ln(), -0.5);
        check(truncated, 0.9, -0.8 * 0.9_f32.ln(), -0.8);
        // A known behaviour policy: the ratio of 0.2 and 0.4.
        let (loss, gradient) = one(OffPolicyWeight::ExactRatio {}, 0.2_f32.ln(), 0.4_f32.ln());
        assert!((loss + 0.5).abs() < 1e-6 && (gradient + 0.5).abs() < 1e-6);
    }

    #[test]
    fn finite_differences_agree_where_the_loss_is_a_function() {
        for weight in [OffPolicyWeight::ExactRatio {}, SHAPED] {
            for log_prob in [-3.0_f32, -1.0, -0.1] {
                let h = 1e-2;
                let (above, below) =
                    (one(weight, log_prob + h, -0.7).0, one(weight, log_prob - h, -0.7).0);
                let gradient = one(weight, log_prob, -0.7).1;
                assert!(((above - below) / (2.0 * h) - gradient).abs() < 1e-3, "{weight:?}");
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]
        #[test]
        fn masked_positions_cost_nothing(
            rows in proptest::collection::vec(
                (-1e4_f32..0.0, -80.0_f32..0.0, -5.0_f32..5.0, any::<bool>()), 1..12
            ),
            which in 0_usize..3,
        ) {
            let device = Device::flex().autodiff();
            let column = |pick: fn(&(f32, f32, f32, bool)) -> f32| {
                tensor(&[rows.iter().map(pick).collect::<Vec<_>>()], &device)
            };
            let poison = |it: &(f32, f32, f32, bool)| if it.3 { it.1 } else { f32::NAN };
            let log_probs = column(|it| it.0).require_grad();
            let mask = column(|it| f32::from(u8::from(it.3))).greater_elem(0.5);
            let behaviour = column(poison);
            let loss = off_policy_surrogate(
                log_probs.clone(), behaviour, column(|it| it.2), &mask, ALL[which],
            );
            let grads = loss.clone().sum().backward();
            let gradient = numbers(log_probs.grad(&grads).unwrap());
            for ((loss, gradient), row) in numbers(loss).iter().zip(gradient).zip(&rows) {
                prop_assert!(loss.is_finite() && gradient.is_finite());
                prop_assert!(row.3 || (*loss == 0.0 && gradient == 0.0));
            }
        }
    }
}
