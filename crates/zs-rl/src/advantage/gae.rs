//! Generalised advantage estimation and discounted returns over the tokens that the policy wrote.

use garde::Validate;
use serde::{Deserialize, Serialize};
use zs_core::registry::check;

/// Discount and bias of generalized advantage estimation.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, Validate)]
#[serde(default)]
pub struct GaeOptions {
    /// Discount of rewards a token.
    #[garde(custom(check::fraction))]
    pub gamma: f64,
    /// Trade of bias (0: one step of the value model) against variance (1: the whole return).
    #[garde(custom(check::fraction))]
    pub lambda: f64,
}

/// No discount and no bootstrapping: ZeroSearch's `train_ppo.sh`.
impl Default for GaeOptions {
    fn default() -> Self {
        Self { gamma: 1.0, lambda: 1.0 }
    }
}

/// Advantages and value targets of one trajectory, one number a token.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Gae {
    /// `A_t`, not whitened. Where the mask is false, the advantage that is carried over the gap.
    pub advantages: Vec<f32>,
    /// `A_t + V_t`: what the value model is to predict. Meaningless where the mask is false.
    pub returns: Vec<f32>,
}

/// Generalised advantages over the tokens of the policy, as if the observations between them were
/// not there.
///
/// ```text
/// delta_t = r_t + gamma V_t' - V_t
/// A_t     = delta_t + gamma lambda A_t'
/// G_t     = A_t + V_t
/// ```
///
/// - `t'`: the next token that the policy wrote; `V`, `A` are 0 after the last
/// - `r_t`: the reward of the token; `V_t`: the value of the state before it
///
/// The policy does not act while it reads, so an observation is no time step: it is neither
/// discounted nor bootstrapped from, and its value does not matter.
///
/// # Shapes
///
/// - rewards, values, loss_mask, output: `[tokens]`
///
/// # Panics
///
/// When the lengths differ.
///
/// # References
///
/// - [GAE](https://arxiv.org/abs/1506.02438), equations 11 and 16
/// - verl 0.9.1 `compute_gae_advantage_return`, which skips observations in the same way; the code of
///   ZeroSearch does not (`ray_trainer.py` 123-134)
///
/// ```
/// use zs_rl::advantage::{GaeOptions, generalized_advantages};
///
/// let options = GaeOptions { gamma: 0.5, lambda: 1.0 };
/// let gae = generalized_advantages(
///     &[0.0, 0.0, 1.0],
///     &[0.25, 9.0, 0.5],
///     &[true, false, true],
///     options,
/// );
/// assert_eq!([gae.advantages[0], gae.advantages[2]], [0.25, 0.5]);
/// assert_eq!([gae.returns[0], gae.returns[2]], [0.5, 1.0]);
/// ```
#[must_use]
pub fn generalized_advantages(
    rewards: &[f32],
    values: &[f32],
    loss_mask: &[bool],
    options: GaeOptions,
) -> Gae {
    assert_eq!(rewards.len(), loss_mask.len(), "one reward a token");
    assert_eq!(values.len(), loss_mask.len(), "one value a token");
    let GaeOptions { gamma, lambda } = options;
    let (mut next_value, mut advantage) = (0.0, 0.0);
    let mut gae = Gae { advantages: vec![0.0; rewards.len()], returns: vec![0.0; rewards.len()] };
    for at in (0..rewards.len()).rev() {
        let value = f64::from(values[at]);
        if loss_mask[at] {
            let delta = f64::from(rewards[at]) + gamma * next_value - value;
            advantage = delta + gamma * lambda * advantage;
            next_value = value;
        }
        gae.advantages[at] = advantage as f32;
        gae.returns[at] = (advantage + value) as f32;
    }
    gae
}

