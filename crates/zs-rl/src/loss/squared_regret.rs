//! The squared regret of a relative-entropy problem: its minimum is the policy that the advantage
//! asks for, not one that clips.

use burn::tensor::{Bool, Tensor};

use super::masked_difference;

/// Squared regret of each episode.
///
/// ```text
/// L_i = (A_i - tau l_i)^2,   l_i = sum_t m_it (log_prob_it - old_log_prob_it)
/// ```
///
/// - `A_i`: the reward minus the mean reward of the group; given for each token of the episode, all
///   the same
/// - `tau`: the price of moving away from the policy that sampled
/// - `m_it`: the loss mask
///
/// The loss is 0 where `l_i = A_i / tau`: the closed-form optimum of the reward with a relative
/// entropy to the sampling policy. At `l = 0` its gradient is that of REINFORCE with the group's mean
/// as baseline, times `2 tau`.
///
/// # Shapes
///
/// - log_probs, old_log_probs, advantages, loss_mask: `[batch, tokens]`
/// - output: `[batch, 1]`; zero for an episode without tokens of loss
///
/// # References
///
/// - [Kimi K1.5](https://arxiv.org/abs/2501.12599), equations 2 and 3;
///   [Kimi K2](https://arxiv.org/abs/2507.20534), section 3.2
#[must_use]
pub fn squared_regret(
    log_probs: Tensor<2>,
    old_log_probs: Tensor<2>,
    advantages: Tensor<2>,
    loss_mask: &Tensor<2, Bool>,
    tau: f64,
) -> Tensor<2> {
    let masked = loss_mask.clone().bool_not();
    let num_tokens = loss_mask.clone().float().sum_dim(1).clamp_min(1.0);
    let advantages = advantages.mask_fill(masked, 0.0).sum_dim(1) / num_tokens;
    let log_ratio = masked_difference(log_probs, old_log_probs, loss_mask).sum_dim(1);
    (advantages - log_ratio * tau).square()
}

#[cfg(test)]
#[cfg(feature = "flex")]
mod tests {
    use burn::tensor::Device;

    use super::*;
    use crate::testing::reference::{assert_close, tensor};

    /// Rewards and log-ratios of one-token episodes to the mean loss and its gradient.
    #[track_caller]
    fn check(rewards: &[f32], log_ratios: &[f32], tau: f64, loss: f32, gradient: &[f32]) {
        let device = Device::flex().autodiff();
        let column = |values: &[f32]| {
            tensor(&values.iter().map(|&it| vec![it]).collect::<Vec<_>>(), &device)
        };
        let mean = rewards.iter().sum::<f32>() / rewards.len() as f32;
        let advantages: Vec<f32> = rewards.iter().map(|it| it - mean).collect();
        let log_probs = column(log_ratios).require_grad();
        let regret = squared_regret(
            log_probs.clone(),
            column(&vec![0.0; rewards.len()]),
            column(&advantages),
            &column(&vec![1.0; rewards.len()]).greater_elem(0.5),
            tau,
        );
        let mean = regret.mean();
        let grads = mean.backward();
        assert_close(mean, &[loss], "loss");
        assert_close(log_probs.grad(&grads).unwrap(), gradient, "gradient");
    }

    #[test]
    fn by_hand() {
        check(&[1.0, 0.0], &[0.0, 0.0], 0.5, 0.25, &[-0.25, 0.25]);
        check(&[1.0, 0.0], &[0.2, -0.2], 0.5, 0.16, &[-0.2, 0.2]);
        // The stationary point: each log-ratio is its advantage over tau.
        check(&[1.0, 0.0], &[1.0, -1.0], 0.5, 0.0, &[0.0, 0.0]);
        check(
            &[1.0, 1.0, 0.0, 0.0],
            &[0.1, -0.1, 0.3, -0.3],
            0.1,
            0.2505,
            &[-0.0245, -0.0255, 0.0265, 0.0235],
        );
    }

    #[test]
    fn log_ratios_add_up_over_an_episode_and_masked_tokens_do_not_count() {
        let device = Device::flex().autodiff();
        let row = |values: [f32; 3]| tensor(&[values.to_vec(), vec![0.0; 3]], &device);
        let log_probs = row([0.5, 9.0, 0.5]).require_grad();
        let mask = row([1.0, 0.0, 1.0]).greater_elem(0.5);
        let regret =
            squared_regret(log_probs.clone(), row([0.0; 3]), row([2.0, 7.0, 2.0]), &mask, 1.0);
        let grads = regret.clone().sum().backward();
        // (2 - 1)^2; the second row has no token.
        assert_close(regret, &[1.0, 0.0], "regret");
        let expected = [-2.0, 0.0, -2.0, 0.0, 0.0, 0.0];
        assert_close(log_probs.grad(&grads).unwrap(), &expected, "gradient");
    }
}
