//! Why a question file could not be read.

use std::path::PathBuf;

/// Why a question file could not be read. Every message names the file, and the row where there is
/// one.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DatasetError {
    /// The file is missing or unreadable.
    #[error("{path}: cannot read the question file: {source}", path = path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The extension says nothing about the format.
    #[error(
        "{path}: unknown format of a question file; name it .jsonl, .ndjson, .json, .csv, .tsv (each \
         also with .gz) or .parquet",
        path = path.display()
    )]
    UnknownFormat {
        /// The file.
        path: PathBuf,
    },
    /// The file is not Parquet, or damaged.
    #[error("{path}: not a readable Parquet file: {source}", path = path.display())]
    Parquet {
        /// The file.
        path: PathBuf,
        /// What the reader said.
        source: parquet::errors::ParquetError,
    },
    /// A row is not a question.
    #[error("{path}, row {row}: {source}", path = path.display())]
    Row {
        /// The file.
        path: PathBuf,
        /// The row, from 1.
        row: usize,
        /// What is wrong with it.
        source: RowError,
    },
    /// A corpus holds no row.
    #[error("{path}: the file holds no document", path = path.display())]
    NoDocuments {
        /// The file.
        path: PathBuf,
    },
    /// The file holds no row.
    #[error("{path}: the file holds no question", path = path.display())]
    NoQuestions {
        /// The file.
        path: PathBuf,
    },
}

/// What is wrong with one row of a question file.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RowError {
    /// Text that is not UTF-8.
    #[error("{place} is not UTF-8; convert the file")]
    NotUtf8 {
        /// The field, or `the line`.
        place: String,
    },
    /// The line is not JSON.
    #[error("not a JSON object: {source}")]
    NotJson {
        /// What the parser said.
        source: serde_json::Error,
    },
    /// The array that the row is an element of is not well formed.
    #[error("{problem}")]
    NotInArray {
        /// What is wrong.
        problem: &'static str,
    },
    /// The line is no record of a table.
    #[error("not a record of CSV or TSV: {problem}")]
    NotARecord {
        /// What the reader said.
        problem: String,
    },
    /// A value could not be decoded.
    #[error("field `{field}` cannot be decoded: {source}")]
    Undecodable {
        /// The field.
        field: String,
        /// What the reader said.
        source: parquet::errors::ParquetError,
    },
    /// A field is missing or null.
    #[error("field `{field}` is missing; accepted instead: {alternatives}")]
    Missing {
        /// The field that is looked for first.
        field: &'static str,
        /// The others.
        alternatives: &'static str,
    },
    /// A field is of another type.
    #[error("field `{field}` is {found}; it must be {expected}")]
    WrongType {
        /// The field.
        field: String,
        /// What it should be.
        expected: &'static str,
        /// What it is.
        found: &'static str,
    },
    /// A text is blank or a list has no entry.
    #[error("field `{field}` is empty")]
    Empty {
        /// The field.
        field: String,
    },
    /// Two rows have the same id.
    #[error("field `id` is `{id}`, as in row {first}; ids must be unique inside a file")]
    DuplicateId {
        /// The id.
        id: String,
        /// The row that had it first.
        first: usize,
    },
}
