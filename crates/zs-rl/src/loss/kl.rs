//! Estimators of the divergence between the policy model and the reference model.

use burn::tensor::{Bool, Tensor};
use serde::{Deserialize, Serialize};

use super::masked_difference;

/// Estimator of the divergence from one sampled token.
///
/// ```text
/// d = log_prob - ref_log_prob
/// k1           = d
/// abs          = |d|
/// k2           = d^2 / 2
/// k3           = exp(-d) - 1 + d
/// low_var_kl   = clamp(exp(clamp(-d, ±20)) - 1 + d, ±10)
/// k1+, k3+     = value of k1, low_var_kl; gradient of k2
/// ```
///
/// The mean of `k1` and `k3` over tokens sampled by the policy is KL(policy ‖ reference); `k2` is
/// close to it for small `d`. As *losses* they differ: the expected gradient of `k1` is zero, so it
/// pulls nowhere, and that of `k2` is the gradient of the divergence. The straight-through forms
/// report the one and follow the other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KlEstimator {
    /// The log-ratio: unbiased, high variance, may be negative. For logs, not for losses.
    K1,
    /// Its absolute value.
    Abs,
    /// Half its square: low variance, biased.
    K2,
    /// Unbiased and never negative; grows exponentially where the policy avoids what the reference
    /// writes.
    K3,
    /// [`K3`](Self::K3) with bounds, under verl's name: the estimator of ZeroSearch.
    #[default]
    LowVarKl,
    /// The value of [`K1`](Self::K1) with the gradient of [`K2`](Self::K2).
    #[serde(rename = "k1+")]
    K1Plus,
    /// The value of [`LowVarKl`](Self::LowVarKl) with the gradient of [`K2`](Self::K2).
    #[serde(rename = "k3+")]
    K3Plus,
}

/// The estimated divergence of each token from the reference model.
///
/// Add it to the loss with a *plus* sign: it then pulls towards the reference. (The reference code
/// of ZeroSearch subtracts it, `dp_actor.py` 271, which rewards drift.)
///
/// # Shapes
///
/// - log_probs, ref_log_probs, loss_mask: `[batch, tokens]`
/// - output: `[batch, tokens]`, zero where the mask is false
///
/// # References
///
/// - [Schulman, Approximating KL divergence](http://joschu.net/blog/kl-approx.html)
/// - [DeepSeekMath](https://arxiv.org/abs/2402.03300), equation 4 (`k3`)
/// - verl 0.9.1 `kl_penalty`, whose `k3` has the bounds of `low_var_kl`
#[must_use]
pub fn kl_divergence(
    log_probs: Tensor<2>,
    ref_log_probs: Tensor<2>,
    loss_mask: &Tensor<2, Bool>,
    estimator: KlEstimator,
) -> Tensor<2> {
    divergence(masked_difference(log_probs, ref_log_probs, loss_mask), estimator)
}

/// The estimate from a log-ratio.
fn divergence(log_ratio: Tensor<2>, estimator: KlEstimator) -> Tensor<2> {
    // A value that is right with a gradient that is right: `k - sg(k)` is 0.
    let straight_through = |log_ratio: Tensor<2>, value: KlEstimator| {
        let followed = divergence(log_ratio.clone(), KlEstimator::K2);
        let value = divergence(log_ratio.detach(), value);
        followed.clone() - followed.detach() + value
    };
    match estimator {
        KlEstimator::K1 => log_ratio,
        KlEstimator::Abs => log_ratio.abs(),
        KlEstimator::K2 => log_ratio.square() * 0.5,
        KlEstimator::K3 => (-log_ratio.clone()).exp() - 1.0 + log_ratio,
        KlEstimator::LowVarKl => {
            let log_ratio = log_ratio.clamp(-20.0, 20.0);
            ((-log_ratio.clone()).exp() - 1.0 + log_ratio).clamp(-10.0, 10.0)
        }
        KlEstimator::K1Plus => straight_through(log_ratio, KlEstimator::K1),
        KlEstimator::K3Plus => straight_through(log_ratio, KlEstimator::LowVarKl),
    }
}

/// A coefficient that follows the divergence.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AdaptiveKl {
    /// The divergence to keep, as a mean over tokens.
    pub target: f64,
    /// Episodes over which the coefficient may grow by a factor of about `e^0.2`.
    pub horizon: f64,
}

/// The factor on the KL coefficient after an update.
///
/// ```text
/// e      = clip(KL / target - 1, -0.2, 0.2)
/// scale <- scale (1 + e n / horizon)
/// ```
///
/// - `KL`: the mean divergence over the tokens of the update; `n`: its episodes
///
/// # References
///
/// - [Ziegler et al. 2019](https://arxiv.org/abs/1909.08593), section 2.2; verl 0.9.1
///   `AdaptiveKLController`
///
/// ```
/// use zs_rl::loss::{AdaptiveKl, adapted_kl_scale};
///
/// let adaptive = AdaptiveKl { target: 0.1, horizon: 100.0 };
/// assert!((adapted_kl_scale(1.0, 0.11, 50, adaptive) - 1.05).abs() < 1e-12);
/// assert!((adapted_kl_scale(1.0, 9.0, 50, adaptive) - 1.1).abs() < 1e-12);
/// ```
#[must_use]
pub fn adapted_kl_scale(scale: f64, kl: f64, num_episodes: usize, adaptive: AdaptiveKl) -> f64 {
    let error = (kl / adaptive.target - 1.0).clamp(-0.2, 0.2);
    // Never below 0, however short the horizon is.
    scale * (1.0 + error * num_episodes as f64 / adaptive.horizon).max(0.0)
}

