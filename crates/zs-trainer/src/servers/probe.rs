//! Proof that a server has the trainer's weights: log-probabilities of fixed sequences.
//!
//! A server's label of its weights is what somebody set; its log-probabilities are not.

use zs_model::{Generator, LanguageModel, TokenId};

/// Sequences that are scored.
const NUM_SEQUENCES: usize = 4;
/// Tokens of each at most.
const NUM_TOKENS: usize = 64;
/// Share of the bound below which differences are rounding, and say nothing about updates.
const ROUNDING: f64 = 1e-6;

/// Mismatch of two models on the same tokens.
///
/// ```text
/// d = log p(trainer) - log p(server),   w = exp(d)
/// k1 = mean(-d),   k3 = mean(w - 1 - d),   max_ratio = exp(max |d|)
/// effective_sample_frac = (sum w)^2 / (N sum w^2)
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Mismatch {
    /// Mean log-ratio.
    pub k1: f64,
    /// Estimate of the divergence, never negative.
    pub k3: f64,
    /// Largest ratio of probabilities in either direction.
    pub max_ratio: f64,
    /// Effective sample size as a fraction of the tokens.
    pub effective_sample_frac: f64,
}

impl Mismatch {
    /// Mismatch of a server and the trainer. The first token of a row has no log-probability.
    #[must_use]
    pub fn of(server: &[Vec<f32>], trainer: &[Vec<f32>]) -> Self {
        let differences: Vec<f64> = server
            .iter()
            .zip(trainer)
            .flat_map(|(server, trainer)| server.iter().zip(trainer).skip(1))
            .map(|(server, trainer)| f64::from(*trainer) - f64::from(*server))
            .collect();
        let count = differences.len().max(1) as f64;
        let mean =
            |of: &dyn Fn(f64) -> f64| differences.iter().map(|it| of(*it)).sum::<f64>() / count;
        let (first, second) = (mean(&f64::exp), mean(&|it| (2.0 * it).exp()));
        Self {
            // 0 has no sign.
            k1: 0.0 - mean(&|it| it),
            // exp(d) - 1 loses every digit of a small d.
            k3: mean(&|it| it.exp_m1() - it),
            max_ratio: differences.iter().fold(0.0_f64, |most, it| most.max(it.abs())).exp(),
            effective_sample_frac: first * first / second,
        }
    }
}

/// Fixed sequences of tokens of a policy: its whole vocabulary in even steps, and scattered tokens.
pub(super) fn sequences(policy: &LanguageModel) -> Vec<Vec<TokenId>> {
    let vocab_size = policy.tokenizer().vocab_size().max(1);
    let len = NUM_TOKENS.min(policy.context_length().saturating_sub(2)).max(2);
    let sweep = (0..len).map(|it| (it * (vocab_size - 1) / (len - 1)) as TokenId).collect();
    let scattered = |sequence: usize| {
        // Steps of a prime number visit all parts of the vocabulary.
        (0..len).map(|it| ((sequence * 7919 + it * 104_729) % vocab_size) as TokenId).collect()
    };
    std::iter::once(sweep).chain((1..NUM_SEQUENCES).map(scattered)).collect()
}

/// Log-probabilities of the fixed sequences under the weights of a version, and under those before.
#[derive(Clone, Debug)]
pub(super) struct Expected {
    pub(super) now: Vec<Vec<f32>>,
    pub(super) before: Option<Vec<Vec<f32>>>,
}

/// Verdict on a server's log-probabilities.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Verdict {
    /// They are the trainer's up to rounding.
    Same,
    /// They are those of weights before the update.
    Old,
    /// They are another model's.
    Other,
}

