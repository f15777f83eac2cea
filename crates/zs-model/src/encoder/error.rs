//! Errors of loading an encoder.

use std::path::PathBuf;

use crate::{CheckpointError, ConfigError, TokenizerError};

/// Error while loading an encoder's model directory.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EncoderError {
    /// `config.json` or another file with settings is missing, malformed or unsupported.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// `tokenizer.json` is invalid.
    #[error(transparent)]
    Tokenizer(#[from] TokenizerError),
    /// The weights are missing, damaged, or those of another model.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// A file of sentence-transformers asks for something unsupported.
    #[error("{path}: {message}", path = path.display())]
    Modules {
        /// The file.
        path: PathBuf,
        /// The problem and its remedy.
        message: String,
    },
    /// The longest text has no token of its own.
    #[error(
        "{dir}: texts of {max_tokens} tokens hold nothing but special tokens; raise max_seq_length",
        dir = dir.display()
    )]
    NoRoom {
        /// The model directory.
        dir: PathBuf,
        /// Longest text.
        max_tokens: usize,
    },
    /// A file could not be digested.
    #[error("{path}: cannot be read", path = path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The operating system's error.
        #[source]
        source: std::io::Error,
    },
}
