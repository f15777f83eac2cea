//! Information-scent reward of InForage: the fraction of the gold evidence that each search
//! uncovers.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use zs_core::Document;
use zs_core::registry::Settings;

use super::{EpisodeView, RetrievalReward, RewardOutput};

/// Fraction of the gold documents that each search is the first to find, at its turn.
///
/// ```text
/// C_t = |G ∩ D_1 ∪ … ∪ D_t| / |G|
/// r_t = C_t - C_{t-1},  C_0 = 0
/// ```
///
/// - `G`: titles of the question's gold documents; `D_t`: titles that search `t` returned
///
/// The total is the final coverage. A question without gold titles has reward 0 and is counted in
/// `reward/coverage_gain_unlabelled`. InForage multiplies the sum of outcome and coverage by
/// `beta^max(0, T - 2)`: set `turn_decay` on both terms.
///
/// # Differences
///
/// The paper lets a model judge which information is covered; here a document is covered when its
/// title is found, so engines without titles (simulated ones) have reward 0.
///
/// # References
///
/// - [InForage](https://arxiv.org/abs/2505.09316), section 3.2
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CoverageGain {}

impl Settings for CoverageGain {
    const KIND: &'static str = "coverage_gain";
}

impl RetrievalReward for CoverageGain {
    fn name(&self) -> &'static str {
        "coverage_gain"
    }

    fn score(&self, episode: &EpisodeView<'_>, documents: &[&[Document]]) -> RewardOutput {
        let mut missing: BTreeSet<&str> =
            episode.question.gold_titles.iter().map(String::as_str).collect();
        let num_gold = missing.len();
        let mut gain = |documents: &&[Document]| {
            let found = documents.iter().filter(|it| missing.remove(it.title.as_str())).count();
            found as f32 / num_gold.max(1) as f32
        };
        let turns = documents.iter().map(&mut gain).collect();
        let unlabelled = f32::from(u8::from(num_gold == 0));
        RewardOutput {
            details: vec![("coverage_gain_unlabelled", unlabelled)],
            ..RewardOutput::by_turn(turns)
        }
    }
}

#[cfg(test)]
mod tests {
    use zs_core::Question;

    use super::*;
    use crate::Trajectory;

    #[track_caller]
    fn check(gold: &[&str], searches: &[&[&str]], expected: &[f32]) {
        let mut question = Question::new("q", "?", ["a"]);
        question.gold_titles = gold.iter().map(|&it| it.to_owned()).collect();
        let documents = |titles: &&[&str]| -> Vec<Document> {
            titles.iter().map(|it| Document::new(*it, "")).collect()
        };
        let searches: Vec<Vec<Document>> = searches.iter().map(documents).collect();
        let by_turn: Vec<&[Document]> = searches.iter().map(Vec::as_slice).collect();
        let trajectory = Trajectory::new("q", vec![0]);
        let earned = CoverageGain {}.score(&EpisodeView::new(&question, &trajectory), &by_turn);
        assert_eq!(earned.turns, expected);
        assert_eq!(earned.details[0].1, f32::from(u8::from(gold.is_empty())));
    }

    #[test]
    fn each_gold_document_counts_once() {
        check(&["a", "b"], &[&["a", "x"], &["a"], &[], &["b", "a"]], &[0.5, 0.0, 0.0, 0.5]);
        check(&["a", "b", "b"], &[&["a", "a", "b"]], &[1.0]);
        check(&["a"], &[&["A"]], &[0.0]);
        check(&[], &[&["a"]], &[0.0]);
    }
}
