//! Manifest of a set of episodes.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use zs_data::digest;
use zs_rl::Demonstration;
use zs_simulator::collect::{Dropped, Input};

use super::TrajectorySettings;

/// `manifest.json` of a set of episodes; written last, so a set without one is not finished.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrajectoryManifest {
    /// Version of `zs` that built it.
    pub version: String,
    /// Settings that determine the contents.
    pub settings: TrajectorySettings,
    /// Files that were read, with their digests.
    pub inputs: Vec<Input>,
    /// Episodes or questions that were read.
    pub num_read: usize,
    /// Numbers of those that were dropped, by reason; `dropped.jsonl` names each.
    pub dropped: Dropped,
    /// Files whose questions no episode may be of.
    pub excluded: Vec<ExcludedFile>,
    /// `train.jsonl` and `validation.jsonl`.
    pub parts: BTreeMap<String, EpisodePart>,
}

/// File whose questions no episode may be of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExcludedFile {
    /// Path.
    pub path: PathBuf,
    /// Its questions, distinct after normalisation.
    pub questions: usize,
    /// Episodes that were dropped for one of them.
    pub dropped: usize,
}

/// One file of a set.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EpisodePart {
    /// Episodes.
    pub episodes: usize,
    /// Their questions.
    pub questions: usize,
    /// Episodes by number of searches.
    pub by_searches: BTreeMap<usize, usize>,
    /// SHA-256 of the file.
    pub sha256: String,
}

impl EpisodePart {
    pub(super) fn of(episodes: &[Demonstration], bytes: &[u8]) -> Self {
        let questions: BTreeSet<&str> =
            episodes.iter().map(|it| it.question.text.as_str()).collect();
        let mut by_searches = BTreeMap::new();
        for episode in episodes {
            *by_searches.entry(episode.turns.len().saturating_sub(1)).or_default() += 1;
        }
        Self {
            episodes: episodes.len(),
            questions: questions.len(),
            by_searches,
            sha256: digest::of_bytes(bytes),
        }
    }
}
