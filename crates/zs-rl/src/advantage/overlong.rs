//! Soft penalty on overlong episodes.

use garde::Validate;
use serde::{Deserialize, Serialize};
use zs_core::registry::check;

/// Soft penalty on episodes that are too long.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, Validate)]
pub struct OverlongPunishment {
    /// Tokens that an episode may write at most, `L_max`.
    #[garde(custom(check::at_least_one))]
    pub max_tokens: usize,
    /// Width of the interval below `max_tokens` in which the penalty rises, `L_cache`.
    #[garde(custom(check::at_most("max_tokens", self.max_tokens)))]
    pub buffer: usize,
    /// Its weight in the return.
    #[serde(default = "one")]
    #[garde(custom(check::non_negative))]
    pub weight: f64,
}

fn one() -> f64 {
    1.0
}

/// Penalty of an episode by the number of tokens that the policy wrote in it.
///
/// ```text
/// R(n) = 0                              n <= L_max - L_cache
///      = (L_max - L_cache - n)/L_cache  L_max - L_cache < n <= L_max
///      = -1                             n > L_max
/// ```
///
/// - `n`: tokens that the policy wrote; observations do not count, since the policy does not choose
///   their length (the paper has none)
/// - `L_max`, `L_cache`: [`OverlongPunishment::max_tokens`], [`OverlongPunishment::buffer`]
///
/// # References
///
/// - [DAPO](https://arxiv.org/abs/2503.14476), equation 13
///
/// ```
/// use zs_rl::advantage::{OverlongPunishment, overlong_punishment};
///
/// let options = OverlongPunishment { max_tokens: 100, buffer: 20, weight: 1.0 };
/// assert_eq!([80, 90, 200].map(|it| overlong_punishment(it, options)), [0.0, -0.5, -1.0]);
/// ```
#[must_use]
pub fn overlong_punishment(num_tokens: usize, options: OverlongPunishment) -> f32 {
    let OverlongPunishment { max_tokens, buffer, weight } = options;
    let excess = num_tokens as f64 - max_tokens.saturating_sub(buffer) as f64;
    let punishment = match (excess <= 0.0, num_tokens > max_tokens) {
        (true, _) => 0.0,
        (_, true) => -1.0,
        _ => -excess / buffer.max(1) as f64,
    };
    (weight * punishment) as f32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(num_tokens: usize, buffer: usize, weight: f64, expected: f32) {
        let options = OverlongPunishment { max_tokens: 10, buffer, weight };
        assert_eq!(overlong_punishment(num_tokens, options), expected);
    }

    #[test]
    fn by_hand() {
        check(0, 4, 1.0, 0.0);
        check(6, 4, 1.0, 0.0);
        check(7, 4, 1.0, -0.25);
        check(10, 4, 0.5, -0.5);
        check(11, 4, 1.0, -1.0);
        // Without a buffer the penalty is a step.
        check(10, 0, 1.0, 0.0);
        check(11, 0, 1.0, -1.0);
        check(1, 99, 1.0, -1.0 / 99.0);
    }
}
