//! Episodes to imitate: read from files of any form, encoded as a rollout shows them, and built from
//! recorded searches, from questions and an engine, or by selection among episodes that were played.

mod build;
mod rows;
mod source;

pub use self::build::{
    BuildError, DropReason, EpisodePart, ExcludedFile, TrajectoryManifest, TrajectorySettings,
    TrajectorySource, build_trajectories,
};
pub use self::rows::EpisodeTokens;
pub use self::source::{SourceEpisode, open_source_episodes};
