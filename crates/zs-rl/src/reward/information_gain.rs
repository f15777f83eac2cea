//! Step reward of StepSearch: information gain of a search minus its redundancy.

use std::collections::{BTreeMap, BTreeSet};

use zs_core::Document;

use super::tf_idf::{TfIdf, WordVector};
use super::{EpisodeView, RetrievalReward, RewardOutput};

/// Information gain minus redundancy of each search, at its turn.
///
/// The formula is [`information_gain`], with TF-IDF cosine similarity between the question's gold
/// documents and those that a search returned. A question whose gold documents are not known has
/// reward 0 at every turn and is counted in `reward/information_gain_unlabelled`.
///
/// # Differences
///
/// The paper adds a reward for search keys and runs under PPO; here it is one term of a sum. Word
/// weights are fitted to the corpus of the reward; the paper does not name its corpus.
///
/// # References
///
/// - [StepSearch](https://arxiv.org/abs/2505.15107), section 3.3
#[derive(Clone, Debug)]
pub struct InformationGain {
    tf_idf: TfIdf,
    by_title: BTreeMap<String, WordVector>,
}

impl InformationGain {
    /// The reward over a corpus in which the gold documents are found by their titles. Passages that
    /// share a title are one document.
    #[must_use]
    pub fn new(corpus: &[Document]) -> Self {
        let tf_idf = TfIdf::fit(corpus.iter().map(|it| it.text.as_str()));
        let mut texts: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for document in corpus {
            texts.entry(&document.title).or_default().push(&document.text);
        }
        let vector = |(title, texts): (&str, Vec<&str>)| {
            (title.to_owned(), tf_idf.vector(&texts.join("\n")))
        };
        let by_title = texts.into_iter().map(vector).collect();
        Self { tf_idf, by_title }
    }
}

impl RetrievalReward for InformationGain {
    fn name(&self) -> &'static str {
        "information_gain"
    }

    fn score(&self, episode: &EpisodeView<'_>, documents: &[&[Document]]) -> RewardOutput {
        let titles = &episode.question.gold_titles;
        let gold: Vec<&WordVector> = titles.iter().filter_map(|it| self.by_title.get(it)).collect();
        let is_unlabelled = gold.is_empty() || gold.len() < titles.len();
        let mut seen = BTreeSet::new();
        let mut steps = Vec::with_capacity(documents.len());
        for documents in documents {
            let read: Vec<WordVector> =
                documents.iter().map(|it| self.tf_idf.vector(&it.text)).collect();
            let best = |it: &&WordVector| {
                read.iter().map(|document| it.cosine(document)).fold(0.0, f64::max)
            };
            let num_seen = documents.iter().filter(|it| seen.contains(&key(it))).count();
            steps.push(SearchStep {
                similarities: if is_unlabelled {
                    Vec::new()
                } else {
                    gold.iter().map(best).collect()
                },
                num_seen: if is_unlabelled { 0 } else { num_seen },
                num_documents: documents.len(),
            });
            seen.extend(documents.iter().map(key));
        }
        let rewards = information_gain(&steps);
        let total = |pick: fn(&(f64, f64)) -> f64| rewards.iter().map(pick).sum::<f64>() as f32;
        RewardOutput {
            details: vec![
                ("information_gain_gain", total(|it| it.0)),
                ("information_gain_redundancy", total(|it| it.1)),
                ("information_gain_unlabelled", f32::from(u8::from(is_unlabelled))),
            ],
            ..RewardOutput::by_turn(
                rewards.iter().map(|(gain, seen)| (gain - seen) as f32).collect(),
            )
        }
    }
}

/// Identity of a document: its identifier, or title and text where there is none.
fn key(document: &Document) -> (String, String, String) {
    match document.id.is_empty() {
        true => (String::new(), document.title.clone(), document.text.clone()),
        false => (document.id.clone(), String::new(), String::new()),
    }
}

/// One turn of an episode, as [`information_gain`] sees it.
#[derive(Clone, Debug, PartialEq)]
pub struct SearchStep {
    /// For each gold document, its greatest similarity to a document of this search.
    pub similarities: Vec<f64>,
    /// Documents of this search that an earlier one had returned.
    pub num_seen: usize,
    /// Documents of this search; 0 for a turn that did not search.
    pub num_documents: usize,
}

