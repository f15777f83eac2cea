//! Manifest of a tuning set: its sources and contents.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use zs_data::digest;

use super::{Agreement, Dropped};
use crate::tuning::SearchRecord;

/// `manifest.json` of a tuning set; written last, so a set without one is not finished.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// Version of `zs` that made it.
    pub version: String,
    /// Everything that decides what is in it.
    pub settings: Settings,
    /// Searches that were read or made.
    pub num_searches: usize,
    /// Numbers of dropped searches, by reason.
    pub dropped: Dropped,
    /// Counts of the judges' labels.
    pub judged: Judged,
    /// `train.jsonl` and `validation.jsonl`.
    pub parts: BTreeMap<String, Part>,
}

/// Settings and inputs that determine the contents of a tuning set.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Settings {
    /// Seed of split and balance, and of the policy's sampling.
    pub seed: u64,
    /// Share of questions for validation.
    pub validation_share: f64,
    /// True if both qualities are equally frequent.
    pub balance: bool,
    /// Which judge labels.
    pub judge: String,
    /// Digest of the judge's server, model and template, where a model judges.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub judge_sha256: Option<String>,
    /// Files that were read, with their digests.
    pub inputs: Vec<Input>,
    /// Settings of the rollouts, where the searches come from episodes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rolled: Option<serde_json::Value>,
}

/// A file that was read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Input {
    /// Its path.
    pub path: PathBuf,
    /// Its SHA-256.
    pub sha256: String,
}

/// Counts of the judges' labels.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Judged {
    /// Documents put to the judge whose labels count.
    pub documents: usize,
    /// Of those, useful.
    pub useful: usize,
    /// Of those, noisy.
    pub noisy: usize,
    /// Of those, without a label.
    pub unlabelled: usize,
    /// Agreement of the rule and the model, where both judged; the rule is the first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agreement: Option<Agreement>,
}

/// One file of a tuning set.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    /// Searches.
    pub rows: usize,
    /// Of those, useful.
    pub useful: usize,
    /// Of those, noisy.
    pub noisy: usize,
    /// Questions that they are about.
    pub questions: usize,
    /// SHA-256 of the file.
    pub sha256: String,
}

impl Part {
    pub(super) fn of(rows: &[SearchRecord], bytes: &[u8]) -> Self {
        let useful = rows.iter().filter(|it| it.supported == Some(true)).count();
        let questions: std::collections::BTreeSet<&str> =
            rows.iter().map(|it| it.question.as_str()).collect();
        Self {
            rows: rows.len(),
            useful,
            noisy: rows.len() - useful,
            questions: questions.len(),
            sha256: digest::of_bytes(bytes),
        }
    }
}
