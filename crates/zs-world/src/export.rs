//! Worlds as JSON Lines, in the formats that users' own data has.

use std::io::Write;

use serde::Serialize;
use zs_core::{Document, Question};

/// Failure to write a world.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ExportError {
    /// The writer failed.
    #[error("row {row} could not be written")]
    Write {
        /// The row, from 1.
        row: usize,
        /// The writer's own error.
        #[source]
        source: std::io::Error,
    },
    /// A value has no JSON form.
    #[error("row {row} has no JSON form")]
    Serialize {
        /// The row, from 1.
        row: usize,
        /// The serialiser's own error.
        #[source]
        source: serde_json::Error,
    },
}

/// Writes questions, one a line: `{"id", "question", "golden_answers", "hops", "gold_titles"}`.
///
/// # Errors
///
/// Fails when the writer does.
pub fn write_questions<'a>(
    writer: impl Write,
    questions: impl IntoIterator<Item = &'a Question>,
) -> Result<(), ExportError> {
    write_rows(writer, questions)
}

/// Writes a corpus, one document a line: `{"id", "title", "text"}`.
///
/// # Errors
///
/// Fails when the writer does.
pub fn write_corpus<'a>(
    writer: impl Write,
    documents: impl IntoIterator<Item = &'a Document>,
) -> Result<(), ExportError> {
    write_rows(writer, documents)
}

fn write_rows<T: Serialize>(
    mut writer: impl Write,
    rows: impl IntoIterator<Item = T>,
) -> Result<(), ExportError> {
    let mut last = 0;
    for (index, value) in rows.into_iter().enumerate() {
        let row = index + 1;
        let mut line =
            serde_json::to_vec(&value).map_err(|source| ExportError::Serialize { row, source })?;
        line.push(b'\n');
        writer.write_all(&line).map_err(|source| ExportError::Write { row, source })?;
        last = row;
    }
    writer.flush().map_err(|source| ExportError::Write { row: last, source })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Split, World};

    #[test]
    fn rows_have_the_documented_fields() {
        let world = World::generate(0, Split::Train);
        let mut bytes = Vec::new();
        write_corpus(&mut bytes, &world.passages()[..2]).unwrap();
        let text = String::from_utf8(bytes).unwrap();
        let row: serde_json::Value = serde_json::from_str(text.lines().next().unwrap()).unwrap();
        let fields: Vec<&String> = row.as_object().unwrap().keys().collect();
        assert_eq!(fields, ["id", "title", "text"]);

        let questions = world.questions(0, 2, 3);
        let mut bytes = Vec::new();
        write_questions(&mut bytes, questions.iter().map(|it| &it.question)).unwrap();
        let text = String::from_utf8(bytes).unwrap();
        let row: serde_json::Value = serde_json::from_str(text.lines().next().unwrap()).unwrap();
        let fields: Vec<&String> = row.as_object().unwrap().keys().collect();
        assert_eq!(fields, ["id", "question", "golden_answers", "hops", "gold_titles"]);
        let read: Vec<Question> =
            text.lines().map(|it| serde_json::from_str(it).unwrap()).collect();
        assert!(read.iter().zip(&questions).all(|(a, b)| *a == b.question));
    }
}
