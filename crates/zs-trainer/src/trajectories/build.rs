//! Sets of episodes to imitate, with a manifest of what was dropped.

mod manifest;
mod oracle;
mod played;
mod reason;
mod set;
mod text;
mod turns;

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use zs_core::{Question, SearchEngine};
use zs_data::{DataError, FileError};

use crate::RunDirError;
use crate::files::RunDir;

pub use self::manifest::{EpisodePart, ExcludedFile, TrajectoryManifest};
pub use self::reason::DropReason;

use self::oracle::Oracle;
use self::set::EpisodeSet;

/// Settings of a set of episodes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrajectorySettings {
    /// Directory of the set.
    pub out: PathBuf,
    /// Files of questions that no episode may be of, by normalised text.
    pub exclude: Vec<PathBuf>,
    /// Documents of a search.
    pub num_documents: usize,
    /// Words of a document that are kept; all where there is none. The engine of the rollouts to come
    /// must return documents as short.
    pub document_words: Option<usize>,
    /// Least searches of an episode that was played.
    pub min_searches: usize,
    /// Most searches of an episode.
    pub max_searches: usize,
    /// Most words of an answer that is copied out of documents.
    pub max_answer_words: usize,
    /// Most words of a recorded query.
    pub max_query_words: usize,
    /// Least F1 of an episode that was played.
    pub min_f1: f64,
    /// Most episodes of a question; they differ in their queries.
    pub per_question: usize,
    /// Fraction of questions for validation.
    pub validation_share: f64,
    /// Seed of the split and of searches.
    pub seed: u64,
}

/// Source of episodes.
#[derive(Debug)]
pub enum TrajectorySource<'a> {
    /// Files of recorded searches, as [`open_episodes`](zs_data::open_episodes) reads them: the searches
    /// up to the first that finds a golden answer.
    Turns(&'a [PathBuf]),
    /// Questions and an engine: queries by one who knows answers and supporting titles.
    Questions {
        /// Questions.
        questions: &'a [Question],
        /// Engine.
        engine: &'a dyn SearchEngine,
        /// Files of questions and documents, for the manifest.
        inputs: Vec<PathBuf>,
    },
    /// Files of whole episodes, of which the good ones are kept (rejection sampling).
    Played {
        /// Files, in any form of [`open_source_episodes`](super::open_source_episodes).
        files: &'a [PathBuf],
        /// Questions that the records of `zs eval` name by id.
        questions: &'a [Question],
    },
}

/// Errors of building a set of episodes.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    /// A file of rows cannot be read.
    #[error(transparent)]
    Data(#[from] DataError),
    /// A file cannot be read or written.
    #[error(transparent)]
    File(#[from] FileError),
    /// The directory cannot be used.
    #[error(transparent)]
    Dir(#[from] RunDirError),
    /// An episode has no JSON form.
    #[error("an episode cannot be written as JSON")]
    Json(#[from] serde_json::Error),
    /// No episode is left.
    #[error("no episode is left to train on; dropped: {dropped}")]
    Nothing {
        /// Numbers of dropped episodes, by reason.
        dropped: String,
    },
}

/// Builds a set of episodes: `train.jsonl`, `validation.jsonl`, `dropped.jsonl` and `manifest.json` in
/// `out`.
///
/// Every episode ends with an answer; of those that are not played, it occurs in the documents, but
/// for verdicts (yes, no) on supporting documents that were all found. Episodes of a question stay on
/// one side of the split. `progress` is called with the number of questions done.
///
/// # Errors
///
/// Fails where `out` holds anything, on a file that cannot be read to its end, and when nothing is
/// left. Rows that cannot be used are counted and named in `dropped.jsonl`.
pub fn build_trajectories(
    source: &TrajectorySource<'_>,
    settings: &TrajectorySettings,
    progress: &mut dyn FnMut(usize),
) -> Result<TrajectoryManifest, BuildError> {
    RunDir::check_free(&settings.out)?;
    let mut set = EpisodeSet::new(settings)?;
    let inputs = match source {
        TrajectorySource::Turns(files) => {
            files.iter().try_for_each(|it| turns::read(it, settings, &mut set))?;
            files.to_vec()
        }
        TrajectorySource::Questions { questions, engine, inputs } => {
            let oracle = Oracle { engine: *engine, settings };
            for question in *questions {
                set.add(question, || oracle.episode(question));
                progress(1);
            }
            inputs.clone()
        }
        TrajectorySource::Played { files, questions } => {
            let by_id: BTreeMap<&str, &Question> =
                questions.iter().map(|it| (it.id.as_str(), it)).collect();
            files.iter().try_for_each(|it| played::read(it, &by_id, settings, &mut set))?;
            files.to_vec()
        }
    };
    set.write(inputs)
}

#[cfg(test)]
mod tests;