/// Gain and redundancy of each search of an episode; the step reward is their difference.
///
/// ```text
/// G_t = 1/n * sum_i max(c_it - m_it, 0)
/// P_t = documents of search t that were seen before / documents of search t
/// m_it = max_{s < t} c_is, 0 at first
/// ```
///
/// - `n`: gold documents; `c_it`: similarity of gold document `i` to the nearest one of search `t`
/// - `m_it`: how much of it was known already
///
/// # Shapes
///
/// - steps, output: `[turns]`; pairs of gain and redundancy
///
/// # References
///
/// - [StepSearch](https://arxiv.org/abs/2505.15107), section 3.3
///
/// ```
/// use zs_rl::{SearchStep, information_gain};
///
/// let step = |similarities: [f64; 2], num_seen| SearchStep {
///     similarities: similarities.to_vec(),
///     num_seen,
///     num_documents: 3,
/// };
/// let rewards = information_gain(&[step([0.6, 0.2], 0), step([0.5, 0.7], 1)]);
/// assert!((rewards[0].0 - 0.4).abs() < 1e-9 && (rewards[1].0 - 0.25).abs() < 1e-9);
/// assert!((rewards[1].0 - rewards[1].1 + 0.083_333_333).abs() < 1e-9);
/// ```
#[must_use]
pub fn information_gain(steps: &[SearchStep]) -> Vec<(f64, f64)> {
    let mut known: Vec<f64> = Vec::new();
    let step = |step: &SearchStep| {
        known.resize(step.similarities.len().max(known.len()), 0.0);
        let mut gain = 0.0;
        for (known, &similarity) in known.iter_mut().zip(&step.similarities) {
            gain += (similarity - *known).max(0.0);
            *known = known.max(similarity);
        }
        let mean = gain / step.similarities.len().max(1) as f64;
        (mean, step.num_seen as f64 / step.num_documents.max(1) as f64)
    };
    steps.iter().map(step).collect()
}

#[cfg(test)]
mod tests {
    use zs_core::Question;

    use super::*;
    use crate::reward::testing::trajectory;

    fn documents(texts: &[&str]) -> Vec<Document> {
        texts.iter().map(|it| Document::new(it.split(' ').next().unwrap(), *it)).collect()
    }

    #[track_caller]
    fn check(gold: &[&str], searches: &[&[&str]], expected: &[f32], unlabelled: f32) {
        let corpus = documents(&["one x", "two y", "three z"]);
        let reward = InformationGain::new(&corpus);
        let mut question = Question::new("q", "?", ["a"]);
        question.gold_titles = gold.iter().map(|&it| it.to_owned()).collect();
        let searches: Vec<Vec<Document>> = searches.iter().map(|it| documents(it)).collect();
        let by_turn: Vec<&[Document]> = searches.iter().map(Vec::as_slice).collect();
        let trajectory = trajectory(&vec!["<search> q </search>"; searches.len()]);
        let earned = reward.score(&EpisodeView::new(&question, &trajectory), &by_turn);
        assert_eq!(earned.turns.len(), expected.len());
        for (a, e) in earned.turns.iter().zip(expected) {
            assert!((a - e).abs() < 1e-6, "{:?} is not {expected:?}", earned.turns);
        }
        assert_eq!(earned.details[2], ("information_gain_unlabelled", unlabelled));
        let [gain, seen, _] = [earned.details[0].1, earned.details[1].1, 0.0];
        assert!((gain - seen - earned.total).abs() < 1e-6);
    }

    #[test]
    fn gains_are_paid_where_they_are_found() {
        let gold = &["one", "two"];
        // Each gold document is half of what is to be known; "w" is like neither.
        check(gold, &[&["one x"], &["two y"], &[]], &[0.5, 0.5, 0.0], 0.0);
        check(gold, &[&["one x", "w"], &["one x"]], &[0.5, -1.0], 0.0);
        check(gold, &[&["one x", "two y"], &["w", "v", "one x"]], &[1.0, -1.0 / 3.0], 0.0);
        check(gold, &[&["w"], &[]], &[0.0, 0.0], 0.0);
    }

    #[test]
    fn passages_of_one_title_are_one_document() {
        let passage = |text| Document::new("one", text);
        let both = [passage("x"), passage("y")];
        let reward = InformationGain::new(&both);
        let mut question = Question::new("q", "?", ["a"]);
        question.gold_titles = vec!["one".to_owned()];
        let trajectory = trajectory(&["<search> q </search>", "<search> q </search>"]);
        let view = EpisodeView::new(&question, &trajectory);
        let earned = reward.score(&view, &[&both[..1], &both]);
        // Half of it is 1 / sqrt(2) alike; the other half is no more so, and one of two is old.
        let h = std::f32::consts::FRAC_1_SQRT_2;
        assert!((earned.turns[0] - h).abs() < 1e-6 && (earned.turns[1] + 0.5).abs() < 1e-6);
    }

    #[test]
    fn questions_without_known_gold_earn_nothing_and_are_counted() {
        check(&[], &[&["one x"], &["one x"]], &[0.0, 0.0], 1.0);
        check(&["one", "four"], &[&["one x"], &["one x"]], &[0.0, 0.0], 1.0);
    }
}
