//! Group-in-Group Policy Optimization: credit for steps without a value model.

use serde::{Deserialize, Serialize};
use zs_model::TokenScores;

use super::{
    Advantages, Algorithm, AlgorithmError, Check, KlPlacement, LossOutput, LossTerms, PolicyBatch,
    RolloutBatch,
};
use crate::advantage::{AnchorKey, GigpoOptions, GigpoStep, gigpo_advantages};
use crate::loss::{Aggregation, ClipOptions, KlEstimator};
use crate::{Trajectory, TrajectoryGroup};

/// Settings of [`Gigpo`]; the defaults are those of the paper's search experiments.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct GigpoConfig {
    /// Discount, weight of the step advantage, normalisation, pooling.
    pub credit: GigpoOptions,
    /// Which steps were taken in the same state.
    pub anchor: AnchorKey,
    /// Bounds of the probability ratio.
    pub clip: ClipOptions,
    /// Weight of the divergence from the reference model; 0 needs no reference model.
    pub kl_coef: f64,
    /// How that divergence is estimated.
    pub kl_estimator: KlEstimator,
    /// Where that divergence enters.
    pub kl_placement: KlPlacement,
    /// Weight of the entropy bonus.
    pub entropy_coef: f64,
    /// How token losses are averaged.
    pub aggregation: Aggregation,
}

impl Default for GigpoConfig {
    fn default() -> Self {
        Self {
            credit: GigpoOptions::default(),
            anchor: AnchorKey::Similar { threshold: 0.9 },
            clip: ClipOptions::default(),
            kl_coef: 0.001,
            kl_estimator: KlEstimator::LowVarKl,
            kl_placement: KlPlacement::Loss,
            entropy_coef: 0.0,
            aggregation: Aggregation::TokenMean,
        }
    }
}

/// Group-in-Group Policy Optimization.
///
/// ```text
/// A_ikt = E_i + omega S_ik
/// L     = agg_it[ clipped_surrogate(rho_it, A_it) + kl_coef * KL_it - entropy_coef * H_it ]
/// ```
///
/// - `E_i`: the return of trajectory `i` against those of its question
/// - `S_ik`: the discounted return from turn `k` on against those of all turns of the question that
///   were taken in the same state; 0 where no other was
/// - `t`: a token of turn `k`; all of them share the advantage
///
/// `omega = 0` is GRPO, bit for bit.
///
/// # Differences
///
/// - From the code: one row is a whole trajectory with its turns, not one turn with its history; the
///   mean over tokens is the same. `per_trajectory` pooling, the paper's, is the default.
/// - The discounted returns of the steps see the divergence from the reference model where it is part
///   of the reward.
///
/// # References
///
/// - [GiGPO](https://arxiv.org/abs/2505.10978), section 4; langfengQ/verl-agent
#[derive(Clone, Debug)]
pub struct Gigpo {
    config: GigpoConfig,
}

impl Gigpo {
    /// The algorithm with these settings.
    ///
    /// # Errors
    ///
    /// Fails on a setting out of range.
    pub fn new(config: &GigpoConfig) -> Result<Self, AlgorithmError> {
        let check = Check("gigpo");
        check.share("credit.gamma", config.credit.gamma)?;
        check.coefficient("credit.omega", config.credit.omega)?;
        check.coefficient("credit.std_epsilon", config.credit.std_epsilon)?;
        if let AnchorKey::Similar { threshold } = config.anchor {
            check.share("anchor.similar.threshold", threshold)?;
        }
        check.clip(config.clip)?;
        let algorithm = Self { config: config.clone() };
        check.terms(algorithm.terms())?;
        Ok(algorithm)
    }
}

impl Algorithm for Gigpo {
    fn name(&self) -> &'static str {
        "gigpo"
    }

    fn terms(&self) -> LossTerms {
        let GigpoConfig { aggregation, kl_coef, kl_estimator, kl_placement, entropy_coef, .. } =
            self.config;
        LossTerms { aggregation, kl_coef, kl_estimator, kl_placement, entropy_coef }
    }

    fn advantages(&self, batch: &RolloutBatch<'_>) -> Advantages {
        let GigpoConfig { credit, anchor, .. } = self.config;
        let (mut tokens, mut start) = (Vec::new(), 0);
        let (mut num_groups, mut num_singletons) = (0, 0);
        for group in batch.groups {
            let rows = start..start + group.trajectories.len();
            start = rows.end;
            let returns = &batch.returns[rows.clone()];
            let rewards = &batch.token_rewards[rows];
            let steps = steps(group, &anchor.labels(group), rewards);
            let advantages = gigpo_advantages(returns, &steps, credit);
            num_groups += advantages.num_step_groups;
            num_singletons += advantages.num_singletons;
            let rows = group.trajectories.iter().zip(&advantages.steps);
            tokens.extend(rows.map(|(it, steps)| spread_over_turns(&it.trajectory, steps)));
        }
        let share = num_singletons as f64 / num_groups.max(1) as f64;
        Advantages { metrics: vec![("gigpo/singleton_frac", share)], ..tokens.into() }
    }

    fn policy_loss(&self, scores: &TokenScores, batch: &PolicyBatch) -> LossOutput {
        let surrogate = batch.clipped_surrogate(scores, self.config.clip);
        self.terms().policy_loss(surrogate, scores, batch)
    }
}

/// The turns of a group: the state each was taken in, and what its tokens earned.
fn steps(
    group: &TrajectoryGroup,
    labels: &[Vec<usize>],
    token_rewards: &[Vec<f32>],
) -> Vec<Vec<GigpoStep>> {
    let of_trajectory =
        |((trajectory, labels), rewards): ((&Trajectory, &Vec<usize>), &Vec<f32>)| {
            let mut start = trajectory.prompt.len();
            let turns = trajectory.turns.iter().zip(labels);
            turns
                .map(|(turn, &anchor)| {
                    let end = start + turn.completion.tokens.len();
                    let reward = rewards[start..end].iter().sum();
                    start = end + turn.observation.len();
                    GigpoStep { anchor, reward }
                })
                .collect()
        };
    let trajectories = group.trajectories.iter().map(|it| &it.trajectory);
    trajectories.zip(labels).zip(token_rewards).map(of_trajectory).collect()
}

/// Gives every token of a turn the advantage of the turn; zero elsewhere.
fn spread_over_turns(trajectory: &Trajectory, advantages: &[f32]) -> Vec<f32> {
    let mut tokens = vec![0.0; trajectory.prompt.len()];
    for (turn, &advantage) in trajectory.turns.iter().zip(advantages) {
        tokens.resize(tokens.len() + turn.completion.tokens.len(), advantage);
        tokens.resize(tokens.len() + turn.observation.len(), 0.0);
    }
    tokens
}
