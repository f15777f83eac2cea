//! Recorded episodes and lists of queries, as other programs write them.

use std::path::Path;

use serde::Deserialize;
use serde_json::Value;
use zs_core::Document;

use crate::documents::row::DocumentRow;
use crate::questions::fields::values::{list, number, text, wrong_type};
use crate::questions::{fields, open_question_rows};
use crate::rows::literal;
use crate::{DataError, Fields, NoteKind, ReadReport, RowContext, RowError, Rows};

/// Episode that was recorded with an engine.
#[derive(Clone, Debug, PartialEq)]
pub struct RecordedEpisode {
    /// Question.
    pub question: String,
    /// Its accepted answers; empty where the row has none.
    pub golden_answers: Vec<String>,
    /// Searches, in order.
    pub turns: Vec<RecordedTurn>,
}

/// Search of a recorded episode.
#[derive(Clone, Debug, PartialEq)]
pub struct RecordedTurn {
    /// Query, as the policy wrote it.
    pub query: String,
    /// Documents that the engine returned, without empty ones.
    pub documents: Vec<Document>,
}

/// Opens a file of recorded episodes, one a row, in any format of [`RowReader`](crate::RowReader):
///
/// ```text
/// {"question", "golden_answers" or "answer", "turns": [{"query", "docs": [{"title", "text"}]}]}
/// ```
///
/// Question and answers may have any of the forms of [`open_questions`](crate::open_questions), but
/// answers may be missing; documents, those of [`read_documents`](crate::read_documents). `docs` may be
/// called `documents`; either, and `turns`, may be written inside a text.
///
/// # Errors
///
/// As [`RowReader::open`](crate::RowReader::open).
///
/// ```
/// let folder = tempfile::tempdir()?;
/// let path = folder.path().join("turns.jsonl");
/// let row = r#"{"question": "Who?", "turns": [{"query": "author", "docs": [{"text": "Anna."}]}]}"#;
/// std::fs::write(&path, row)?;
/// let episode = zs_data::open_episodes(&path)?.next().unwrap()?;
/// assert_eq!(episode.turns[0].documents[0].text, "Anna.");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn open_episodes(path: &Path) -> Result<Rows<RecordedEpisode>, DataError> {
    let (_, rows) = open_question_rows(path)?;
    Ok(rows.try_filter_map(|row, context| episode(&row, context).map(Some)))
}

/// Reads the queries of a file, from `query`, `question` or `text`, in any format of
/// [`RowReader`](crate::RowReader).
///
/// # Errors
///
/// Fails at the first row without a query, and when there is no row.
///
/// ```
/// let folder = tempfile::tempdir()?;
/// let path = folder.path().join("queries.csv");
/// std::fs::write(&path, "id,query\n1,a grass\n")?;
/// assert_eq!(zs_data::read_queries(&path)?.0, ["a grass"]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn read_queries(path: &Path) -> Result<(Vec<String>, ReadReport), DataError> {
    open_queries(path)?.collect_reported(false)
}

/// Opens a file of queries, for reading one at a time. See [`read_queries`].
///
/// # Errors
///
/// As [`RowReader::open`](crate::RowReader::open).
pub fn open_queries(path: &Path) -> Result<Rows<String>, DataError> {
    let (_, rows) = open_question_rows(path)?;
    Ok(rows.try_filter_map(|row, context| query(&row, context).map(Some)))
}

fn query(row: &Fields, context: &mut RowContext<'_>) -> Result<String, RowError> {
    let fields = ["query", "question", "text"];
    let found = fields.iter().find_map(|it| Some((*it, row.get(*it).filter(|it| !it.is_null())?)));
    match found {
        Some((_, Value::String(query))) => Ok(query.clone()),
        Some((field, other)) => text(other, || field.to_owned(), context),
        None => Err(RowError::Missing { field: "query", alternatives: "question, text" }),
    }
}

fn episode(row: &Fields, context: &mut RowContext<'_>) -> Result<RecordedEpisode, RowError> {
    let (question, golden_answers) = fields::question_and_answers(row, context)?;
    let turns = row
        .get("turns")
        .filter(|it| !it.is_null())
        .ok_or(RowError::Missing { field: "turns", alternatives: "none" })?;
    let turns = unpacked(turns, context);
    let turns = list(&turns, "turns")?
        .iter()
        .enumerate()
        .map(|(index, turn)| recorded_turn(turn, &format!("turns[{index}]"), context));
    Ok(RecordedEpisode { question, golden_answers, turns: turns.collect::<Result<_, _>>()? })
}

