//! Group-in-group advantages: episodes against episodes, and steps against steps that were taken in
//! the same state.

use garde::Validate;
use serde::{Deserialize, Serialize};
use zs_core::registry::check;

use super::{GroupAdvantageOptions, group_relative_advantages};

/// Settings of the advantages of steps.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, Validate)]
#[serde(default)]
pub struct GigpoOptions {
    /// Discount of rewards a step.
    #[garde(custom(check::fraction))]
    pub gamma: f64,
    /// Weight of the step advantage.
    #[garde(custom(check::non_negative))]
    pub omega: f64,
    /// Division of advantages by the standard deviation of their group.
    #[garde(skip)]
    pub normalize_std: bool,
    /// Keeps the standard deviation away from zero.
    #[garde(custom(check::non_negative))]
    pub std_epsilon: f64,
    /// Population of the episode's mean and standard deviation.
    #[garde(skip)]
    pub pooling: Pooling,
}

/// Population of the episode's mean and standard deviation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Pooling {
    /// Each trajectory counts once: the paper.
    #[default]
    PerTrajectory,
    /// Each step counts once, so long trajectories count more: the default of the paper's code.
    PerStep,
}

/// The settings of the paper's search experiments.
impl Default for GigpoOptions {
    fn default() -> Self {
        Self {
            gamma: 0.95,
            omega: 1.0,
            normalize_std: true,
            std_epsilon: 1e-6,
            pooling: Pooling::PerTrajectory,
        }
    }
}

/// One step of a trajectory.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct GigpoStep {
    /// The state it was taken in; equal labels are equal states.
    pub anchor: usize,
    /// Reward.
    pub reward: f32,
}

/// Advantages of the trajectories of one question.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct GigpoAdvantages {
    /// `[trajectories][steps]`.
    pub steps: Vec<Vec<f32>>,
    /// Groups of steps that were taken in the same state.
    pub num_step_groups: usize,
    /// Groups with a single step, which get no step advantage.
    pub num_singletons: usize,
}

/// Episode advantages plus step advantages.
///
/// ```text
/// A_kt  = E_k + omega S_kt
/// E_k   = (R_k - mean(R)) / F(R)
/// S_kt  = (G_kt - mean(G_s)) / F(G_s)
/// G_kt  = sum_{u >= t} gamma^(u - t) r_ku
/// ```
///
/// - `R_k`: the return of trajectory `k`, undiscounted; `r_ku`: the reward of its step `u`
/// - `G_s`: the discounted returns of all steps that were taken in the state `s` of step `kt`
/// - `F`: sample standard deviation (`n - 1`) plus `std_epsilon` with `normalize_std`, 1 without
///
/// A step whose state occurs once has `S = 0`. A single trajectory (with `per_step`, a single step)
/// keeps its raw return as `E`, as in [`group_relative_advantages`]; with `omega = 0` and
/// `per_trajectory` the two are the same.
///
/// # Shapes
///
/// - returns: `[trajectories]`; trajectories: `[trajectories][steps]`
///
/// # Panics
///
/// When the lengths differ.
///
/// # References
///
/// - [GiGPO](https://arxiv.org/abs/2505.10978), equations 3 to 8; langfengQ/verl-agent
#[must_use]
pub fn gigpo_advantages(
    returns: &[f32],
    trajectories: &[Vec<GigpoStep>],
    options: GigpoOptions,
) -> GigpoAdvantages {
    assert_eq!(returns.len(), trajectories.len(), "one return a trajectory");
    let GigpoOptions { gamma, omega, normalize_std, std_epsilon, pooling } = options;
    let normalization = GroupAdvantageOptions { normalize_std, std_epsilon };

    let episodes = match pooling {
        Pooling::PerTrajectory => group_relative_advantages(returns, normalization),
        Pooling::PerStep => {
            let lengths = trajectories.iter().map(Vec::len);
            let rows = returns.iter().zip(lengths).flat_map(|(&it, n)| std::iter::repeat_n(it, n));
            let rows = group_relative_advantages(&rows.collect::<Vec<f32>>(), normalization);
            let mut rows = rows.into_iter();
            // Trajectories without a step have no advantage to give.
            let mut first = |steps: &Vec<GigpoStep>| match steps.len() {
                0 => 0.0,
                n => rows.by_ref().take(n).last().unwrap_or(0.0),
            };
            trajectories.iter().map(&mut first).collect()
        }
    };
    let mut advantages: Vec<Vec<f32>> =
        trajectories.iter().zip(&episodes).map(|(it, &e)| vec![e; it.len()]).collect();

    let groups = group_by_anchor(trajectories, gamma);
    let mut num_singletons = 0;
    for group in &groups {
        if group.len() == 1 {
            num_singletons += 1;
            continue;
        }
        let returns: Vec<f32> = group.iter().map(|it| it.1).collect();
        let of_steps = group_relative_advantages(&returns, normalization);
        for (&((trajectory, step), _), advantage) in group.iter().zip(of_steps) {
            let sum = &mut advantages[trajectory][step];
            *sum = (f64::from(*sum) + omega * f64::from(advantage)) as f32;
        }
    }
    GigpoAdvantages { steps: advantages, num_step_groups: groups.len(), num_singletons }
}

