//! Errors of reproduction.

use std::path::PathBuf;

use zs_core::registry::{RegistryError, SettingsError};
use zs_data::FileError;
use zs_eval::EvaluateError;
use zs_model::GenerateError;
use zs_observe::ChartError;
use zs_rl::RecordError;
use zs_simulator::TemplateError;
use zs_trainer::config::RunFileError;
use zs_trainer::{LoadError, RunDirError, TrainError};

/// Result of a part of a reproduction.
pub(crate) type Result<T, E = ReproduceError> = std::result::Result<T, E>;

/// Failure to reproduce a result.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReproduceError {
    /// Arguments that are missing, unknown or do not go together.
    #[error("{problem}")]
    Arguments {
        /// Argument at fault, and the remedy.
        problem: String,
    },
    /// Something else than a report lies where the report would.
    #[error(
        "{path}: already exists and is not a report of `zs reproduce`; nothing was overwritten: choose \
         another `--out`"
    )]
    NotAReport {
        /// Directory of the report.
        path: PathBuf,
    },
    /// A folder of data without training questions.
    #[error(
        "{data}: no training questions; tried {tried}; fetch them with `zs data fetch zerosearch \
         --cache DIR`"
    )]
    NoQuestions {
        /// Folder.
        data: PathBuf,
        /// Files that were looked for.
        tried: String,
    },
    /// Pieces of work that failed, after the others were done and reported.
    #[error("{count} jobs failed; the first: {first}")]
    Failed {
        /// Number of them.
        count: usize,
        /// Name and error of the first.
        first: String,
    },
    /// The piece of work that failed, if the preset cannot continue without it.
    #[error("{work}")]
    FailedWork {
        /// Its name and error.
        work: String,
    },
    /// A piece of work that panicked.
    #[error("panicked")]
    Panicked,
    /// An error with its place.
    #[error("{place}")]
    In {
        /// Piece of work or directory.
        place: String,
        /// Error.
        source: Box<Self>,
    },
    /// Settings that cannot be used.
    #[error(transparent)]
    Settings(#[from] RunFileError),
    /// A preset that is not TOML.
    #[error(transparent)]
    Preset(#[from] toml::de::Error),
    /// Settings without a TOML form.
    #[error(transparent)]
    Toml(#[from] toml::ser::Error),
    /// Settings of a component that cannot be set.
    #[error(transparent)]
    ComponentSettings(#[from] SettingsError),
    /// A component that cannot be built.
    #[error(transparent)]
    Component(#[from] RegistryError),
    /// A template of the simulation LLM that cannot be used.
    #[error(transparent)]
    Simulator(#[from] TemplateError),
    /// A model that cannot be loaded.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// A model directory that cannot be described.
    #[error(transparent)]
    ModelDirectory(#[from] zs_model::CheckpointError),
    /// Training that failed.
    #[error(transparent)]
    Train(#[from] TrainError),
    /// An evaluation that failed.
    #[error(transparent)]
    Evaluate(#[from] EvaluateError),
    /// Scores that cannot be summarised or compared.
    #[error(transparent)]
    Scores(#[from] zs_eval::ReportError),
    /// Sampling that failed.
    #[error(transparent)]
    Generate(#[from] GenerateError),
    /// A directory that cannot be used.
    #[error(transparent)]
    RunDir(#[from] RunDirError),
    /// A file that cannot be read or written.
    #[error(transparent)]
    File(#[from] FileError),
    /// A file with rows that cannot be read.
    #[error(transparent)]
    Rows(#[from] zs_data::DataError),
    /// Episodes that cannot be written.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// A chart that cannot be drawn.
    #[error(transparent)]
    Chart(#[from] ChartError),
    /// A report that cannot be rendered.
    #[error(transparent)]
    Report(#[from] minijinja::Error),
}

impl ReproduceError {
    /// Creates the error of arguments.
    pub(crate) fn arguments(problem: impl Into<String>) -> Self {
        Self::Arguments { problem: problem.into() }
    }

    /// Adds the place of an error.
    pub(crate) fn at<E: Into<Self>>(place: impl Into<String>) -> impl FnOnce(E) -> Self {
        let place = place.into();
        move |error| Self::In { place, source: Box::new(error.into()) }
    }
}
