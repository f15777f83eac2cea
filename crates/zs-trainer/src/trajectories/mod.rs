//! Episodes to imitate: read from files of any form, encoded as a rollout shows them, and built from
//! recorded searches, from questions and an engine, or by selection among episodes that were played.

mod build;
mod rows;
mod source;

use zs_core::Document;
use zs_simulator::tuning::contains_answer;

pub use self::build::{
    BuildError, DropReason, EpisodePart, ExcludedFile, TrajectoryManifest, TrajectorySettings,
    TrajectorySource, build_trajectories,
};
pub use self::rows::EpisodeTokens;
pub use self::source::{SourceEpisode, open_source_episodes};

/// True if the text or the title of a document holds one of the answers, as whole words.
fn holds_answer(document: &Document, answers: &[String]) -> bool {
    contains_answer(&document.text, answers) || contains_answer(&document.title, answers)
}
