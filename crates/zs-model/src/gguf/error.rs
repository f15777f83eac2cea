//! Errors of importing a GGUF file.

use std::path::{Path, PathBuf};

use crate::{ConfigError, SaveError, TokenizerError};

/// Error while importing a GGUF file. Every message is one line.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GgufError {
    /// The file cannot be opened.
    #[error("{path}: cannot be read", path = path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The operating system's error.
        #[source]
        source: std::io::Error,
    },
    /// The container is damaged, or of another kind.
    #[error("{path}: not a readable GGUF file: {problem}; {remedy}", path = path.display())]
    Container {
        /// The file.
        path: PathBuf,
        /// Description of the defect.
        problem: String,
        /// Remedy.
        remedy: &'static str,
    },
    /// A field of the metadata is missing or not supported.
    #[error("{path}: {key} {problem}; {remedy}", path = path.display())]
    Metadata {
        /// The file.
        path: PathBuf,
        /// The field.
        key: String,
        /// Description of the defect.
        problem: String,
        /// Remedy.
        remedy: &'static str,
    },
    /// A tensor is missing, damaged or not supported.
    #[error("{path}: tensor {tensor} {problem}; {remedy}", path = path.display())]
    Tensor {
        /// The file.
        path: PathBuf,
        /// Name of the tensor in the file.
        tensor: String,
        /// Description of the defect.
        problem: String,
        /// Remedy.
        remedy: &'static str,
    },
    /// The metadata describes a model that cannot be loaded.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The tokenizer of the metadata cannot be built.
    #[error(transparent)]
    Tokenizer(#[from] TokenizerError),
    /// The directory exists already.
    #[error("{dir}: exists already; remove it or choose another directory", dir = dir.display())]
    Exists {
        /// The directory.
        dir: PathBuf,
    },
    /// The directory cannot be written.
    #[error(transparent)]
    Save(#[from] SaveError),
}

impl GgufError {
    pub(super) fn container(path: &Path, problem: impl Into<String>, remedy: &'static str) -> Self {
        Self::Container { path: path.to_owned(), problem: one_line(problem), remedy }
    }

    pub(super) fn metadata(
        path: &Path,
        key: impl Into<String>,
        problem: impl Into<String>,
        remedy: &'static str,
    ) -> Self {
        let (key, problem) = (one_line(key), one_line(problem));
        Self::Metadata { path: path.to_owned(), key, problem, remedy }
    }

    pub(super) fn tensor(
        path: &Path,
        tensor: impl Into<String>,
        problem: impl Into<String>,
        remedy: &'static str,
    ) -> Self {
        let (tensor, problem) = (one_line(tensor), one_line(problem));
        Self::Tensor { path: path.to_owned(), tensor, problem, remedy }
    }
}

/// Text of an untrusted file for a message: without control characters, and not too long.
pub(super) fn one_line(text: impl Into<String>) -> String {
    let text: String = text.into();
    text.chars().take(200).map(|it| if it.is_control() { '\u{FFFD}' } else { it }).collect()
}