fn recorded_turn(
    turn: &Value,
    place: &str,
    context: &mut RowContext<'_>,
) -> Result<RecordedTurn, RowError> {
    if !turn.is_object() {
        return Err(wrong_type(place, "an object", turn));
    }
    let field = format!("{place}.query");
    let query = match turn.get("query").unwrap_or(&Value::Null) {
        Value::String(query) => query.clone(),
        Value::Null => return Err(RowError::Empty { field }),
        other => number(other, || field, context)?.unwrap_or_default(),
    };
    let present = |name: &str| turn.get(name).filter(|it| !it.is_null());
    let Some(documents) = present("docs").or_else(|| present("documents")) else {
        return Err(RowError::Empty { field: format!("{place}.docs") });
    };
    let documents = unpacked(documents, context);
    let field = format!("{place}.docs");
    let mut read = Vec::new();
    for (index, document) in list(&documents, &field)?.iter().enumerate() {
        let document = DocumentRow::deserialize(document).map_err(|error| {
            let field = format!("{field}[{index}]");
            RowError::NotJson { noun: "recorded episode", field, error }
        })?;
        read.extend(document.into_document(context)?);
    }
    Ok(RecordedTurn { query, documents: read })
}

/// The list that is written inside a text; any other value as it is.
fn unpacked(value: &Value, context: &mut RowContext<'_>) -> Value {
    match value.as_str().and_then(literal::parse) {
        Some(held) => {
            context.note(NoteKind::ListInText);
            held
        }
        None => value.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(row: &str, expected: Result<(&[&str], &str), &str>) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("turns.jsonl");
        std::fs::write(&path, row.replace('\n', "")).unwrap();
        let read = open_episodes(&path).unwrap().next().unwrap();
        match (read, expected) {
            (Ok(episode), Ok((answers, turns))) => {
                let turn = |it: &RecordedTurn| {
                    let documents =
                        it.documents.iter().map(|it| format!("{}={}", it.title, it.text));
                    format!("{}:{}", it.query, documents.collect::<Vec<_>>().join(","))
                };
                let read: Vec<String> = episode.turns.iter().map(turn).collect();
                assert_eq!(
                    (episode.golden_answers, read.join(" ")),
                    (answers.iter().map(|it| (*it).to_owned()).collect(), turns.to_owned())
                );
            }
            (Err(error), Err(expected)) => {
                let message = error.to_string();
                assert!(
                    message.contains("turns.jsonl, row 1") && message.contains(expected),
                    "{message}"
                );
            }
            (read, expected) => panic!("{read:?} is not {expected:?}"),
        }
    }

    #[test]
    fn episodes_of_other_programs() {
        check(
            r#"{"question":"q","answer":"a","turns":[{"query":"x","docs":[{"title":null,"text":"t"},{"text":" "}]},
                {"query":7,"documents":[{"contents":"\"T\"\nb"}]}]}"#,
            Ok((&["a"], "x:=t 7:T=b")),
        );
        check(
            r#"{"question":"q","golden_answers":null,"turns":"[{'query': 'x', 'docs': []}]"}"#,
            Ok((&[], "x:")),
        );
        check(r#"{"question":"q","golden_answers":["a", ""],"turns":[]}"#, Ok((&["a"], "")));
        check(r#"{"question":"q"}"#, Err("field `turns` is missing"));
        check(r#"{"turns":[]}"#, Err("field `question` is missing"));
        check(
            r#"{"question":"q","turns":[{"query":null,"docs":[]}]}"#,
            Err("`turns[0].query` is empty"),
        );
        check(r#"{"question":"q","turns":[{"query":"x"}]}"#, Err("`turns[0].docs` is empty"));
        check(
            r#"{"question":"q","turns":[{"query":"x","docs":[5]}]}"#,
            Err("field `turns[0].docs[0]`"),
        );
        check(r#"{"question":"q","turns":["x"]}"#, Err("`turns[0]` is a text"));
    }
}
