//! Errors of run files.

use std::path::PathBuf;

use zs_core::registry::RegistryError;
use zs_rl::{RolloutError, UpdateError};

/// Failure to read a run file, or a setting in it that cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RunFileError {
    /// A file that is missing or unreadable.
    #[error("{path}: cannot read the run file")]
    Read {
        /// Run file.
        path: PathBuf,
        /// Error of the system.
        source: std::io::Error,
    },
    /// A file that is not UTF-8.
    #[error("{path}: the run file is not UTF-8 text")]
    NotUtf8 {
        /// Run file.
        path: PathBuf,
    },
    /// Text that is not TOML, an unknown key, or a value of another type.
    #[error("{place}: {message}")]
    Toml {
        /// File, with the line where there is one.
        place: String,
        /// Message of the parser.
        message: String,
    },
    /// A value out of range.
    #[error("`{key}` must be {must}, is {value}")]
    OutOfRange {
        /// Key with its tables.
        key: String,
        /// Accepted values.
        must: String,
        /// Value.
        value: String,
    },
    /// Settings that need each other or do not go together, or an assignment that cannot be made.
    #[error("{problem}")]
    Invalid {
        /// Keys at fault, and the remedy.
        problem: String,
    },
    /// A component that is not registered, or does not accept its settings.
    #[error("{table}: {error}{cause}")]
    Component {
        /// Table that it stands in.
        table: String,
        /// Error; part of the message, so not its source.
        error: Box<RegistryError>,
        /// Cause of the error, as text.
        cause: String,
    },
    /// Settings of the rollout out of range.
    #[error("training.rollout")]
    Rollout(#[from] RolloutError),
    /// Settings of the update out of range.
    #[error("training.update")]
    Update(#[from] UpdateError),
    /// An error with its place.
    #[error("{place}")]
    At {
        /// File, with the line where it is known.
        place: String,
        /// Error.
        source: Box<Self>,
    },
}

impl RunFileError {
    /// Notes the table of a component in its error, so that the line is looked up.
    #[must_use]
    pub fn in_table(error: RegistryError, table: &str) -> Self {
        let cause = std::error::Error::source(&error);
        let cause = cause.map_or_else(String::new, |it| format!(": {it}"));
        Self::Component { table: table.to_owned(), error: Box::new(error), cause }
    }

    /// Creates the error of settings that have no variant of their own; `problem` names key and
    /// remedy.
    #[must_use]
    pub fn invalid(problem: impl Into<String>) -> Self {
        Self::Invalid { problem: problem.into() }
    }

    /// Adds the place of the error.
    #[must_use]
    pub fn at(self, place: impl Into<String>) -> Self {
        Self::At { place: place.into(), source: Box::new(self) }
    }

    /// Error itself, without the places around it.
    #[must_use]
    pub fn cause(&self) -> &Self {
        match self {
            Self::At { source, .. } => source.cause(),
            error => error,
        }
    }
}
