//! Credit assignment: rewards to advantages. Pure functions over plain numbers, in linear time, with
//! sums in 64 bits.

mod group;
mod reinforce;

pub use self::group::{GroupAdvantageOptions, group_relative_advantages};
pub use self::reinforce::{Baseline, returns_minus_baseline};

use crate::Trajectory;

/// Gives every token that the policy wrote the same advantage; zero elsewhere.
///
/// # Shapes
///
/// - output: one number a token of the trajectory
#[must_use]
pub fn broadcast_to_tokens(trajectory: &Trajectory, advantage: f32) -> Vec<f32> {
    trajectory.loss_mask().into_iter().map(|it| if it { advantage } else { 0.0 }).collect()
}

/// The mean; exactly the common value when all values are equal, so that a batch of equal rewards
/// has advantages of exactly zero.
fn mean(values: &[f32]) -> f64 {
    let Some(&first) = values.first() else { return 0.0 };
    let first = f64::from(first);
    let excess: f64 = values.iter().map(|&it| f64::from(it) - first).sum();
    first + excess / values.len() as f64
}
