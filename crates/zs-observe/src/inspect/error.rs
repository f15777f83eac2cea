//! Errors of inspection.

use std::path::PathBuf;

use zs_core::registry::BoxedError;
use zs_data::{DataError, FileError};
use zs_model::TokenizerError;
use zs_trainer::RunDirError;

/// Failure to show a run as a page.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InspectError {
    /// A directory without metrics.
    #[error("{run}: not a run directory of `zs train`")]
    NotARun {
        /// Directory.
        run: PathBuf,
    },
    /// A run without recorded episodes.
    #[error("{run}: no episode was recorded")]
    NoEpisodes {
        /// Directory of the run.
        run: PathBuf,
    },
    /// A model without a readable tokenizer.
    #[error("{dir}: no tokenizer")]
    Tokenizer {
        /// Model directory.
        dir: PathBuf,
        /// Error of the tokenizer.
        source: TokenizerError,
    },
    /// A record whose advantages are not one a token.
    #[error(
        "{run}: step {step}: question `{question}` has {tokens} tokens but {advantages} `advantages`"
    )]
    Advantages {
        /// Directory of the run.
        run: PathBuf,
        /// Step.
        step: usize,
        /// Id of the question.
        question: String,
        /// Tokens of the episode.
        tokens: usize,
        /// Recorded advantages.
        advantages: usize,
    },
    /// Recorded episodes that cannot be read.
    #[error(transparent)]
    Episodes(#[from] RunDirError),
    /// Metrics, times or alarms that cannot be read.
    #[error(transparent)]
    Rows(#[from] DataError),
    /// A file that cannot be read or written.
    #[error(transparent)]
    File(#[from] FileError),
    /// A page that cannot be rendered.
    #[error(transparent)]
    Page(#[from] BoxedError),
}
