//! Lines of a record, and the chain of their hashes.

use serde::{Deserialize, Serialize};
use zs_data::digest;

use crate::environment::Machine;

/// A line of a record, without its hash.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub(crate) enum Line {
    /// Build and machine that compute the steps from here on.
    Machine(Machine),
    /// A step; step 0 is the validation before the first.
    Step(StepLine),
    /// Steps whose lines are lost, or were made without a record.
    Lost {
        /// The first of them.
        first: usize,
        /// The last of them.
        last: usize,
    },
    /// End of a finished run.
    Finished {
        /// Step of the best policy.
        best_step: usize,
        /// Digest of the files of `checkpoints/best`.
        best: String,
        /// Digest of the files of `checkpoints/final`.
        r#final: String,
    },
}

/// Digests of a step: SHA-256 in hexadecimal.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct StepLine {
    pub(crate) step: usize,
    /// Of `config.toml`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) run_file: Option<String>,
    /// Of every file that the run reads, by `data` of `environment.json`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) data: Option<String>,
    /// Of the file of the episodes, where they are recorded.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) episodes: Option<String>,
    /// Of the rewards, one an episode, as little-endian f32.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) rewards: Option<String>,
    /// Of the gradients before clipping; none where no optimiser step was taken.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) gradients: Option<String>,
    /// Of the line of `metrics.jsonl`, without its line feed.
    pub(crate) metrics: String,
    /// Of the policy's weights that the step began with.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) weights_before: Option<String>,
    /// Of the policy's weights after the step.
    pub(crate) weights: String,
    /// Of the value model's weights after the step, where there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) value_weights: Option<String>,
}

impl Line {
    /// Last step that the line is about; `None` for lines about a process.
    pub(super) fn last_step(&self) -> Option<usize> {
        match self {
            Self::Step(line) => Some(line.step),
            Self::Lost { last, .. } => Some(*last),
            Self::Machine(_) | Self::Finished { .. } => None,
        }
    }

    /// Text of the line after one with the hash `previous` (empty for the first), and its own hash.
    pub(super) fn seal(&self, previous: &str) -> Result<(String, String), serde_json::Error> {
        let mut text = serde_json::to_string(self)?;
        text.pop();
        let hash = hash_of(previous, &text);
        text.push_str(&format!("{HASH}{hash}\"}}\n"));
        Ok((text, hash))
    }
}

const HASH: &str = ",\"hash\":\"";

/// Splits the text of a line into its hash and what the hash is of; `None` where there is no hash.
pub(super) fn split(text: &str) -> Option<(&str, &str)> {
    text.strip_suffix("\"}")?.rsplit_once(HASH)
}

/// Hash of a line: of the hash of the line before it, and its own text.
pub(super) fn hash_of(previous: &str, text: &str) -> String {
    digest::of_bytes([previous, text].concat().as_bytes())
}

/// The line whose hash is of `text`.
pub(super) fn parse(text: &str) -> Result<Line, serde_json::Error> {
    serde_json::from_str(&format!("{text}}}"))
}

/// Digest of a list of files: of the text that `sha256sum` prints for them.
pub(super) fn of_list<N: AsRef<str>, D: AsRef<str>>(
    files: impl IntoIterator<Item = (N, D)>,
) -> String {
    let lines = files.into_iter().map(|(name, sha256)| {
        let (name, sha256) = (name.as_ref(), sha256.as_ref());
        format!("{sha256}  {name}\n")
    });
    digest::of_bytes(lines.collect::<String>().as_bytes())
}
