//! Settings and manifest of a set of questions.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::QuestionTemplates;
use crate::collect::{Dropped, Input};
use crate::resumable_set::SetManifest;

/// Settings of a set of questions.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct QuestionSettings {
    /// Maximum number of passages, drawn by the seed; all where there is none.
    pub max_passages: Option<usize>,
    /// Minimum number of words of a passage.
    pub min_passage_words: usize,
    /// Pairs asked for per passage.
    pub per_passage: usize,
    /// Maximum number of words of an answer.
    pub max_answer_words: usize,
    /// If true, pairs are dropped that a model answers wrongly when it is shown the passage.
    pub check_with_passage: bool,
    /// If true, pairs are dropped that a model answers rightly when it is not shown the passage.
    pub check_without_passage: bool,
    /// Minimum F1 of a right answer.
    pub min_f1: f64,
    /// Fraction of passages whose questions are for validation.
    pub validation_share: f64,
    /// Fraction of passages whose questions are for the test set.
    pub test_share: f64,
    /// Seed of passages, samples and splits.
    pub seed: u64,
    /// Prompts.
    pub templates: QuestionTemplates,
    /// Model that writes, and its sampling.
    pub writer: serde_json::Value,
    /// Model that answers, and its sampling.
    pub checker: serde_json::Value,
}

/// Settings and inputs that determine the contents of a set.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct QuestionSources {
    /// Settings.
    pub settings: QuestionSettings,
    /// Files that were read, with their digests.
    pub inputs: Vec<Input>,
}

/// `manifest.json` of a set of questions; written last, so a set without one is not finished.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct QuestionManifest {
    /// Version of `zs` that made it.
    pub version: String,
    /// Settings and inputs.
    pub sources: QuestionSources,
    /// Passages that questions were asked about.
    pub num_passages: usize,
    /// Pairs that were asked for.
    pub num_pairs: usize,
    /// Numbers of dropped passages and pairs, by reason; `dropped.jsonl` names each.
    pub dropped: Dropped,
    /// `train.jsonl`, `validation.jsonl` and `test.jsonl`.
    pub parts: BTreeMap<String, QuestionPart>,
}

/// One file of a set.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct QuestionPart {
    /// Questions.
    pub questions: usize,
    /// Their passages.
    pub passages: usize,
    /// SHA-256 of the file.
    pub sha256: String,
}

impl SetManifest for QuestionManifest {
    type Settings = QuestionSources;

    fn settings(&self) -> &QuestionSources {
        &self.sources
    }

    fn digests(&self) -> Vec<(&str, &str)> {
        self.parts.iter().map(|(name, it)| (name.as_str(), it.sha256.as_str())).collect()
    }
}