#[cfg(test)]
#[cfg(feature = "flex")]
mod tests {
    use burn::tensor::Device;
    use proptest::prelude::*;

    use super::*;
    use crate::testing::reference::{self, assert_close, numbers, tensor};

    const ALL: [KlEstimator; 7] = [
        KlEstimator::K1,
        KlEstimator::Abs,
        KlEstimator::K2,
        KlEstimator::K3,
        KlEstimator::LowVarKl,
        KlEstimator::K1Plus,
        KlEstimator::K3Plus,
    ];

    #[track_caller]
    fn check(estimator: KlEstimator, difference: f32, value: f32, gradient: f32) {
        let device = Device::flex().autodiff();
        let log_probs = tensor(&[vec![-1.0]], &device).require_grad();
        let ref_log_probs = tensor(&[vec![-1.0 - difference]], &device);
        let mask = tensor(&[vec![1.0]], &device).greater_elem(0.5);
        let kl = kl_divergence(log_probs.clone(), ref_log_probs, &mask, estimator);
        let grads = kl.clone().sum().backward();
        let what = format!("{estimator:?} at {difference}");
        assert_close(kl, &[value], &what);
        assert_close(log_probs.grad(&grads).unwrap(), &[gradient], &what);
    }

    #[test]
    fn by_hand() {
        let ln_2 = std::f32::consts::LN_2;
        check(KlEstimator::K1, 0.5, 0.5, 1.0);
        check(KlEstimator::K1, -0.5, -0.5, 1.0);
        check(KlEstimator::Abs, -0.5, 0.5, -1.0);
        check(KlEstimator::K2, -0.5, 0.125, -0.5);
        // d = ln 2: 1/2 - 1 + ln 2, gradient 1 - 1/2. d = -ln 2: 2 - 1 - ln 2, gradient 1 - 2.
        for estimator in [KlEstimator::K3, KlEstimator::LowVarKl] {
            check(estimator, ln_2, ln_2 - 0.5, 0.5);
            check(estimator, -ln_2, 1.0 - ln_2, -1.0);
            check(estimator, 0.0, 0.0, 0.0);
        }
        // Bounded, and flat beyond the bound: exp(8) - 9 is far above 10.
        check(KlEstimator::LowVarKl, -8.0, 10.0, 0.0);
        check(KlEstimator::K1Plus, -0.5, -0.5, -0.5);
        check(KlEstimator::K3Plus, ln_2, ln_2 - 0.5, ln_2);
        check(KlEstimator::K3Plus, -8.0, 10.0, -8.0);
    }

    #[test]
    fn the_coefficient_follows_the_divergence() {
        let adaptive = AdaptiveKl { target: 0.1, horizon: 1000.0 };
        let scale = |kl: f64| adapted_kl_scale(2.0, kl, 100, adaptive);
        assert!((scale(0.1) - 2.0).abs() < 1e-12);
        assert!((scale(0.09) - 1.98).abs() < 1e-12);
        assert!((scale(0.0) - 1.96).abs() < 1e-12);
        assert!((scale(7.0) - 2.04).abs() < 1e-12);
        assert_eq!(adapted_kl_scale(2.0, 0.0, 100, AdaptiveKl { horizon: 1.0, ..adaptive }), 0.0);
    }

    #[test]
    fn agrees_with_verl() {
        let Some(reference) = reference::load() else { return };
        let device = Device::flex();
        let log_probs = reference.tensor("inputs/log_probs", &device);
        let ref_log_probs = reference.tensor("inputs/ref_log_probs", &device);
        let everything = log_probs.clone().equal(log_probs.clone());
        for (estimator, name) in ALL.into_iter().zip(["k1", "abs", "k2", "k3", "low_var_kl"]) {
            let kl =
                kl_divergence(log_probs.clone(), ref_log_probs.clone(), &everything, estimator);
            let path = format!("kl/{name}");
            assert_close(kl, &reference.matrix(&path).concat(), &path);
            assert_eq!(serde_json::to_value(estimator).unwrap(), name);
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn masked_positions_cost_nothing(
            values in proptest::collection::vec((-30.0_f32..0.0, any::<bool>()), 1..8),
        ) {
            let device = Device::flex().autodiff();
            let row = |pick: &dyn Fn(&(f32, bool)) -> f32| vec![values.iter().map(pick).collect()];
            let mask = tensor(&row(&|it| f32::from(u8::from(it.1))), &device).greater_elem(0.5);
            let poisoned = row(&|it| if it.1 { -1.0 } else { f32::NEG_INFINITY });
            for estimator in ALL {
                let log_probs = tensor(&row(&|it| it.0), &device).require_grad();
                let ref_log_probs = tensor(&poisoned, &device);
                let kl = kl_divergence(log_probs.clone(), ref_log_probs, &mask, estimator);
                let grads = kl.clone().sum().backward();
                let gradient = numbers(log_probs.grad(&grads).unwrap());
                for ((kl, gradient), value) in numbers(kl).iter().zip(gradient).zip(&values) {
                    prop_assert!(kl.is_finite() && gradient.is_finite());
                    prop_assert!(value.1 || (*kl == 0.0 && gradient == 0.0));
                    let signed = matches!(estimator, KlEstimator::K1 | KlEstimator::K1Plus);
                    prop_assert!(signed || *kl >= -1e-6);
                }
            }
        }
    }
}
