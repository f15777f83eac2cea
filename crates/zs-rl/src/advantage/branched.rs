//! Branched advantages: each turn against further continuations of the state before it.

use super::{leave_one_out_advantages, mean};

/// Rewards of an episode between the points at which it was branched, and the returns of the
/// continuations from each point.
///
/// The prompt is no point here: an episode is compared there with the others of its question.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct BranchedReturns {
    /// Rewards before the first point, between points, and after the last: one more than points.
    pub segments: Vec<f32>,
    /// For each point, the return of each continuation from the point on.
    pub continuations: Vec<Vec<f32>>,
}

/// Advantages of [`branched_advantages`].
#[derive(Clone, Debug, Default, PartialEq)]
pub struct BranchedAdvantages {
    /// Estimated return of the episode's first segment, to be compared with the episodes of the same
    /// question.
    pub value: f32,
    /// Advantage of what the episode did after each point.
    pub episode: Vec<f32>,
    /// Advantage of each continuation, in the order of the points.
    pub continuations: Vec<Vec<f32>>,
}

/// Advantages of an episode and of its continuations at the points at which it was branched.
///
/// ```text
/// A_j(c) = G_j(c) - mean_{c' != c} G_j(c')        c, c' in {the episode, its continuations from j}
/// G_j(c) = return of c from point j on            a continuation; the episode at its last point
/// G_j    = r_j + mean_c G_{j+1}(c)                the episode at an earlier point
/// ```
///
/// - `r_j`: rewards of the episode between points `j` and `j + 1`; point 0 is the prompt
/// - `G_0`: [`BranchedAdvantages::value`]
///
/// The continuations from a point and the rest of the episode are independent samples of the policy in
/// the same state, so their mean estimates the value of the state, and `r_j` plus that of the next state
/// estimates the value of the action. The baseline of a sample holds none of its own tokens: the
/// gradient is unbiased, whatever random numbers of the environment the samples share.
///
/// # Shapes
///
/// - `segments`: `[points + 1]`; `continuations` and output: `[points]`, any number at each
///
/// # References
///
/// - [VinePPO](https://arxiv.org/abs/2410.01679), section 4: values by Monte Carlo continuations
/// - [Tree-GRPO](https://arxiv.org/abs/2509.21240): siblings of a tree of agent turns
///
/// ```
/// use zs_rl::advantage::{BranchedReturns, branched_advantages};
///
/// // Right in the end; of two further continuations from the second turn one was.
/// let tree = BranchedReturns { segments: vec![0.0, 1.0], continuations: vec![vec![1.0, 0.0]] };
/// let advantages = branched_advantages(&tree);
/// assert_eq!(advantages.episode, [0.5]);
/// assert_eq!(advantages.continuations, [[0.5, -1.0]]);
/// assert_eq!(advantages.value, 2.0 / 3.0);
/// ```
///
/// # Panics
///
/// If there is not one segment more than points.
#[must_use]
pub fn branched_advantages(returns: &BranchedReturns) -> BranchedAdvantages {
    let BranchedReturns { segments, continuations } = returns;
    assert_eq!(segments.len(), continuations.len() + 1, "one segment more than points");
    let mut output = BranchedAdvantages::default();
    let mut value = segments[continuations.len()];
    for (segment, of_point) in segments.iter().zip(continuations).rev() {
        let all: Vec<f32> = std::iter::once(value).chain(of_point.iter().copied()).collect();
        // Without a continuation there is nothing to compare with.
        let mut advantages = match of_point.is_empty() {
            true => vec![0.0],
            false => leave_one_out_advantages(&all),
        };
        output.continuations.push(advantages.split_off(1));
        output.episode.extend(advantages);
        value = (f64::from(*segment) + mean(&all)) as f32;
    }
    output.episode.reverse();
    output.continuations.reverse();
    output.value = value;
    output
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[track_caller]
    fn check(segments: &[f32], continuations: &[&[f32]], expected: (f32, &[f32], &[&[f32]])) {
        let tree = BranchedReturns {
            segments: segments.to_vec(),
            continuations: continuations.iter().map(|it| it.to_vec()).collect(),
        };
        let found = branched_advantages(&tree);
        let (value, episode, others) = expected;
        let close = |a: &[f32], b: &[f32]| {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-6)
        };
        assert!((found.value - value).abs() < 1e-6 && close(&found.episode, episode), "{found:?}");
        assert_eq!(found.continuations.len(), others.len());
        assert!(found.continuations.iter().zip(others).all(|(a, b)| close(a, b)), "{found:?}");
    }

    #[test]
    fn by_hand() {
        check(&[0.75], &[], (0.75, &[], &[]));
        // Second point: 1 beside 0 and 0.5, mean 0.5. First: 0.25 + 0.5 beside 0.25, mean 0.5.
        check(
            &[0.0, 0.25, 1.0],
            &[&[0.25], &[0.0, 0.5]],
            (0.5, &[0.5, 0.75], &[&[-0.5], &[-0.75, 0.0]]),
        );
        // A point whose continuations all failed changes nothing.
        check(&[0.0, 0.5, 0.25], &[&[], &[0.25]], (0.75, &[0.0, 0.0], &[&[], &[0.0]]));
    }

    proptest! {
        #[test]
        fn equal_returns_have_no_advantage_and_siblings_cancel(
            rewards in proptest::collection::vec((0_u8..5, proptest::collection::vec(0_u8..5, 1..5)), 1..5),
            last in 0_u8..5,
        ) {
            let number = |it: &u8| f32::from(*it) / 4.0;
            let tree = BranchedReturns {
                segments: rewards.iter().map(|it| number(&it.0)).chain([number(&last)]).collect(),
                continuations: rewards.iter().map(|it| it.1.iter().map(number).collect()).collect(),
            };
            let advantages = branched_advantages(&tree);
            for (own, others) in advantages.episode.iter().zip(&advantages.continuations) {
                prop_assert!((own + others.iter().sum::<f32>()).abs() < 1e-4);
            }
            let even = BranchedReturns {
                segments: std::iter::repeat_n(0.0, rewards.len()).chain([0.3]).collect(),
                continuations: rewards.iter().map(|it| vec![0.3; it.1.len()]).collect(),
            };
            let advantages = branched_advantages(&even);
            prop_assert_eq!(advantages.value, 0.3);
            prop_assert!(advantages.episode.iter().all(|it| *it == 0.0));
        }
    }
}
