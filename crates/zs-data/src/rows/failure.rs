//! Failures of a reading before the file and the row are known.

use std::path::Path;

use parquet::errors::ParquetError;

use crate::{DataError, RowError};

/// Failure inside a file whose name is not known here.
pub(super) enum Failure {
    Io(std::io::Error),
    Parquet(ParquetError),
    Row(RowError),
    /// Defect of a row behind which no further row can be found.
    LastRow(RowError),
}

impl Failure {
    pub(super) fn is_final(&self) -> bool {
        !matches!(self, Self::Row(_))
    }

    pub(super) fn at(self, path: &Path, row: usize) -> DataError {
        let path = path.to_owned();
        match self {
            Self::Io(error) => DataError::Read { path, error },
            Self::Parquet(error) => DataError::Parquet { path, error },
            Self::Row(error) | Self::LastRow(error) => DataError::Row { path, row, error },
        }
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        Self::Io(error)
    }
}

impl From<RowError> for Failure {
    fn from(error: RowError) -> Self {
        Self::Row(error)
    }
}
