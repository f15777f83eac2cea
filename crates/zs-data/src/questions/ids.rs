//! Ids that are unique inside a file.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use zs_core::Question;

use super::QuestionSet;
use crate::{DataError, Note, NoteKind, ReadReport, RowError};

/// Questions whose ids are distinct, and rows that repeat one.
#[derive(Debug, Default)]
pub struct DistinctQuestions {
    /// Questions, in the order of their rows.
    pub questions: Vec<Question>,
    /// Rows that repeat the id of an earlier row of the same data source, with the error of each.
    pub repeated: Vec<(usize, RowError)>,
    /// Rows whose id is made unique by their data source, where there are any.
    pub note: Option<Note>,
}

/// Makes the ids of questions unique, each given with the number of its row: where an id occurs in
/// several data sources, all ids are preceded by their data source.
///
/// ```
/// use zs_core::Question;
/// use zs_data::distinct_questions;
///
/// let row = |id, source: &str| Question {
///     data_source: Some(source.to_owned()),
///     ..Question::new(id, "q?", ["a"])
/// };
/// let distinct = distinct_questions(vec![(row("0", "nq"), 1), (row("0", "popqa"), 2)]);
/// assert_eq!(distinct.questions[1].id, "popqa:0");
/// ```
#[must_use]
pub fn distinct_questions(mut rows: Vec<(Question, usize)>) -> DistinctQuestions {
    let restarted = distinct_ids(&mut rows, |(it, _)| (&mut it.id, it.data_source.as_deref()));
    let note = Note::of_rows(NoteKind::IdBySource, restarted.iter().map(|it| rows[*it].1));
    let mut distinct = DistinctQuestions { note, ..Default::default() };
    let mut first_rows: BTreeMap<String, usize> = BTreeMap::new();
    for (question, row) in rows {
        match first_rows.get(&question.id) {
            Some(&first) => {
                distinct.repeated.push((row, RowError::DuplicateId { id: question.id, first }));
            }
            None => {
                first_rows.insert(question.id.clone(), row);
                distinct.questions.push(question);
            }
        }
    }
    distinct
}

/// Makes the ids of rows unique as [`distinct_questions`] does, and gives the positions of those whose
/// id an earlier row of another data source has; `fields` gives id and data source of a row.
pub fn distinct_ids<T>(
    rows: &mut [T],
    fields: impl for<'a> Fn(&'a mut T) -> (&'a mut String, Option<&'a str>),
) -> Vec<usize> {
    let mut sources: BTreeMap<String, BTreeSet<Option<String>>> = BTreeMap::new();
    let mut restarted = Vec::new();
    for (at, row) in rows.iter_mut().enumerate() {
        let (id, source) = fields(row);
        let known = sources.entry(id.clone()).or_default();
        if known.insert(source.map(str::to_owned)) && known.len() > 1 {
            restarted.push(at);
        }
    }
    if !restarted.is_empty() {
        for row in rows {
            if let (id, Some(source)) = fields(row) {
                *id = format!("{source}:{id}");
            }
        }
    }
    restarted
}

/// The questions of the rows of a file. A row that repeats an id is an error, or left out.
pub(super) fn question_set(
    rows: Vec<(Question, usize)>,
    report: ReadReport,
    path: &Path,
    skip_bad_rows: bool,
) -> Result<QuestionSet, DataError> {
    let ReadReport { mut skipped, mut notes } = report;
    let DistinctQuestions { questions, repeated, note } = distinct_questions(rows);
    notes.extend(note);
    for (row, error) in repeated {
        let error = DataError::Row { path: path.to_owned(), row, error };
        if !skip_bad_rows {
            return Err(error);
        }
        skipped.count += 1;
        skipped.first.get_or_insert_with(|| error.into());
    }
    Ok(QuestionSet { questions, skipped, notes })
}

#[cfg(test)]
mod tests {
    use crate::read_question_set;

    /// Reads rows of id and data source.
    #[track_caller]
    fn check(rows: &[(&str, &str)], expected: Result<(&[&str], usize), &str>) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("q.jsonl");
        let row = |(id, source): &(&str, &str)| {
            let source = (!source.is_empty()).then_some(source);
            let row = serde_json::json!({
                "id": id, "question": "q?", "answer": "a", "data_source": source,
            });
            format!("{row}\n")
        };
        std::fs::write(&path, rows.iter().map(row).collect::<String>()).unwrap();
        match (read_question_set(&path, false), expected) {
            (Ok(set), Ok((ids, noted))) => {
                let read: Vec<&str> = set.questions.iter().map(|it| it.id.as_str()).collect();
                assert_eq!(read, ids);
                assert_eq!(set.notes.first().map_or(0, |it| it.count), noted);
            }
            (Err(error), Err(expected)) => {
                assert!(error.to_string().contains(expected), "{error}");
            }
            (read, expected) => panic!("{read:?} is not {expected:?}"),
        }
    }

    #[test]
    fn ids_that_restart_are_told_apart_by_source() {
        check(&[("1", "a"), ("2", "b")], Ok((&["1", "2"], 0)));
        check(
            &[("1", "a"), ("2", "a"), ("1", "b"), ("3", "b"), ("1", "")],
            Ok((&["a:1", "a:2", "b:1", "b:3", "1"], 2)),
        );
        check(&[("1", "a"), ("1", "a")], Err("row 2: field `id` is `1`, as in row 1"));
        check(&[("1", "a"), ("1", "b"), ("1", "a")], Err("row 3: field `id` is `a:1`"));
        check(&[("1", ""), ("1", "")], Err("row 2: field `id` is `1`"));
    }
}
