//! The loss of a value model, clipped about the values that advantages were computed from.

use burn::tensor::{Bool, Tensor};

/// Per-token value losses and where they were clipped.
#[derive(Clone, Debug)]
pub struct ClippedValueLoss {
    /// The loss of each token. Carries the gradient.
    pub loss: Tensor<2>,
    /// True where the clipped prediction was the worse one; its mean is `critic/clipfrac`.
    pub is_clipped: Tensor<2, Bool>,
}

/// Clipped squared error of each token's value.
///
/// ```text
/// V^c_t = clip(V_t, V^old_t - clip, V^old_t + clip)
/// L_t   = 1/2 max((V_t - G_t)^2, (V^c_t - G_t)^2)
/// ```
///
/// - `V_t`: the prediction; `V^old_t`: the prediction that the advantages were computed from
/// - `G_t`: the return, [`Gae::returns`](crate::advantage::Gae::returns)
///
/// A prediction that has moved more than `clip` towards its return gets no gradient.
///
/// # Shapes
///
/// - values, old_values, returns, loss_mask: `[batch, tokens]`
/// - output: `[batch, tokens]`, zero where the mask is false: observations have no value. (The code of
///   ZeroSearch trains on theirs too, `dp_critic.py` 178-188.)
///
/// # References
///
/// - [PPO2 in OpenAI Baselines](https://github.com/openai/baselines); the paper has no such clip
/// - verl 0.9.1 `compute_value_loss`
#[must_use]
pub fn clipped_value_loss(
    values: Tensor<2>,
    old_values: Tensor<2>,
    returns: Tensor<2>,
    loss_mask: &Tensor<2, Bool>,
    clip: f64,
) -> ClippedValueLoss {
    let masked = loss_mask.clone().bool_not();
    let fill = |it: Tensor<2>| it.mask_fill(masked.clone(), 0.0);
    let (values, old_values, returns) = (fill(values), fill(old_values), fill(returns));
    let clipped = values.clone().max_pair(old_values.clone() - clip).min_pair(old_values + clip);
    let unclipped = (values - returns.clone()).square();
    let clipped = (clipped - returns).square();
    let is_clipped = clipped.clone().greater(unclipped.clone());
    ClippedValueLoss { loss: unclipped.max_pair(clipped) * 0.5, is_clipped }
}

#[cfg(test)]
#[cfg(feature = "flex")]
mod tests {
    use burn::tensor::Device;

    use super::*;
    use crate::loss::{Aggregation, aggregate};
    use crate::testing::reference::{self, assert_close, numbers, tensor};

    /// Prediction, old prediction and return of one token to its loss and gradient.
    #[track_caller]
    fn check(value: f32, old: f32, target: f32, loss: f32, gradient: f32, is_clipped: bool) {
        let device = Device::flex().autodiff();
        let one = |it: f32| tensor(&[vec![it]], &device);
        let values = one(value).require_grad();
        let mask = one(1.0).greater_elem(0.5);
        let output = clipped_value_loss(values.clone(), one(old), one(target), &mask, 0.5);
        let grads = output.loss.clone().sum().backward();
        assert_close(output.loss, &[loss], "loss");
        assert_close(values.grad(&grads).unwrap(), &[gradient], "gradient");
        assert_eq!(numbers(output.is_clipped.float()), [f32::from(u8::from(is_clipped))]);
    }

    #[test]
    fn by_hand() {
        check(1.25, 1.0, 3.0, 1.53125, -1.75, false);
        // Moved by 1 towards the return of 3: counted as 1.5, no gradient.
        check(2.0, 1.0, 3.0, 1.125, 0.0, true);
        // Moved away from the return: the plain error is the worse one.
        check(0.0, 1.0, 3.0, 4.5, -3.0, false);
    }

    #[test]
    fn agrees_with_verl() {
        let Some(reference) = reference::load() else { return };
        let device = Device::flex();
        let mask = reference.mask(&device);
        let output = clipped_value_loss(
            reference.tensor("inputs/value_predictions", &device),
            reference.tensor("inputs/values", &device),
            reference.tensor("inputs/returns", &device),
            &mask,
            0.5,
        );
        let path = "value_loss/clip_0.5 token-mean";
        let loss = aggregate(output.loss, &mask, Aggregation::TokenMean);
        assert_close(loss, &[reference.value(&format!("{path}/loss"))], "loss");
        let fraction = aggregate(output.is_clipped.float(), &mask, Aggregation::TokenMean);
        let expected = [reference.value(&format!("{path}/clip_fraction"))];
        assert_close(fraction, &expected, "clip fraction");
    }
}
