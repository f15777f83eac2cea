//! Estimators of the divergence between the policy model and the reference model.

use burn::tensor::{Bool, Tensor};
use serde::{Deserialize, Serialize};

use super::masked_difference;

/// How the divergence is estimated from one sampled token.
///
/// ```text
/// d = log_prob - ref_log_prob
/// k1           = d
/// abs          = |d|
/// k2           = d^2 / 2
/// k3           = exp(-d) - 1 + d
/// low_var_kl   = clamp(exp(clamp(-d, ±20)) - 1 + d, ±10)
/// ```
///
/// The mean of `k1` and `k3` over tokens sampled by the policy is KL(policy ‖ reference); `k2` is
/// close to it for small `d`. As *losses* they differ: the expected gradient of `k1` is zero, so it
/// pulls nowhere, and that of `k2` is the gradient of the divergence.
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
    let log_ratio = masked_difference(log_probs, ref_log_probs, loss_mask);
    match estimator {
        KlEstimator::K1 => log_ratio,
        KlEstimator::Abs => log_ratio.abs(),
        KlEstimator::K2 => log_ratio.square() * 0.5,
        KlEstimator::K3 => (-log_ratio.clone()).exp() - 1.0 + log_ratio,
        KlEstimator::LowVarKl => {
            let log_ratio = log_ratio.clamp(-20.0, 20.0);
            ((-log_ratio.clone()).exp() - 1.0 + log_ratio).clamp(-10.0, 10.0)
        }
    }
}

#[cfg(test)]
#[cfg(feature = "flex")]
mod tests {
    use burn::tensor::Device;
    use proptest::prelude::*;

    use super::*;
    use crate::testing::reference::{self, assert_close, numbers, tensor};

    const ALL: [KlEstimator; 5] = [
        KlEstimator::K1,
        KlEstimator::Abs,
        KlEstimator::K2,
        KlEstimator::K3,
        KlEstimator::LowVarKl,
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
                    let signed = matches!(estimator, KlEstimator::K1);
                    prop_assert!(signed || *kl >= -1e-6);
                }
            }
        }
    }
}
