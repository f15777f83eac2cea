//! Choosing the next token from logits.

use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use super::{SamplingParams, TokenId};

/// A chosen token and its log-probability under the full softmax at temperature 1.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Choice {
    pub(crate) token: TokenId,
    pub(crate) log_prob: f32,
}

/// Chooses the next token of one sequence.
///
/// ```text
/// temperature 0:  argmax(logits), the lowest identifier among equals
/// otherwise:      inverse transform of softmax(logits / temperature), cut to the smallest set of
///                 most likely tokens whose mass reaches top_p
/// ```
///
/// One uniform number is drawn a token whatever the settings, so a sequence's draws depend on its
/// own position only.
///
/// # References
///
/// - [Nucleus sampling](https://arxiv.org/abs/1904.09751), section 3.1
pub(crate) fn choose(logits: &[f32], params: &SamplingParams, rng: &mut ChaCha8Rng) -> Choice {
    let uniform: f64 = rng.random();
    let best = argmax(logits);
    let max = f64::from(logits[best]);
    let log_sum = logits.iter().map(|it| (f64::from(*it) - max).exp()).sum::<f64>().ln() + max;
    let chosen =
        if params.temperature <= 0.0 { best } else { sample(logits, max, params, uniform) };
    Choice { token: chosen as TokenId, log_prob: (f64::from(logits[chosen]) - log_sum) as f32 }
}

fn argmax(logits: &[f32]) -> usize {
    let mut best = 0;
    for (index, value) in logits.iter().enumerate() {
        if *value > logits[best] {
            best = index;
        }
    }
    best
}

fn sample(logits: &[f32], max: f64, params: &SamplingParams, uniform: f64) -> usize {
    let temperature = f64::from(params.temperature);
    let mut weights: Vec<f64> =
        logits.iter().map(|it| ((f64::from(*it) - max) / temperature).exp()).collect();
    let mut total: f64 = weights.iter().sum();
    if params.top_p < 1.0 {
        let mut order: Vec<usize> = (0..weights.len()).collect();
        order.sort_by(|&a, &b| weights[b].total_cmp(&weights[a]).then(a.cmp(&b)));
        let mut mass = 0.0;
        let wanted = f64::from(params.top_p) * total;
        let kept = order.iter().take_while(|&&it| {
            let below = mass < wanted;
            mass += weights[it];
            below
        });
        let kept = kept.count().max(1);
        order[kept..].iter().for_each(|&it| weights[it] = 0.0);
        total = weights.iter().sum();
    }
    let mut remaining = uniform * total;
    let mut last = 0;
    for (index, weight) in weights.iter().enumerate().filter(|(_, weight)| **weight > 0.0) {
        last = index;
        remaining -= weight;
        if remaining < 0.0 {
            break;
        }
    }
    last
}

#[cfg(test)]
mod tests {
    use zs_core::{Domain, StreamKey};

    use super::*;

    fn frequencies(logits: &[f32], temperature: f32, top_p: f32) -> Vec<f64> {
        let params = SamplingParams { temperature, top_p, ..SamplingParams::default() };
        let mut rng = StreamKey::new(3).rng(Domain::Sampling);
        let mut counts = vec![0.0; logits.len()];
        for _ in 0..20_000 {
            counts[choose(logits, &params, &mut rng).token as usize] += 1.0 / 20_000.0;
        }
        counts
    }

    #[track_caller]
    fn check(temperature: f32, top_p: f32, expected: [f64; 3]) {
        // Logits of the distribution 0.5, 0.3, 0.2.
        let logits = [0.5_f32.ln(), 0.3_f32.ln(), 0.2_f32.ln()];
        let actual = frequencies(&logits, temperature, top_p);
        for (a, e) in actual.iter().zip(expected) {
            // Four standard errors of 20,000 draws are below 0.0142.
            assert!((a - e).abs() < 0.0142, "{actual:?} != {expected:?}");
        }
    }

    #[test]
    fn draws_from_the_distribution_asked_for() {
        check(1.0, 1.0, [0.5, 0.3, 0.2]);
        check(0.0, 1.0, [1.0, 0.0, 0.0]);
        // Squared and normalised: 25, 9, 4 of 38.
        check(0.5, 1.0, [25.0 / 38.0, 9.0 / 38.0, 4.0 / 38.0]);
        // 0.5 alone does not reach 0.6; 0.5 + 0.3 does.
        check(1.0, 0.6, [0.625, 0.375, 0.0]);
        check(1.0, 0.4, [1.0, 0.0, 0.0]);
    }

    #[test]
    fn records_the_full_softmax() {
        let logits = [0.5_f32.ln() + 3.0, 0.3_f32.ln() + 3.0, 0.2_f32.ln() + 3.0];
        let params = SamplingParams { temperature: 0.0, top_p: 0.1, ..SamplingParams::default() };
        let choice = choose(&logits, &params, &mut StreamKey::new(0).rng(Domain::Sampling));
        assert_eq!(choice.token, 0);
        assert!((choice.log_prob - 0.5_f32.ln()).abs() < 1e-6);
    }
}
