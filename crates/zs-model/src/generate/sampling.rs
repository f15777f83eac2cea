//! Sampling of the next token from logits.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

use multiversion::multiversion;
use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use super::SamplingParams;
use crate::TokenId;

/// Sampled token and its log-probabilities.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Choice {
    pub(crate) token: TokenId,
    /// Log-probability under the model's full softmax at temperature 1.
    pub(crate) log_prob: f32,
    /// Log-probability under the distribution that the token was drawn from.
    pub(crate) sampling_log_prob: f32,
}

/// Samples the next token of a sequence; `context` are all tokens so far.
///
/// ```text
/// penalty:        l_k / penalty where l_k > 0, l_k * penalty elsewhere, for every k in the context
/// temperature 0:  argmax(l), the lowest identifier among equals
/// otherwise:      w = exp(l / temperature), of which stay, in this order,
///                   the top_k largest,
///                   the fewest largest whose mass reaches top_p of what is left,
///                   those of at least min_p times the largest;
///                 inverse transform of w / sum(w)
/// ```
///
/// Among equal weights the lower identifier ranks higher. One uniform number is drawn per token for
/// all settings, so a sequence's random numbers depend only on its position.
///
/// # References
///
/// - Nucleus sampling: [The Curious Case of Neural Text Degeneration](https://arxiv.org/abs/1904.09751),
///   section 3.1
/// - [Min-p sampling](https://arxiv.org/abs/2407.01082), section 3
/// - Repetition penalty: [CTRL](https://arxiv.org/abs/1909.05858), section 4.1; positive logits are
///   divided and negative ones multiplied, as in transformers
pub(crate) fn choose(
    logits: &[f32],
    context: &[TokenId],
    params: &SamplingParams,
    rng: &mut ChaCha8Rng,
) -> Choice {
    let uniform: f64 = rng.random();
    let max = f64::from(logits[argmax(logits)]);
    let likelihoods = exponentials(logits, max, 1.0);
    let log_sum = likelihoods.iter().sum::<f64>().ln() + max;

    let penalised = penalise(logits, context, params.repetition_penalty);
    let scores = penalised.as_deref().unwrap_or(logits);
    let (token, sampling_log_prob) = if params.temperature <= 0.0 {
        (argmax(scores), 0.0)
    } else if params.is_full_softmax() {
        draw(&likelihoods, uniform)
    } else {
        draw(&truncated(scores, params), uniform)
    };
    let log_prob = (f64::from(logits[token]) - log_sum) as f32;
    Choice { token: token as TokenId, log_prob, sampling_log_prob: sampling_log_prob as f32 }
}

