//! Worlds as JSON Lines, in the formats that users' own data has.

use std::borrow::Borrow;
use std::io::Write;

use serde::Serialize;
use zs_core::{Document, Question};

use super::difficulty::max_searches;
use super::{Fact, QuestionKind, Relation, World, WorldQuestion};

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

/// Writes questions, one a line: `{"id", "question", "golden_answers", "hops", "gold_titles"}`, and the
/// `type` of those about a hard world.
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
/// Documents may be composed as they are written, so a corpus needs no memory.
///
/// # Errors
///
/// Fails when the writer does.
pub fn write_corpus(
    writer: impl Write,
    documents: impl IntoIterator<Item = impl Borrow<Document> + Serialize>,
) -> Result<(), ExportError> {
    write_rows(writer, documents)
}

/// Writes what each question needs, one a line: `{"id", "type", "hops", "max_searches", "searches"}`.
///
/// `searches` has a row for each search of a perfect policy: `{"relation", "titles", "passages"}`,
/// where `passages` lists, for each title, the passages that state what is to be found.
///
/// # Errors
///
/// Fails when the writer does.
pub fn write_chains<'a>(
    writer: impl Write,
    world: &World,
    questions: impl IntoIterator<Item = &'a WorldQuestion>,
) -> Result<(), ExportError> {
    write_rows(writer, questions.into_iter().map(|it| Chain::of(world, it)))
}

#[derive(Serialize)]
struct Chain<'a> {
    id: &'a str,
    #[serde(rename = "type")]
    kind: QuestionKind,
    hops: usize,
    max_searches: usize,
    searches: Vec<Search>,
}

#[derive(Serialize)]
struct Search {
    relation: Relation,
    titles: Vec<String>,
    passages: Vec<Vec<String>>,
}

impl<'a> Chain<'a> {
    fn of(world: &World, question: &'a WorldQuestion) -> Self {
        let parts = question.searches(world);
        let search = |facts: &&[Fact]| {
            let of_title = |it: &Fact| world.passages_that_state(*it);
            let name = |it: usize| format!("p{it}");
            let ids = |it: &Fact| of_title(it).into_iter().map(name).collect();
            // The facts of a list have one title and the same passages.
            let subjects: Vec<&Fact> =
                facts.chunk_by(|a, b| a.subject == b.subject).map(|it| &it[0]).collect();
            Search {
                relation: facts[0].relation,
                titles: subjects.iter().map(|it| world.title(it.subject)).collect(),
                passages: subjects.into_iter().map(ids).collect(),
            }
        };
        let hops = parts.len();
        Self {
            id: &question.question.id,
            kind: question.kind,
            hops,
            max_searches: max_searches(hops),
            searches: parts.iter().map(search).collect(),
        }
    }
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
    use crate::Split;

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
