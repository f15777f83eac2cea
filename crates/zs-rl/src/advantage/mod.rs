//! Credit assignment: rewards to advantages. Pure functions over plain numbers, in linear time, with
//! sums in 64 bits.

mod anchor;
mod branched;
mod gae;
mod gigpo;
mod group;
mod leave_one_out;
mod overlong;
mod reinforce;
mod similarity;
mod token_rewards;
mod whiten;

pub use self::anchor::{AnchorKey, cluster_exact, cluster_similar};
pub use self::branched::{BranchedAdvantages, BranchedReturns, branched_advantages};
pub use self::gae::{Gae, GaeOptions, discounted_returns, generalized_advantages};
pub use self::gigpo::{GigpoAdvantages, GigpoOptions, GigpoStep, Pooling, gigpo_advantages};
pub use self::group::{GroupAdvantageOptions, group_relative_advantages};
pub use self::leave_one_out::leave_one_out_advantages;
pub use self::overlong::{OverlongPunishment, overlong_punishment};
pub use self::reinforce::{Baseline, returns_minus_baseline};
pub use self::similarity::sequence_ratio;
pub use self::token_rewards::token_rewards;
pub use self::whiten::whiten;

/// The mean; exactly the common value when all values are equal, so that a batch of equal rewards
/// has advantages of exactly zero.
pub(crate) fn mean(values: &[f32]) -> f64 {
    let Some(&first) = values.first() else { return 0.0 };
    let first = f64::from(first);
    let excess: f64 = values.iter().map(|&it| f64::from(it) - first).sum();
    first + excess / values.len() as f64
}

/// The sample standard deviation (`n - 1`) about a mean; 0 for fewer than two values.
pub(crate) fn sample_std(values: &[f32], mean: f64) -> f64 {
    if values.len() < 2 {
        return 0.0;
    }
    let squares: f64 = values.iter().map(|&it| (f64::from(it) - mean).powi(2)).sum();
    (squares / (values.len() - 1) as f64).sqrt()
}
