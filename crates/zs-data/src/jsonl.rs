//! JSON Lines files, with errors that name file and row.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;

/// Why a JSON Lines file could not be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum JsonLinesError {
    /// The file cannot be opened or read.
    #[error("{path}: cannot be read", path = path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's own error.
        #[source]
        source: std::io::Error,
    },
    /// A row is not UTF-8.
    #[error("{path}, row {row}: not UTF-8", path = path.display())]
    NotUtf8 {
        /// The file.
        path: PathBuf,
        /// The row, from 1.
        row: usize,
    },
    /// A row is not a JSON object of the right form.
    #[error("{path}, row {row}: not a {expected}: {source}", path = path.display())]
    Row {
        /// The file.
        path: PathBuf,
        /// The row, from 1.
        row: usize,
        /// What a row should be.
        expected: &'static str,
        /// The parser's own error, which names the field.
        #[source]
        source: serde_json::Error,
    },
    /// A row lacks a field.
    #[error("{path}, row {row}: {problem}", path = path.display())]
    Field {
        /// The file.
        path: PathBuf,
        /// The row, from 1.
        row: usize,
        /// Which field is missing or unusable, and what to write.
        problem: String,
    },
    /// There is no row at all.
    #[error("{path}: no {expected} in it", path = path.display())]
    Empty {
        /// The file.
        path: PathBuf,
        /// What a row should be.
        expected: &'static str,
    },
}

/// Reads every row; `convert` turns it into a value or says which field is amiss.
///
/// Blank lines are passed over.
///
/// # Errors
///
/// Fails at the first row that is malformed, and when there is none.
pub fn read_rows<R: DeserializeOwned, T>(
    path: &Path,
    expected: &'static str,
    convert: impl Fn(R) -> Result<T, String>,
) -> Result<Vec<T>, JsonLinesError> {
    let unreadable = |source| JsonLinesError::Read { path: path.to_owned(), source };
    parse_rows(BufReader::new(File::open(path).map_err(unreadable)?), path, expected, convert)
}

/// As [`read_rows`], from a reader; `path` names it in errors.
///
/// # Errors
///
/// As [`read_rows`].
pub fn parse_rows<R: DeserializeOwned, T>(
    mut reader: impl BufRead,
    path: &Path,
    expected: &'static str,
    convert: impl Fn(R) -> Result<T, String>,
) -> Result<Vec<T>, JsonLinesError> {
    let unreadable = |source| JsonLinesError::Read { path: path.to_owned(), source };
    let mut values = Vec::new();
    let mut bytes = Vec::new();
    for row in 1.. {
        bytes.clear();
        if reader.read_until(b'\n', &mut bytes).map_err(unreadable)? == 0 {
            break;
        }
        let path = || path.to_owned();
        let line = std::str::from_utf8(&bytes)
            .map_err(|_| JsonLinesError::NotUtf8 { path: path(), row })?;
        if line.trim().is_empty() {
            continue;
        }
        let value: R = serde_json::from_str(line).map_err(|source| JsonLinesError::Row {
            path: path(),
            row,
            expected,
            source,
        })?;
        let value = convert(value);
        values.push(value.map_err(|problem| JsonLinesError::Field {
            path: path(),
            row,
            problem,
        })?);
    }
    if values.is_empty() {
        return Err(JsonLinesError::Empty { path: path.to_owned(), expected });
    }
    Ok(values)
}
