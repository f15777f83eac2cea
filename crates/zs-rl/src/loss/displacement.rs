//! A guard against likelihood displacement: training that makes the *good* answers less likely.

use burn::tensor::{Bool, IndexingUpdateOp, Int, Tensor};

/// Loss of likelihood of turns with a non-negative advantage, token by token.
///
/// ```text
/// d_t = old_log_prob_t - log_prob_t
/// L_t = max(0, d_t)   where A_t >= 0 and the sum of d over the token's turn is above 0
///     = 0             elsewhere
/// ```
///
/// - `A_t`: the advantage of the token; below 0 its turn should become less likely
/// - `d_t`: decrease of its log-probability since sampling
///
/// Both conditions are constants: the gradient is that of `d_t`, which makes the token more likely
/// again. Scaled by a coefficient (0.2 in the paper) and divided by the number of tokens.
///
/// # Shapes
///
/// - log_probs, old_log_probs, advantages, loss_mask: `[batch, tokens]`
/// - turn_ids: `[batch, tokens]`, the same positive number on all tokens of a turn and nowhere else,
///   at most `num_turns`; 0 where the mask is false
/// - output: `[batch, tokens]`, zero where the mask is false
///
/// # References
///
/// - [On GRPO collapse in Search-R1](https://arxiv.org/abs/2512.04220) (LLDS, gated by action)
#[must_use]
pub fn likelihood_displacement(
    log_probs: Tensor<2>,
    old_log_probs: Tensor<2>,
    advantages: Tensor<2>,
    loss_mask: &Tensor<2, Bool>,
    turn_ids: Tensor<2, Int>,
    num_turns: usize,
) -> Tensor<2> {
    let [rows, width] = log_probs.dims();
    let lost = -super::masked_difference(log_probs, old_log_probs, loss_mask);
    let flat_ids: Tensor<1, Int> = turn_ids.reshape([rows * width]);
    let of_tokens = lost.clone().detach().reshape([rows * width]);
    let of_turns = Tensor::<1>::zeros([num_turns + 1], &of_tokens.device()).select_assign(
        0,
        flat_ids.clone(),
        of_tokens,
        IndexingUpdateOp::Add,
    );
    let turn_lost: Tensor<2> = of_turns.select(0, flat_ids).reshape([rows, width]);
    let is_kept = turn_lost.greater_elem(0.0).bool_and(advantages.greater_equal_elem(0.0));
    lost.clamp_min(0.0).mask_fill(is_kept.bool_not(), 0.0)
}

#[cfg(test)]
#[cfg(feature = "flex")]
mod tests {
    use burn::tensor::{Device, TensorData};

    use super::*;
    use crate::loss::{Aggregation, aggregate};
    use crate::testing::reference::{assert_close, tensor};

    #[test]
    fn by_hand() {
        // Turns that lost (.3, -.1, .2) and (.1, -.3): the first lost .4 in sum, the second gained.
        let device = Device::flex().autodiff();
        let row = |values: [f32; 6]| tensor(&[values.to_vec()], &device);
        let log_probs = row([-0.3, 0.1, -0.2, -9.0, -0.1, 0.3]).require_grad();
        let mask = row([1.0, 1.0, 1.0, 0.0, 1.0, 1.0]).greater_elem(0.5);
        let ids = TensorData::new(vec![1_i32, 1, 1, 0, 2, 2], [1, 6]);
        let loss = |advantage: f32| {
            likelihood_displacement(
                log_probs.clone(),
                row([0.0; 6]),
                row([advantage; 6]),
                &mask,
                Tensor::from_data(ids.clone(), &device),
                2,
            )
        };
        assert_close(loss(1.0), &[0.3, 0.0, 0.2, 0.0, 0.0, 0.0], "tokens");
        assert_close(loss(0.0), &[0.3, 0.0, 0.2, 0.0, 0.0, 0.0], "an advantage of 0 counts");
        assert_close(loss(-1.0), &[0.0; 6], "bad turns may become unlikely");
        let total = aggregate(loss(1.0), &mask, Aggregation::TokenMean) * 0.2;
        let grads = total.backward();
        assert_close(total, &[0.02], "loss");
        let gradient = log_probs.grad(&grads).unwrap();
        assert_close(gradient, &[-0.04, 0.0, -0.04, 0.0, 0.0, 0.0], "gradient");
    }
}
