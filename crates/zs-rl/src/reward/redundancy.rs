//! Penalty on repeated queries.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use zs_core::normalize_answer;
use zs_core::registry::Settings;

use super::{EpisodeView, Reward, RewardOutput};

/// Minus the mean similarity of the episode's queries.
///
/// ```text
/// r    = -2 / (n (n - 1)) * sum_{i < j} J(q_i, q_j)
/// J    = |W_i ∩ W_j| / |W_i ∪ W_j|
/// ```
///
/// - `n`: searches that were carried out; fewer than two cost nothing
/// - `W_i`: the set of words of query `i`, normalised as answers are
///
/// DeepDive adds it with weight 0.1 to an outcome reward.
///
/// # References
///
/// - [DeepDive](https://arxiv.org/abs/2509.10446); the paper does not say how words are normalised
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Redundancy {}

impl Settings for Redundancy {
    const KIND: &'static str = "redundancy";
}

impl Reward for Redundancy {
    fn name(&self) -> &'static str {
        "redundancy"
    }

    fn score(&self, episode: &EpisodeView<'_>) -> RewardOutput {
        let words = |query: &str| -> BTreeSet<String> {
            normalize_answer(query).split_whitespace().map(str::to_owned).collect()
        };
        let queries: Vec<BTreeSet<String>> = episode.queries().map(words).collect();
        let pairs = queries
            .iter()
            .enumerate()
            .flat_map(|(index, a)| queries[index + 1..].iter().map(move |b| jaccard(a, b)));
        let (mut sum, mut count) = (0.0, 0_usize);
        for similarity in pairs {
            sum += similarity;
            count += 1;
        }
        RewardOutput::from(0.0 - (sum / count.max(1) as f64) as f32)
    }
}

/// Intersection over union; two empty sets are the same.
fn jaccard(a: &BTreeSet<String>, b: &BTreeSet<String>) -> f64 {
    let union = a.union(b).count();
    if union == 0 { 1.0 } else { a.intersection(b).count() as f64 / union as f64 }
}

#[cfg(test)]
mod tests {
    use zs_core::Question;

    use super::*;
    use crate::reward::testing::{build, score, trajectory};

    #[track_caller]
    fn check(queries: &[&str], expected: f32) {
        let texts: Vec<String> =
            queries.iter().map(|it| format!("<search> {it} </search>")).collect();
        let mut texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        texts.push("<answer> a </answer>");
        let score = score(&Redundancy {}, &Question::new("q", "?", ["a"]), &texts);
        assert!((score - expected).abs() < 1e-6, "{queries:?}: {score}");
    }

    #[test]
    fn similar_queries_cost() {
        check(&[], 0.0);
        check(&["one"], 0.0);
        check(&["born in Rome", "The rome, born IN"], -1.0);
        check(&["x", "y"], 0.0);
        // 2 of 5 words.
        check(&["x y z w", "x y v"], -0.4);
        // Pairs: 1, 1/3, 1/3.
        check(&["x y", "y x", "x z"], -(1.0 + 1.0 / 3.0 + 1.0 / 3.0) / 3.0);
    }

    #[test]
    fn deepdive_by_hand() {
        // r = 1, mean Jaccard 0.4: 1 - 0.1 * 0.4.
        let json = r#"{"kind":"sum","terms":[
            {"weight":1.0,"reward":{"kind":"exact_match"}},
            {"weight":0.1,"reward":{"kind":"redundancy"}}]}"#;
        let reward = build(json);
        let texts = ["<search>x y z w</search>", "<search>x y v</search>", "<answer>a</answer>"];
        let score = reward.score(&Question::new("q", "?", ["a"]), &trajectory(&texts));
        assert!((score.total - 0.96).abs() < 1e-6, "{score:?}");
    }
}
