//! Which steps of different trajectories were taken in the same state.

use std::collections::HashMap;

use garde::Validate;
use serde::{Deserialize, Serialize};
use zs_core::normalize_answer;
use zs_core::registry::check;

use super::similarity::Matcher;
use crate::{Trajectory, TrajectoryGroup};

/// Rule by which two states are the same.
///
/// The state of a first turn is the question, that of a later turn what the turn before it observed.
/// A sampled simulator hardly ever writes the same documents twice; there `query_sequence` finds
/// groups where the others do not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, Validate)]
#[serde(rename_all = "snake_case")]
pub enum AnchorKey {
    /// The last observation, to the letter.
    #[default]
    Observation,
    /// The last observation, as far as it is alike: [`cluster_similar`].
    Similar {
        /// The least [`sequence_ratio`](super::sequence_ratio) to the first member of a group.
        #[garde(custom(check::fraction))]
        threshold: f64,
    },
    /// The searches so far, normalised as answers are.
    QuerySequence,
}

impl AnchorKey {
    /// The state of each turn as a label; equal labels are equal states, inside one group.
    ///
    /// # Shapes
    ///
    /// - output: `[trajectories][turns]`
    #[must_use]
    pub fn labels(self, group: &TrajectoryGroup) -> Vec<Vec<usize>> {
        let trajectories: Vec<&Trajectory> =
            group.trajectories.iter().map(|it| &it.trajectory).collect();
        let anchors: Vec<String> = match self {
            Self::Observation | Self::Similar { .. } => {
                trajectories.iter().flat_map(|it| observations(&group.question.text, it)).collect()
            }
            Self::QuerySequence => trajectories.iter().flat_map(|it| query_sequences(it)).collect(),
        };
        let anchors: Vec<&str> = anchors.iter().map(String::as_str).collect();
        let mut labels = match self {
            Self::Similar { threshold } => cluster_similar(&anchors, threshold),
            Self::Observation | Self::QuerySequence => cluster_exact(&anchors),
        }
        .into_iter();
        trajectories.iter().map(|it| labels.by_ref().take(it.turns.len()).collect()).collect()
    }
}

/// Observation before each turn: the question, then the observation of the turn before.
fn observations(question: &str, trajectory: &Trajectory) -> Vec<String> {
    let observed = trajectory.turns.iter().map(|it| it.observation_text.clone());
    std::iter::once(question.to_owned()).chain(observed).take(trajectory.turns.len()).collect()
}

/// The searches before each turn, one a line.
fn query_sequences(trajectory: &Trajectory) -> Vec<String> {
    let mut so_far = String::new();
    let mut before = Vec::with_capacity(trajectory.turns.len());
    for turn in &trajectory.turns {
        before.push(so_far.clone());
        if let Some(search) = &turn.search {
            so_far.push_str(&normalize_answer(&search.query));
            so_far.push('\n');
        }
    }
    before
}

/// Labels of anchors that are equal to the letter, in order of first appearance.
///
/// ```
/// assert_eq!(zs_rl::advantage::cluster_exact(&["a", "b", "a"]), [0, 1, 0]);
/// ```
#[must_use]
pub fn cluster_exact(anchors: &[&str]) -> Vec<usize> {
    let mut labels = HashMap::new();
    anchors
        .iter()
        .map(|&anchor| {
            let next = labels.len();
            *labels.entry(anchor).or_insert(next)
        })
        .collect()
}

/// Labels of anchors that are alike: each joins the first cluster whose *first* member it is alike
/// enough to, or opens one.
///
/// Being alike is not transitive, so the order matters.
///
/// # References
///
/// - GiGPO's code (langfengQ/verl-agent), similarity 0.9 for search
///
/// ```
/// use zs_rl::advantage::cluster_similar;
///
/// let [a, b, c] = ["abcdefghij", "abcdefghiX", "abcdefghXY"];
/// assert_eq!(cluster_similar(&[a, b, c], 0.9), [0, 0, 1]);
/// assert_eq!(cluster_similar(&[b, a, c], 0.9), [0, 0, 0]);
/// ```
#[must_use]
pub fn cluster_similar(anchors: &[&str], threshold: f64) -> Vec<usize> {
    let mut representatives: Vec<Matcher> = Vec::new();
    // The same text again costs no comparison.
    let mut known: HashMap<&str, usize> = HashMap::new();
    let mut label = |anchor: &str| {
        let characters: Vec<char> = anchor.chars().collect();
        let found = representatives.iter().position(|it| it.reaches(&characters, threshold));
        found.unwrap_or_else(|| {
            representatives.push(Matcher::new(anchor));
            representatives.len() - 1
        })
    };
    anchors.iter().map(|&anchor| *known.entry(anchor).or_insert_with(|| label(anchor))).collect()
}

#[cfg(test)]
#[cfg(feature = "flex")]
mod tests {
    use zs_core::DocumentQuality;

    use super::*;
    use crate::SearchRecord;
    use crate::testing::episodes::group;

    #[test]
    fn states_are_what_was_observed_or_asked() {
        let mut group = group(&[(&[1, 1, 1], 0.0), (&[1, 1], 0.0), (&[1], 0.0)]);
        let mut turn = |trajectory: usize, turn: usize, query: &str, observation: &str| {
            let turn = &mut group.trajectories[trajectory].trajectory.turns[turn];
            turn.observation_text = observation.to_owned();
            turn.search = Some(SearchRecord {
                query: query.to_owned(),
                quality: DocumentQuality::Useful,
                documents: Vec::new(),
                error: None,
            });
        };
        turn(0, 0, "The Capital", "Paris is the capital.");
        turn(0, 1, "river", "Seine");
        turn(1, 0, "capital", "Paris is the capitol.");
        let labels = |key: AnchorKey| key.labels(&group);
        assert_eq!(labels(AnchorKey::Observation), [vec![0, 1, 2], vec![0, 3], vec![0]]);
        let similar = AnchorKey::Similar { threshold: 0.9 };
        assert_eq!(labels(similar), [vec![0, 1, 2], vec![0, 1], vec![0]]);
        assert_eq!(labels(AnchorKey::QuerySequence), [vec![0, 1, 2], vec![0, 1], vec![0]]);
    }

    #[test]
    fn configs_read_as_documented() {
        for (json, expected) in [
            (r#""observation""#, AnchorKey::Observation),
            (r#"{"similar":{"threshold":0.9}}"#, AnchorKey::Similar { threshold: 0.9 }),
            (r#""query_sequence""#, AnchorKey::QuerySequence),
        ] {
            assert_eq!(serde_json::from_str::<AnchorKey>(json).unwrap(), expected);
        }
    }
}