impl Expected {
    /// Holds a server's log-probabilities against the trainer's.
    ///
    /// A small update moves them by less than the bound. A server that has not made it is still told:
    /// by being at half the distance, or less, from the weights before, or by being further from the
    /// new ones than half the update and than twice its own `floor`, the lowest `k3` that it has shown.
    /// (`k3` grows with the square of a distance.)
    pub(super) fn judge(
        &self,
        found: &[Vec<f32>],
        bound: f64,
        floor: Option<f64>,
    ) -> (Mismatch, Verdict) {
        let now = Mismatch::of(found, &self.now);
        let is_old = self.before.as_ref().is_some_and(|before| {
            let update = Mismatch::of(before, &self.now).k3;
            let is_beyond = |floor: f64| now.k3 > (update / 4.0).max(4.0 * floor);
            let is_nearer = 4.0 * Mismatch::of(found, before).k3 < now.k3;
            now.k3 > ROUNDING * bound && (is_nearer || floor.is_some_and(is_beyond))
        });
        let verdict = match is_old {
            true => Verdict::Old,
            // A number that is not one is above every bound.
            false if now.k3 <= bound => Verdict::Same,
            false => Verdict::Other,
        };
        (now, verdict)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Worked by hand: d = ln 2, -ln 2.
    #[test]
    fn mismatch_is_measured_as_documented() {
        let ln2 = std::f32::consts::LN_2;
        let server = [vec![0.0, -1.0 - ln2, -1.0]];
        let trainer = [vec![9.0, -1.0, -1.0 - ln2]];
        let found = Mismatch::of(&server, &trainer);
        assert!(found.k1.abs() < 1e-7, "{found:?}");
        // (2 - 1 - ln 2 + 1/2 - 1 + ln 2) / 2
        assert!((found.k3 - 0.25).abs() < 1e-6, "{found:?}");
        assert!((found.max_ratio - 2.0).abs() < 1e-6, "{found:?}");
        // (2 + 1/2)^2 / (2 (4 + 1/4))
        assert!((found.effective_sample_frac - 6.25 / 8.5).abs() < 1e-6, "{found:?}");
        let same = Mismatch::of(&trainer, &trainer);
        let none = Mismatch { k1: 0.0, k3: 0.0, max_ratio: 1.0, effective_sample_frac: 1.0 };
        assert_eq!(same, Mismatch { k1: same.k1, ..none });
        assert!(same.k1 == 0.0);
    }

    #[test]
    fn old_weights_are_told_from_noise_even_below_the_bound() {
        let row = |shift: f32| vec![(0..9).map(|it| -(it as f32) - shift).collect::<Vec<_>>()];
        let expected = |update: f32| Expected { now: row(update), before: Some(row(0.0)) };
        let judge =
            |update: f32, noise: f32, floor| expected(update).judge(&row(noise), 1e-5, floor).1;
        let verdict = |update: f32, noise: f32| judge(update, noise, None);
        // An update of 1e-4 has a k3 of 5e-9.
        assert_eq!(verdict(1e-4, 0.0), Verdict::Old);
        assert_eq!(verdict(1e-4, 1e-5), Verdict::Old);
        assert_eq!(verdict(1e-4, 1e-4), Verdict::Same);
        assert_eq!(verdict(1e-4, 9e-5), Verdict::Same);
        // Noise beyond the update says nothing.
        assert_eq!(verdict(1e-6, -1e-4), Verdict::Same);
        assert_eq!(verdict(0.0, 0.0), Verdict::Same);
        assert_eq!(verdict(0.1, 1.0), Verdict::Other);
        // No update, and rounding on a server that had none at first.
        assert_eq!(judge(0.0, 1e-6, Some(0.0)), Verdict::Same);
        // Two updates behind, on a server that has been nearer, and on one that never is.
        assert_eq!(verdict(1e-4, -1.5e-4), Verdict::Same);
        assert_eq!(judge(1e-4, -1.5e-4, Some(1e-14)), Verdict::Old);
        assert_eq!(judge(1e-4, -1.5e-4, Some(1e-8)), Verdict::Same);
        assert_eq!(judge(1e-4, 1e-4, Some(1e-14)), Verdict::Same);
        let alone = Expected { now: row(0.0), before: None };
        assert_eq!(alone.judge(&row(0.5), 1e-5, None).1, Verdict::Other);
        assert_eq!(alone.judge(&row(f32::NAN), 1e-5, Some(1.0)).1, Verdict::Other);
    }
}
