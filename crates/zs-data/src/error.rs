//! Errors of readers.

use std::path::PathBuf;

/// Failure to read a file of rows. Every message is one line that names the file, and the row and
/// field where there is one.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DataError {
    /// A file that is missing, unreadable or damaged.
    #[error("{path}: cannot be read: {error}", path = path.display())]
    Read {
        /// File.
        path: PathBuf,
        /// Error of the system or of the decompressor; part of the message, so not its source.
        error: std::io::Error,
    },
    /// A file whose format neither its name nor its first bytes tell.
    #[error(
        "{path}: unknown format; name it .jsonl, .ndjson, .json, .csv, .tsv (each also with .gz or \
         .zst) or .parquet",
        path = path.display()
    )]
    UnknownFormat {
        /// File.
        path: PathBuf,
    },
    /// A file in a form that is not read.
    #[error("{path}: is {form}; {remedy}", path = path.display())]
    Foreign {
        /// File.
        path: PathBuf,
        /// Form.
        form: &'static str,
        /// Remedy.
        remedy: &'static str,
    },
    /// A file that is not Parquet, or is damaged.
    #[error("{path}: not a readable Parquet file: {error}", path = path.display())]
    Parquet {
        /// File.
        path: PathBuf,
        /// Error of the Parquet reader; part of the message, so not its source.
        error: parquet::errors::ParquetError,
    },
    /// A malformed row.
    #[error("{path}, row {row}: {error}", path = path.display())]
    Row {
        /// File.
        path: PathBuf,
        /// Row, from 1.
        row: usize,
        /// Defect; part of the message, so not its source.
        error: RowError,
    },
    /// A file without rows.
    #[error("{path}: the file holds no {noun}", path = path.display())]
    Empty {
        /// File.
        path: PathBuf,
        /// Name of a row, e.g. `question`.
        noun: &'static str,
    },
}

/// Defect of one row.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RowError {
    /// Text that is not UTF-8.
    #[error("{place} is not UTF-8; convert the file")]
    NotUtf8 {
        /// Field, or `the row`.
        place: String,
    },
    /// A line or element that is longer than the reader accepts.
    #[error("longer than {limit} bytes; check that each row has a line of its own")]
    TooLong {
        /// Accepted bytes.
        limit: usize,
    },
    /// Text that is not JSON, or JSON of another form.
    #[error("not a {noun}: {}{error}{}", in_field(field), advice(error))]
    NotJson {
        /// Name of a row, e.g. `question`.
        noun: &'static str,
        /// Path of the field at fault, e.g. `turns[0].query`; empty where it is the whole row.
        field: String,
        /// Error of the parser; part of the message, so not its source.
        error: serde_json::Error,
    },
    /// A malformed array around the row.
    #[error("{problem}")]
    NotInArray {
        /// Problem.
        problem: &'static str,
    },
    /// A line that is not a record of a table.
    #[error("not a CSV or TSV record: {problem}")]
    NotARecord {
        /// Problem.
        problem: String,
    },
    /// A value that cannot be decoded.
    #[error("field `{field}` cannot be decoded: {error}")]
    Undecodable {
        /// Field.
        field: String,
        /// Error of the Parquet reader; part of the message, so not its source.
        error: parquet::errors::ParquetError,
    },
    /// A field that is missing or null.
    #[error("field `{field}` is missing; accepted instead: {alternatives}")]
    Missing {
        /// Field that is looked for first.
        field: &'static str,
        /// Other accepted fields.
        alternatives: &'static str,
    },
    /// A field of another type.
    #[error("field `{field}` is {found}; it must be {expected}")]
    WrongType {
        /// Field.
        field: String,
        /// Accepted types.
        expected: &'static str,
        /// Type of the value.
        found: &'static str,
    },
    /// A blank text, or a list without entries.
    #[error("field `{field}` is empty")]
    Empty {
        /// Field.
        field: String,
    },
    /// An id that an earlier row has.
    #[error("field `id` is `{id}`, as in row {first}; ids must be unique inside a file")]
    DuplicateId {
        /// Id.
        id: String,
        /// First row with this id.
        first: usize,
    },
    /// Another defect, in the words of the reader's user.
    #[error("{problem}")]
    Invalid {
        /// Field at fault and remedy.
        problem: String,
    },
}

impl RowError {
    /// Creates the error of a defect that has no variant of its own; `problem` names field and
    /// remedy.
    #[must_use]
    pub fn invalid(problem: impl Into<String>) -> Self {
        Self::Invalid { problem: problem.into() }
    }
}

/// Advice on what other programs write in place of JSON, after `; `.
fn advice(error: &serde_json::Error) -> &'static str {
    let message = error.to_string();
    if error.is_eof() {
        "; write each row whole, on a line of its own (`jq -c .`)"
    } else if message.starts_with("key must be a string") {
        "; write rows with `json.dumps`, not as Python prints them"
    } else if message.starts_with("expected value") && error.column() > 1 {
        "; JSON has neither NaN nor single quotes: write null, and texts in double quotes"
    } else {
        ""
    }
}

fn in_field(field: &str) -> String {
    if field.is_empty() { String::new() } else { format!("field `{field}`: ") }
}
