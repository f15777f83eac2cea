//! The entropy bonus: keeps the policy from becoming certain too early.

use burn::tensor::{Bool, Tensor};

/// The entropy of each token as a loss: the negative entropy.
///
/// ```text
/// L_t = -H(p(. | tokens[..t])) = sum_v p_v log p_v
/// ```
///
/// Scaled by a positive coefficient and added to the loss, it makes the policy less certain.
///
/// # Shapes
///
/// - entropy, loss_mask: `[batch, tokens]`
/// - output: `[batch, tokens]`, zero where the mask is false
///
/// # References
///
/// - [A3C](https://arxiv.org/abs/1602.01783), section 4
#[must_use]
pub fn entropy_bonus(entropy: Tensor<2>, loss_mask: &Tensor<2, Bool>) -> Tensor<2> {
    -entropy.mask_fill(loss_mask.clone().bool_not(), 0.0)
}

#[cfg(test)]
#[cfg(feature = "flex")]
mod tests {
    use burn::tensor::Device;

    use super::*;
    use crate::testing::reference::{assert_close, tensor};

    #[test]
    fn negates_where_the_mask_is_true() {
        let device = Device::flex().autodiff();
        let entropy = tensor(&[vec![0.5, 2.0, f32::INFINITY]], &device).require_grad();
        let mask = tensor(&[vec![1.0, 1.0, 0.0]], &device).greater_elem(0.5);
        let loss = entropy_bonus(entropy.clone(), &mask);
        let grads = loss.clone().sum().backward();
        assert_close(loss, &[-0.5, -2.0, 0.0], "loss");
        assert_close(entropy.grad(&grads).unwrap(), &[-1.0, -1.0, 0.0], "gradient");
    }
}
