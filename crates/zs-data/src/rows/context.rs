//! Place of a row in its file, and reports on a whole file.

use zs_core::registry::BoxedError;

use super::notes::{Note, NoteKind, Notes};

/// Place of a row in its file, and notes on it.
#[derive(Debug)]
pub struct RowContext<'a> {
    /// Number of the row in errors, from 1.
    pub row: usize,
    /// Index of the row among those of the file, from 1: the same in every format.
    pub index: usize,
    notes: &'a mut Notes,
}

impl<'a> RowContext<'a> {
    pub(crate) fn new(row: usize, index: usize, notes: &'a mut Notes) -> Self {
        Self { row, index, notes }
    }

    /// Notes a decision about this row.
    pub fn note(&mut self, kind: NoteKind) {
        self.notes.add(kind, self.row);
    }
}

/// Rows that were left out of a reading.
#[derive(Debug, Default)]
pub struct SkippedRows {
    /// Number of them.
    pub count: usize,
    /// Error of the first.
    pub first: Option<BoxedError>,
}

/// Rows that were left out, and decisions about the others.
#[derive(Debug, Default)]
pub struct ReadReport {
    /// Malformed rows.
    pub skipped: SkippedRows,
    /// Decisions of the reader.
    pub notes: Vec<Note>,
}