/// Discounted returns over the tokens of the policy.
///
/// ```text
/// G_t = r_t + gamma G_t'
/// ```
///
/// - `t'`: the next token that the policy wrote; observations are no time steps
///
/// # Shapes
///
/// - rewards, loss_mask, output: `[tokens]`; where the mask is false, the return that is carried over
///   the gap
///
/// # Panics
///
/// When the lengths differ.
///
/// # References
///
/// - [REINFORCE++](https://arxiv.org/abs/2501.03262), section 3
///
/// ```
/// use zs_rl::advantage::discounted_returns;
///
/// let returns = discounted_returns(&[0.0, 0.0, 1.0], &[true, false, true], 0.5);
/// assert_eq!([returns[0], returns[2]], [0.5, 1.0]);
/// ```
#[must_use]
pub fn discounted_returns(rewards: &[f32], loss_mask: &[bool], gamma: f64) -> Vec<f32> {
    let values = vec![0.0; rewards.len()];
    let options = GaeOptions { gamma, lambda: 1.0 };
    generalized_advantages(rewards, &values, loss_mask, options).returns
}

#[cfg(test)]
#[cfg(feature = "flex")]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::advantage::whiten;
    use crate::testing::reference;

    #[test]
    fn by_hand() {
        // delta = 1 - 2 = -1 at the end, 0.5 * 2 - 1 = 0 before; A_0 = 0 + 0.5 * 0.5 * -1.
        let options = GaeOptions { gamma: 0.5, lambda: 0.5 };
        let gae = generalized_advantages(&[0.0, 1.0], &[1.0, 2.0], &[true; 2], options);
        assert_eq!(gae.advantages, [-0.25, -1.0]);
        assert_eq!(gae.returns, [0.75, 1.0]);
        // Rewards on two turns, no value model: plain returns.
        let returns = discounted_returns(&[0.0, 1.0, 0.0, 2.0], &[true, true, false, true], 0.5);
        assert_eq!(returns, [1.0, 2.0, 2.0, 2.0]);
        assert!(discounted_returns(&[], &[], 1.0).is_empty());
        let masked = generalized_advantages(&[1.0], &[3.0], &[false], options);
        assert_eq!(masked.advantages, [0.0]);
    }

    #[test]
    fn agrees_with_verl() {
        let Some(reference) = reference::load() else { return };
        let masks = reference.masks();
        let rewards = reference.matrix("inputs/token_level_rewards");
        let values = reference.matrix("inputs/values");
        for (name, gamma, lambda) in
            [("gae_gamma_1.0_lambda_1.0", 1.0, 1.0), ("gae_gamma_0.99_lambda_0.95", 0.99, 0.95)]
        {
            let path = format!("advantages/{name}");
            let options = GaeOptions { gamma, lambda };
            let gae: Vec<Gae> = (0..masks.len())
                .map(|it| generalized_advantages(&rewards[it], &values[it], &masks[it], options))
                .collect();
            let mut advantages: Vec<_> = gae.iter().map(|it| it.advantages.clone()).collect();
            whiten(&mut advantages, &masks);
            let returns: Vec<_> = gae.into_iter().map(|it| it.returns).collect();
            reference::assert_rows(
                &advantages,
                &reference.matrix(&format!("{path}/advantages_whitened")),
                &path,
            );
            reference::assert_rows(&returns, &reference.matrix(&format!("{path}/returns")), &path);
        }
    }

    proptest! {
        #[test]
        fn observations_are_not_there(
            tokens in proptest::collection::vec(
                (-2.0_f32..2.0, -2.0_f32..2.0, any::<bool>()), 1..24
            ),
            gamma in 0.0_f64..1.0,
            lambda in 0.0_f64..1.0,
        ) {
            let options = GaeOptions { gamma, lambda };
            let split = |tokens: &[(f32, f32, bool)]| {
                let rewards: Vec<f32> = tokens.iter().map(|it| it.0).collect();
                let values: Vec<f32> = tokens.iter().map(|it| it.1).collect();
                let mask: Vec<bool> = tokens.iter().map(|it| it.2).collect();
                (generalized_advantages(&rewards, &values, &mask, options), mask)
            };
            let (with_gaps, mask) = split(&tokens);
            let written: Vec<_> = tokens.iter().copied().filter(|it| it.2).collect();
            let (concatenated, _) = split(&written);
            let keep = |values: &[f32]| -> Vec<f32> {
                values.iter().zip(&mask).filter(|(_, mask)| **mask).map(|(it, _)| *it).collect()
            };
            prop_assert_eq!(keep(&with_gaps.advantages), concatenated.advantages);
            prop_assert_eq!(keep(&with_gaps.returns), concatenated.returns);
        }
    }
}
