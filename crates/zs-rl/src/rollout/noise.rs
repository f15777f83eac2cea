//! Probability of noisy documents, by turn.

use super::RolloutError;

/// The noise probability of each turn of an episode; the last one holds for all later turns.
///
/// A plain number is the same probability in every turn.
///
/// ```
/// use zs_rl::TurnNoise;
///
/// assert_eq!(TurnNoise::from(0.25).at(3), 0.25);
/// let falling = TurnNoise::from(vec![0.5, 0.1]);
/// assert_eq!([0, 1, 2].map(|turn| falling.at(turn)), [0.5, 0.1, 0.1]);
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct TurnNoise(Vec<f64>);

impl TurnNoise {
    /// The probability in a turn, from 0; none given is no noise.
    #[must_use]
    pub fn at(&self, turn: u32) -> f64 {
        let last = self.0.last().copied().unwrap_or_default();
        self.0.get(turn as usize).copied().unwrap_or(last)
    }

    pub(super) fn check(&self) -> Result<(), RolloutError> {
        match self.0.iter().find(|it| !(0.0..=1.0).contains(*it)) {
            Some(&value) => Err(RolloutError::NoiseProbability { value }),
            None => Ok(()),
        }
    }
}

impl From<f64> for TurnNoise {
    fn from(probability: f64) -> Self {
        Self(vec![probability])
    }
}

impl From<Vec<f64>> for TurnNoise {
    fn from(probabilities: Vec<f64>) -> Self {
        Self(probabilities)
    }
}
