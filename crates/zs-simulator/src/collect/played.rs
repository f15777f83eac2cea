//! Searches of a policy on a real engine, played batch by batch into a file that can be continued.

use std::fmt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use zs_core::{Document, Question};
use zs_data::{JsonLinesWriter, read_whole_rows};

use super::{CollectError, RawSearch, read_turns};

/// One episode: a row of `episodes.jsonl`.
#[derive(Debug, Serialize, Deserialize)]
struct PlayedEpisode {
    question: String,
    golden_answers: Vec<String>,
    turns: Vec<PlayedSearch>,
}

/// One search of an episode.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PlayedSearch {
    /// The query, as the policy wrote it.
    pub query: String,
    /// Documents that the engine returned.
    #[serde(rename = "docs")]
    pub documents: Vec<Document>,
}

/// Progress event of a collection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CollectEvent {
    /// The set exists already.
    Found,
    /// A piece of work starts.
    Begins {
        /// Description of the work.
        what: &'static str,
        /// Number of items to do.
        total: usize,
    },
    /// So many more items are done.
    Advances(usize),
    /// The work is done, with a summary of the result.
    Ends(String),
}

/// Plays some questions, of which the first has this number among all, and returns the searches of
/// each that did not fail.
pub type PlayQuestions<'a> = dyn Fn(
        usize,
        &[Question],
    ) -> Result<Vec<Vec<PlayedSearch>>, Box<dyn std::error::Error + Send + Sync>>
    + 'a;

/// Episodes that are played for the set.
///
/// The searches for a question must be a function of its number and the rest of this, so that it does
/// not show where a collection was interrupted.
pub struct EpisodeSource<'a> {
    /// Questions to play.
    pub questions: &'a [Question],
    /// Questions played together.
    pub batch_size: usize,
    /// Plays them.
    pub play: &'a PlayQuestions<'a>,
    /// Paths of policy, questions and documents, for the manifest.
    pub inputs: Vec<PathBuf>,
    /// Everything else that decides what is searched for and found, for the manifest.
    pub settings: serde_json::Map<String, serde_json::Value>,
}

impl fmt::Debug for EpisodeSource<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EpisodeSource").field("settings", &self.settings).finish_non_exhaustive()
    }
}

impl EpisodeSource<'_> {
    /// Plays every question once and appends its searches to `path`, where an earlier call stopped.
    pub(super) fn searches(
        &self,
        path: &Path,
        progress: &mut dyn FnMut(CollectEvent),
    ) -> Result<Vec<RawSearch>, CollectError> {
        let num_done = read_whole_rows::<PlayedEpisode>(path)?.len();
        let mut file = JsonLinesWriter::resume(path, num_done)?;
        progress(CollectEvent::Begins { what: "searching", total: self.questions.len() });
        progress(CollectEvent::Advances(num_done.min(self.questions.len())));
        let left = self.questions.get(num_done..).unwrap_or_default();
        for (batch, questions) in left.chunks(self.batch_size).enumerate() {
            let first = num_done + batch * self.batch_size;
            let played = (self.play)(first, questions).map_err(CollectError::Play)?;
            for (Question { text, golden_answers, .. }, turns) in questions.iter().zip(played) {
                let (question, golden_answers) = (text.clone(), golden_answers.clone());
                file.push(&PlayedEpisode { question, golden_answers, turns })?;
            }
            progress(CollectEvent::Advances(questions.len()));
        }
        progress(CollectEvent::Ends(format!("{} questions", self.questions.len())));
        Ok(read_turns(path)?)
    }
}