/// A step, as trajectory and index, and its discounted return.
type ReturnOfStep = ((usize, usize), f32);

/// The steps of each state.
fn group_by_anchor(trajectories: &[Vec<GigpoStep>], gamma: f64) -> Vec<Vec<ReturnOfStep>> {
    let mut groups = std::collections::BTreeMap::<usize, Vec<ReturnOfStep>>::new();
    for (index, steps) in trajectories.iter().enumerate() {
        let mut to_go = 0.0;
        for (at, step) in steps.iter().enumerate().rev() {
            to_go = f64::from(step.reward) + gamma * to_go;
            groups.entry(step.anchor).or_default().push(((index, at), to_go as f32));
        }
    }
    groups.into_values().collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Trajectory of anchors with its reward at the last step.
    fn steps(anchors: &[usize], reward: f32) -> Vec<GigpoStep> {
        let last = anchors.len().wrapping_sub(1);
        let step = |(at, &anchor): (usize, &usize)| GigpoStep {
            anchor,
            reward: if at == last { reward } else { 0.0 },
        };
        anchors.iter().enumerate().map(step).collect()
    }

    fn returns(trajectories: &[Vec<GigpoStep>]) -> Vec<f32> {
        trajectories.iter().map(|it| it.iter().map(|step| step.reward).sum()).collect()
    }

    fn options(gamma: f64, normalize_std: bool, pooling: Pooling) -> GigpoOptions {
        GigpoOptions { gamma, normalize_std, pooling, ..GigpoOptions::default() }
    }

    #[track_caller]
    fn check(trajectories: &[Vec<GigpoStep>], options: GigpoOptions, expected: &[f32]) {
        let actual = gigpo_advantages(&returns(trajectories), trajectories, options).steps;
        let actual = actual.concat();
        assert_eq!(actual.len(), expected.len());
        for (a, e) in actual.iter().zip(expected) {
            assert!((a - e).abs() < 1e-5, "{options:?}: {actual:?}");
        }
    }

    #[test]
    fn by_hand() {
        // E = ±1/2. State 0: returns 1/2 and 0, so ±1/4; state 1: 1 and 0, so ±1/2.
        let trajectories = [steps(&[0, 1], 1.0), steps(&[0, 1], 0.0)];
        let mean = options(0.5, false, Pooling::PerTrajectory);
        check(&trajectories, mean, &[0.75, 1.0, -0.75, -1.0]);
        // Two values, whatever their distance: ±1/sqrt(2), once an episode and once a step.
        let r = std::f32::consts::SQRT_2;
        let std = options(0.5, true, Pooling::PerTrajectory);
        check(&trajectories, std, &[r, r, -r, -r]);
    }

    #[test]
    fn loops_and_singletons() {
        // Computed with numpy in float64 from the reference code: a win in two steps, a loop that
        // fails, a win in four steps by way of two states of its own.
        let trajectories =
            [steps(&[0, 1], 1.0), steps(&[0, 0, 0, 1], 0.0), steps(&[0, 2, 1, 3], 1.0)];
        let columns = [
            (
                false,
                Pooling::PerTrajectory,
                [
                    0.921858, 0.683333, -1.028142, -1.028142, -1.028142, -1.316667, 0.829233,
                    0.333333, 0.633333, 0.333333,
                ],
            ),
            (
                false,
                Pooling::PerStep,
                [0.988525, 0.75, -0.961475, -0.961475, -0.961475, -1.25, 0.8959, 0.4, 0.7, 0.4],
            ),
            (
                true,
                Pooling::PerTrajectory,
                [
                    1.763764, 1.198498, -1.883401, -1.883401, -1.883401, -2.30826, 1.57704,
                    0.577349, 1.109762, 0.577349,
                ],
            ),
            (
                true,
                Pooling::PerStep,
                [
                    1.96101, 1.395744, -1.890595, -1.890595, -1.890595, -2.315454, 1.774286,
                    0.774595, 1.307008, 0.774595,
                ],
            ),
        ];
        for (normalize_std, pooling, expected) in columns {
            check(&trajectories, options(0.95, normalize_std, pooling), &expected);
        }
        let advantages =
            gigpo_advantages(&returns(&trajectories), &trajectories, GigpoOptions::default());
        assert_eq!((advantages.num_step_groups, advantages.num_singletons), (4, 2));
        // The shorter win has the larger advantage.
        assert!(advantages.steps[0][0] > advantages.steps[2][0]);
    }

    #[test]
    fn lonely_and_equal_trajectories_are_finite() {
        for pooling in [Pooling::PerTrajectory, Pooling::PerStep] {
            for normalize_std in [true, false] {
                let options = options(0.95, normalize_std, pooling);
                check(&[steps(&[0], 0.25)], options, &[0.25]);
                check(&[steps(&[0], 0.5), steps(&[0], 0.5)], options, &[0.0, 0.0]);
                check(&[], options, &[]);
                check(&[steps(&[], 0.0), steps(&[], 0.0)], options, &[]);
            }
        }
    }

    proptest! {
        #[test]
        fn without_step_advantages_it_is_grpo_and_order_does_not_matter(
            trajectories in proptest::collection::vec(
                (proptest::collection::vec(0_usize..4, 1..5), -1.0_f32..1.0), 1..7
            ),
            omega in prop_oneof![Just(0.0), Just(1.0)],
        ) {
            let trajectories: Vec<_> = trajectories.iter().map(|it| steps(&it.0, it.1)).collect();
            let options = GigpoOptions { omega, ..GigpoOptions::default() };
            let rewards = returns(&trajectories);
            let actual = gigpo_advantages(&rewards, &trajectories, options).steps;
            if omega == 0.0 {
                let grpo = group_relative_advantages(&rewards, GroupAdvantageOptions::default());
                for (row, advantage) in actual.iter().zip(grpo) {
                    prop_assert!(row.iter().all(|it| *it == advantage));
                }
            }
            let reversed: Vec<_> = trajectories.iter().rev().cloned().collect();
            let again = gigpo_advantages(&returns(&reversed), &reversed, options).steps;
            for (a, b) in actual.iter().zip(again.iter().rev()) {
                for (a, b) in a.iter().zip(b) {
                    prop_assert!(a.is_finite() && (a - b).abs() < 2e-4 * (1.0 + a.abs()));
                }
            }
        }
    }
}
