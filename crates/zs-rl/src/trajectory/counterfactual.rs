//! Counterfactuals: the end of an episode with the documents of one search replaced.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use zs_core::{DocumentQuality, YesNoRule, f1};

use super::Trajectory;

/// Replacement of the documents of a search.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReplacedDocuments {
    /// No documents; nothing is asked.
    #[default]
    None,
    /// Those that the engine returns for the same query and seed if useful ones are requested.
    Useful,
    /// Those that it returns if noisy ones are requested.
    Noisy,
}

impl ReplacedDocuments {
    const ALL: [Self; 3] = [Self::None, Self::Useful, Self::Noisy];

    /// The quality that is requested; none where nothing is asked.
    #[must_use]
    pub fn quality(self) -> Option<DocumentQuality> {
        match self {
            Self::None => None,
            Self::Useful => Some(DocumentQuality::Useful),
            Self::Noisy => Some(DocumentQuality::Noisy),
        }
    }

    /// The word used in files and arguments.
    #[must_use]
    pub fn word(self) -> &'static str {
        self.quality().map_or("none", DocumentQuality::word)
    }
}

impl fmt::Display for ReplacedDocuments {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

impl FromStr for ReplacedDocuments {
    type Err = String;

    fn from_str(word: &str) -> Result<Self, String> {
        Self::ALL
            .into_iter()
            .find(|it| it.word() == word)
            .ok_or_else(|| format!("unknown documents `{word}`; use one of none, useful, noisy"))
    }
}

/// End of an episode in which the documents of one search are replaced, under the same draws of policy
/// and environment: what would have happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Counterfactual {
    /// The turn of the search, from 0.
    pub turn: usize,
    /// Replacement.
    pub documents: ReplacedDocuments,
    /// Its final answer, if it ended with one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answer: Option<String>,
    /// Tokens that the policy sampled after the search.
    pub tokens_sampled: usize,
}

/// Causal effect of a search on the score of its episode's answer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SearchValue {
    /// The turn of the search, from 0.
    pub turn: usize,
    /// Documents that it is compared with.
    pub documents: ReplacedDocuments,
    /// Value.
    pub value: f32,
}

/// Value of each search with counterfactuals: the score of the answer less that of the counterfactual.
///
/// ```text
/// v_k(d) = f1(answer) - f1(answer | do(documents of search k = d))
/// ```
///
/// Both are scored by word overlap with the golden answers, 0 without an answer. Policy and environment
/// draw the same random numbers on both sides, so the difference is the effect of the documents in this
/// one episode; its mean over episodes is the effect on the expected score.
#[must_use]
pub fn search_values(
    answer: Option<&str>,
    counterfactuals: &[Counterfactual],
    golden_answers: &[String],
) -> Vec<SearchValue> {
    let score =
        |it: Option<&str>| it.map_or(0.0, |it| f1(it, golden_answers, YesNoRule::Ignore) as f32);
    let value = |it: &Counterfactual| SearchValue {
        turn: it.turn,
        documents: it.documents,
        value: score(answer) - score(it.answer.as_deref()),
    };
    counterfactuals.iter().map(value).collect()
}

/// Searches with counterfactuals, and those that mattered: with one of the replacements, the score of
/// the answer is another.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SearchesThatMattered {
    /// Searches with counterfactuals.
    pub num_valued: usize,
    /// Searches that mattered.
    pub num_mattered: usize,
}

impl SearchesThatMattered {
    /// Counts those of an episode.
    #[must_use]
    pub fn of(trajectory: &Trajectory, golden_answers: &[String]) -> Self {
        if trajectory.counterfactuals.is_empty() {
            return Self::default();
        }
        let transcript = trajectory.transcript();
        let values =
            search_values(transcript.answer(), &trajectory.counterfactuals, golden_answers);
        let mut count = Self::default();
        for of_search in values.chunk_by(|a, b| a.turn == b.turn) {
            count.num_valued += 1;
            count.num_mattered += usize::from(of_search.iter().any(|it| it.value != 0.0));
        }
        count
    }
}