/// `exp((l - max) / temperature)` of logits, accurate to the last few bits of an f64 and never
/// below the smallest normal number.
///
/// ```text
/// e^x = 2^n e^r,   n = round(x / ln 2),   e^r = sum r^k / k!,   k = 0 .. 13
/// ```
#[multiversion(targets("x86_64+avx512f+avx512vl+avx512dq+avx512bw+avx2+fma", "x86_64+avx2+fma"))]
fn exponentials(logits: &[f32], max: f64, temperature: f64) -> Vec<f64> {
    // Adding 1.5 * 2^52 leaves the nearest integer in the low bits.
    const SHIFT: f64 = 6_755_399_441_055_744.0;
    const LOWEST: f64 = -708.0;
    const LN_2_HIGH: f64 = 6.931_471_803_691_238e-1;
    const LN_2_LOW: f64 = 1.908_214_929_270_587_7e-10;
    let factorials = const {
        let mut inverse = [1.0_f64; 14];
        let mut k = 1;
        while k < 14 {
            inverse[k] = inverse[k - 1] / k as f64;
            k += 1;
        }
        inverse
    };
    let mut out = vec![0.0; logits.len()];
    for (out, logit) in out.iter_mut().zip(logits) {
        let x = (f64::from(*logit) - max) / temperature;
        // `f64::max` would replace NaN by a number.
        let x = if x < LOWEST { LOWEST } else { x };
        let shifted = x.mul_add(std::f64::consts::LOG2_E, SHIFT);
        let n = shifted - SHIFT;
        let r = n.mul_add(-LN_2_LOW, n.mul_add(-LN_2_HIGH, x));
        let mut e = factorials[13];
        for k in (0..13).rev() {
            e = e.mul_add(r, factorials[k]);
        }
        *out = e * f64::from_bits((shifted.to_bits() << 52).wrapping_add(0x3ff0_0000_0000_0000));
    }
    out
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

/// Logits after the repetition penalty; `None` where it is off.
fn penalise(logits: &[f32], context: &[TokenId], penalty: f32) -> Option<Vec<f32>> {
    if penalty == 1.0 {
        return None;
    }
    let mut seen: Vec<TokenId> = context.to_vec();
    seen.sort_unstable();
    seen.dedup();
    let mut logits = logits.to_vec();
    for token in seen {
        let logit = &mut logits[token as usize];
        *logit = if *logit > 0.0 { *logit / penalty } else { *logit * penalty };
    }
    Some(logits)
}

/// Unnormalised probabilities at the temperature; 0 for truncated tokens.
fn truncated(scores: &[f32], params: &SamplingParams) -> Vec<f64> {
    let max = f64::from(scores[argmax(scores)]);
    let temperature = f64::from(params.temperature);
    let mut weights = exponentials(scores, max, temperature);
    let has_top_k = params.top_k > 0 && params.top_k < weights.len();
    if has_top_k || params.top_p < 1.0 {
        let mut total: f64 = weights.iter().sum();
        // A heap yields the largest weights without sorting the vocabulary.
        let candidates = weights.iter().enumerate();
        let mut heap: BinaryHeap<Candidate> =
            candidates.map(|(index, &weight)| Candidate { weight, index }).collect();
        let mut largest = std::iter::from_fn(|| heap.pop());
        let mut kept: Vec<Candidate> = Vec::new();
        if has_top_k {
            kept = largest.by_ref().take(params.top_k).collect();
            total = kept.iter().map(|it| it.weight).sum();
        }
        if params.top_p < 1.0 {
            let wanted = f64::from(params.top_p) * total;
            let mut mass = 0.0;
            let mut is_needed = |it: &Candidate| {
                let is_first = mass == 0.0;
                let needed = is_first || mass < wanted;
                mass += it.weight;
                needed
            };
            kept = if has_top_k {
                kept.into_iter().take_while(&mut is_needed).collect()
            } else {
                largest.take_while(&mut is_needed).collect()
            };
        }
        let all = std::mem::replace(&mut weights, vec![0.0; scores.len()]);
        kept.iter().for_each(|it| weights[it.index] = all[it.index]);
    }
    // The largest weight is exp(0).
    let least = f64::from(params.min_p);
    weights.iter_mut().filter(|it| **it < least).for_each(|it| *it = 0.0);
    weights
}

/// Token with its weight, ordered by decreasing weight, then increasing identifier.
struct Candidate {
    weight: f64,
    index: usize,
}

impl Ord for Candidate {
    fn cmp(&self, other: &Self) -> Ordering {
        self.weight.total_cmp(&other.weight).then(other.index.cmp(&self.index))
    }
}

impl PartialOrd for Candidate {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Candidate {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Candidate {}

/// Index at which the running sum of the weights exceeds `uniform` times their total, and the
/// log-probability of that index.
fn draw(weights: &[f64], uniform: f64) -> (usize, f64) {
    let total: f64 = weights.iter().sum();
    let mut remaining = uniform * total;
    let mut last = 0;
    for (index, weight) in weights.iter().enumerate().filter(|(_, weight)| **weight > 0.0) {
        last = index;
        remaining -= weight;
        if remaining < 0.0 {
            break;
        }
    }
    (last, (weights[last] / total).ln())
}

#[cfg(test)]
mod tests {
    use zs_core::{Domain, StreamKey};

    use super::*;

    /// Logits of the distribution 0.5, 0.3, 0.2.
    fn logits() -> [f32; 3] {
        [0.5_f32.ln(), 0.3_f32.ln(), 0.2_f32.ln()]
    }

    #[test]
    fn exponentials_agree_with_the_standard_library() {
        let logits: Vec<f32> = (0..7_000).map(|it| -0.1 * it as f32).collect();
        for (logit, actual) in logits.iter().zip(exponentials(&logits, 0.5, 1.0)) {
            let expected = (f64::from(*logit) - 0.5).exp();
            assert!((actual - expected).abs() <= 1e-14 * expected, "{logit}: {actual} {expected}");
        }
        let special = exponentials(&[0.0, f32::NEG_INFINITY, f32::NAN], 0.0, 0.5);
        assert!(special[0] == 1.0 && special[1] < 1e-300 && special[2].is_nan(), "{special:?}");
    }

    #[track_caller]
    fn check(params: SamplingParams, context: &[TokenId], expected: [f64; 3]) {
        let mut rng = StreamKey::new(3).rng(Domain::Sampling);
        let mut actual = [0.0; 3];
        for _ in 0..20_000 {
            let choice = choose(&logits(), context, &params, &mut rng);
            let token = choice.token as usize;
            actual[token] += 1.0 / 20_000.0;
            assert!((choice.log_prob - logits()[token]).abs() < 1e-6, "{choice:?}");
            let drawn_from = (expected[token].ln() as f32 - choice.sampling_log_prob).abs();
            assert!(drawn_from < 1e-5, "{choice:?} {expected:?}");
        }
        for (a, e) in actual.iter().zip(expected) {
            // Four standard errors of 20,000 draws are below 0.0142.
            assert!((a - e).abs() < 0.0142, "{actual:?} != {expected:?}");
        }
    }

    fn at(temperature: f32) -> SamplingParams {
        SamplingParams { temperature, ..SamplingParams::default() }
    }

    #[test]
    fn draws_from_the_requested_distribution() {
        check(at(1.0), &[], [0.5, 0.3, 0.2]);
        check(at(0.0), &[], [1.0, 0.0, 0.0]);
        // Squared and normalised: 25, 9, 4 of 38.
        check(at(0.5), &[], [25.0 / 38.0, 9.0 / 38.0, 4.0 / 38.0]);
        // 0.5 alone does not reach 0.6; 0.5 + 0.3 does.
        check(SamplingParams { top_p: 0.6, ..at(1.0) }, &[], [0.625, 0.375, 0.0]);
        check(SamplingParams { top_p: 0.4, ..at(1.0) }, &[], [1.0, 0.0, 0.0]);
        check(SamplingParams { top_k: 2, ..at(1.0) }, &[], [0.625, 0.375, 0.0]);
        check(SamplingParams { top_k: 9, ..at(1.0) }, &[], [0.5, 0.3, 0.2]);
        // 0.625 of what top_k left reaches 0.6, which 0.5 of everything would not.
        check(SamplingParams { top_k: 2, top_p: 0.6, ..at(1.0) }, &[], [1.0, 0.0, 0.0]);
        // At least 0.5 of the largest: 0.3 is, 0.2 is not.
        check(SamplingParams { min_p: 0.5, ..at(1.0) }, &[], [0.625, 0.375, 0.0]);
    }

    #[test]
    fn a_repetition_penalty_lowers_repeated_tokens() {
        // Negative logits are multiplied: 0.5^2 against 0.3 and 0.2; the penalty applies once per
        // token, however often it occurs.
        let params = SamplingParams { repetition_penalty: 2.0, ..at(1.0) };
        check(params.clone(), &[0, 0], [0.25 / 0.75, 0.3 / 0.75, 0.2 / 0.75]);
        // Greedy decoding skips the penalised token; the full softmax ignores the penalty.
        let greedy = SamplingParams { temperature: 0.0, ..params };
        check(greedy.clone(), &[0], [0.0, 1.0, 0.0]);
        // Positive logits are divided.
        let mut rng = StreamKey::new(3).rng(Domain::Sampling);
        assert_eq!(choose(&[3.0, 2.0, 1.0], &[0], &greedy, &mut rng).token, 1);
    }

    #[test]
    fn log_prob_is_that_of_the_full_softmax() {
        let logits = [0.5_f32.ln() + 3.0, 0.3_f32.ln() + 3.0, 0.2_f32.ln() + 3.0];
        let params = SamplingParams { temperature: 0.0, top_p: 0.1, ..SamplingParams::default() };
        let choice = choose(&logits, &[], &params, &mut StreamKey::new(0).rng(Domain::Sampling));
        assert_eq!(choice.token, 0);
        assert!((choice.log_prob - 0.5_f32.ln()).abs() < 1e-6);
    }

    #[test]
    fn equal_weights_prefer_the_lower_identifier() {
        let params = SamplingParams { top_k: 1, ..SamplingParams::default() };
        let mut rng = StreamKey::new(1).rng(Domain::Sampling);
        for _ in 0..20 {
            assert_eq!(choose(&[1.0, 2.0, 2.0], &[], &params, &mut rng).token, 1);
        }
    }
}
