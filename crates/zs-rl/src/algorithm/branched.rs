//! Branched credit: each turn against further continuations of the state before it, without a value
//! model.

use std::collections::BTreeMap;
use std::ops::Range;

use garde::Validate;
use serde::{Deserialize, Serialize};
use zs_core::registry::Settings;

use super::{Advantages, Algorithm, Branching, LossTerms, Requirements, RolloutBatch};
use crate::advantage::{BranchedReturns, branched_advantages, leave_one_out_advantages};
use crate::loss::ClipOptions;
use crate::{Trajectory, TrajectoryGroup};

/// Branched credit.
///
/// ```text
/// A_ct = w_t (G(c) - mean_{c' != c} G(c'))        c': continuations of the same state
/// w_t  = 1 / (1 + K min(t, D))                    branched episodes and their continuations; else 1
/// L    = agg[ clipped_surrogate(rho, A) + kl_coef * KL - entropy_coef * H ]
/// ```
///
/// - `c`: an episode or a continuation; the state is the last one at or before turn `t`, from 0, at which
///   it was branched, or the prompt, whose continuations are the episodes of the question
/// - `G(c)`: the return of `c` from that state on; where `c` was branched at a later turn, the mean over
///   the continuations from there in place of the rest ([`branched_advantages`])
/// - `K`, `D`: continuations of a state, and depth
/// - `w_t`: one over the samples of turn `t`, so that the sum over an episode and its continuations is an
///   unbiased estimate of the episode's policy gradient
///
/// All tokens of a turn share the advantage. Continuations learn from their own turns only. With
/// `share = 0` this is RLOO.
///
/// # Differences
///
/// - From VinePPO: states are those before turns in place of reasoning steps; the value of a state is the
///   mean over the others alone, and continuations are learned from.
/// - From Tree-GRPO: no division by a standard deviation and no sum of two baselines, so that the
///   gradient stays unbiased; the draws of the environment are common to all continuations of a state.
///
/// # References
///
/// - [VinePPO](https://arxiv.org/abs/2410.01679), section 4
/// - [Tree-GRPO](https://arxiv.org/abs/2509.21240), section 3
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Validate)]
#[serde(default)]
pub struct Branched {
    /// Episodes and turns that are branched.
    #[garde(dive)]
    pub branching: Branching,
    /// Bounds of the probability ratio.
    #[garde(dive)]
    pub clip: ClipOptions,
    /// Average over tokens, and the terms that are added to the loss.
    #[serde(flatten)]
    #[garde(dive)]
    pub terms: LossTerms,
}

/// The loss of GiGPO's defaults.
impl Default for Branched {
    fn default() -> Self {
        Self {
            branching: Branching::default(),
            clip: ClipOptions::default(),
            terms: LossTerms { kl_coef: 0.001, ..LossTerms::default() },
        }
    }
}

zs_core::settings!(Branched, "branched");

impl Algorithm for Branched {
    fn name(&self) -> &'static str {
        Self::KIND
    }

    fn requirements(&self) -> Requirements {
        let is_used = self.branching.share > 0.0;
        Requirements {
            clip: self.clip,
            branching: is_used.then_some(self.branching),
            ..self.terms.into()
        }
    }

    fn advantages(&self, batch: &RolloutBatch<'_>) -> Advantages {
        let (mut tokens, mut start) = (Vec::new(), 0);
        let mut points = Points::default();
        for group in batch.groups {
            let rows = start..start + group.trajectories.len();
            start = rows.end;
            tokens.extend(self.of_group(batch, group, rows, &mut points));
        }
        let metrics = match points.count {
            0 => Vec::new(),
            count => vec![("branch/zero_variance_frac", points.num_even as f64 / count as f64)],
        };
        Advantages { metrics, ..tokens.into() }
    }
}

/// Branched states, and those among them whose continuations all have the same return.
#[derive(Default)]
struct Points {
    count: usize,
    num_even: usize,
}

impl Branched {
    /// The advantages of the tokens of a group, one row a trajectory.
    fn of_group(
        &self,
        batch: &RolloutBatch<'_>,
        group: &TrajectoryGroup,
        rows: Range<usize>,
        points: &mut Points,
    ) -> Vec<Vec<f32>> {
        let trajectory = |at: usize| &group.trajectories[at].trajectory;
        let rewards = &batch.token_rewards[rows.clone()];
        let returns = &batch.returns[rows];
        let mut episodes: BTreeMap<usize, BTreeMap<usize, Vec<usize>>> = BTreeMap::new();
        for at in 0..group.trajectories.len() {
            match trajectory(at).branch {
                None => _ = episodes.entry(at).or_default(),
                Some(it) => {
                    episodes.entry(it.parent).or_default().entry(it.turn).or_default().push(at);
                }
            }
        }
        let mut output: Vec<Vec<f32>> = rewards.iter().map(|it| vec![0.0; it.len()]).collect();
        // A continuation whose episode is not there has nothing to be compared with.
        episodes.retain(|&at, _| at < output.len() && trajectory(at).branch.is_none());
        let mut values = Vec::new();
        for (&at, branches) in &episodes {
            let starts: Vec<usize> =
                branches.keys().map(|&turn| trajectory(at).num_tokens_before(turn)).collect();
            let ends = starts.iter().copied().chain([rewards[at].len()]);
            let segments = std::iter::once(0).chain(starts.iter().copied()).zip(ends);
            let tree = BranchedReturns {
                segments: match branches.is_empty() {
                    true => vec![returns[at]],
                    false => segments.map(|(from, to)| sum(&rewards[at][from..to])).collect(),
                },
                continuations: branches
                    .values()
                    .zip(&starts)
                    .map(|(rows, &from)| rows.iter().map(|&it| sum(&rewards[it][from..])).collect())
                    .collect(),
            };
            let advantages = branched_advantages(&tree);
            values.push(advantages.value);
            for (((&turn, rows), own), others) in
                branches.iter().zip(&advantages.episode).zip(&advantages.continuations)
            {
                points.count += 1;
                points.num_even += usize::from(others.iter().all(|it| it == own));
                self.spread(trajectory(at), turn, *own, &mut output[at]);
                for (&row, advantage) in rows.iter().zip(others) {
                    self.spread(trajectory(row), turn, *advantage, &mut output[row]);
                }
            }
        }
        let roots = leave_one_out_advantages(&values);
        for ((&at, branches), advantage) in episodes.iter().zip(roots) {
            let first = branches.keys().next().copied().unwrap_or(usize::MAX);
            let number = trajectory(at).turn_numbers();
            let own = output[at].iter_mut().zip(number).filter(|(_, it)| (1..=first).contains(it));
            own.for_each(|(it, _)| *it = advantage);
        }
        output
    }

    /// Gives the tokens of a turn and of all later ones an advantage, weighted.
    fn spread(&self, trajectory: &Trajectory, first: usize, advantage: f32, output: &mut [f32]) {
        for (it, number) in output.iter_mut().zip(trajectory.turn_numbers()) {
            if let Some(turn) = number.checked_sub(1).filter(|turn| *turn >= first) {
                *it = advantage / self.branching.samples_of_turn(turn) as f32;
            }
        }
    }
}

fn sum(rewards: &[f32]) -> f32 {
    rewards.iter().map(|it| f64::from(*it)).sum::<f64>() as f32
}
