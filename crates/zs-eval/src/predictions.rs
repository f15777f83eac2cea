//! Scores of answers that another program dumped.

use std::path::Path;

use serde_json::Value;
use zs_data::{
    DataError, Dump, Fields, Note, NoteKind, RowContext, RowError, Rows, distinct_ids,
    note_prediction, open_question_rows, scored_question,
};

use crate::{Protocol, QuestionRecord};

/// Scores a predictions file under a protocol: one record per row, in the order of the file. See
/// [`open_predictions`] for its forms.
///
/// # Errors
///
/// Fails on the first row that cannot be scored, and on a file without rows, naming file, row and
/// field.
pub fn score_predictions(
    path: &Path,
    protocol: &Protocol,
) -> Result<Vec<QuestionRecord>, DataError> {
    let (mut records, _) = read_predictions(path, std::slice::from_ref(protocol))?;
    Ok(records.pop().unwrap_or_default())
}

/// Scores a predictions file under several protocols, as [`score_predictions`]: the records of each, and
/// the decisions of the reader. The file is read once, so it may be a pipe. Ids that restart in another
/// data source are made unique as those of questions are.
///
/// # Errors
///
/// As [`score_predictions`].
///
/// ```
/// use zs_eval::{Protocol, read_predictions};
///
/// # let dir = tempfile::tempdir()?;
/// # let path = dir.path().join("predictions.jsonl");
/// std::fs::write(&path, "{\"golden_answers\": [\"Eiffel Tower\"], \"prediction\": \"The big Eiffel Tower\"}\n")?;
/// let (records, _) = read_predictions(&path, &[Protocol::strict(), Protocol::zs_compat()])?;
/// assert!(!records[0][0].exact_match && records[1][0].exact_match);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn read_predictions(
    path: &Path,
    protocols: &[Protocol],
) -> Result<(Vec<Vec<QuestionRecord>>, Vec<Note>), DataError> {
    let (stem, rows) = open_question_rows(path)?;
    let scored = protocols.to_vec();
    let score = move |row: Fields, context: &mut RowContext<'_>| {
        score_row(&row, context, &stem, &scored).map(Some)
    };
    let (rows, report) = rows.try_filter_map(score).collect_reported(false)?;
    let mut records: Vec<Vec<QuestionRecord>> = vec![Vec::new(); protocols.len()];
    for row in rows {
        records.iter_mut().zip(row).for_each(|(records, record)| records.push(record));
    }
    let mut notes = report.notes;
    let mut restarted = Vec::new();
    for records in &mut records {
        restarted = distinct_ids(records, |it| (&mut it.id, it.data_source.as_deref()));
    }
    notes.extend(Note::of_rows(NoteKind::IdBySource, restarted.iter().map(|it| it + 1)));
    Ok((records, notes))
}

/// Opens a predictions file, for scoring one row at a time.
///
/// A row is `{id, question, golden_answers, prediction | transcript}` in any of the forms that
/// [`open_questions`](zs_data::open_questions) reads; `id` and `question` may be missing.
///
/// - `prediction` is the text of the answer; null is a missing answer.
/// - `transcript` is the whole episode with its tags, from which the protocol reads the answer; it has
///   precedence when a row has both. It may start with the prompt: those of ZeroSearch and Search-R1 are
///   recognised, any other is removed when the row contains it as `prompt`.
///
/// Golden answers are unchanged, blank ones included, as in scoring scripts; a row without any scores 0.
///
/// # Errors
///
/// As [`RowReader::open`](zs_data::RowReader::open).
///
/// ```
/// use zs_eval::{Protocol, score_predictions};
///
/// # let dir = tempfile::tempdir()?;
/// # let path = dir.path().join("predictions.jsonl");
/// std::fs::write(
///     &path,
///     "{\"id\": 1, \"golden_answers\": [\"Eiffel Tower\"], \"prediction\": \"The big Eiffel Tower\"}\n",
/// )?;
/// let strict = score_predictions(&path, &Protocol::strict())?;
/// assert!(!strict[0].exact_match && strict[0].cover_exact_match);
/// assert!(score_predictions(&path, &Protocol::zs_compat())?[0].exact_match);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn open_predictions(
    path: &Path,
    protocol: &Protocol,
) -> Result<Rows<QuestionRecord>, DataError> {
    let (stem, rows) = open_question_rows(path)?;
    let protocol = [protocol.clone()];
    let score = move |row: Fields, context: &mut RowContext<'_>| {
        Ok(score_row(&row, context, &stem, &protocol)?.pop())
    };
    Ok(rows.try_filter_map(score))
}

/// Records of one row, one a protocol.
fn score_row(
    row: &Fields,
    context: &mut RowContext<'_>,
    stem: &str,
    protocols: &[Protocol],
) -> Result<Vec<QuestionRecord>, RowError> {
    let question = scored_question(row, context, stem)?;
    if let Some(text) = text(row, "transcript")? {
        let prompt = row.get("prompt").and_then(Value::as_str);
        let dump = Dump::parse(&text, prompt, &question.text);
        let prompt = if dump.prompt.is_empty() { prompt.unwrap_or_default() } else { &dump.prompt };
        let score = |it| QuestionRecord::of_transcript(&question, &dump.transcript, prompt, it);
        return Ok(protocols.iter().map(score).collect());
    }
    if !row.contains_key("prediction") && !row.contains_key("transcript") {
        return Err(RowError::Missing { field: "prediction", alternatives: "transcript" });
    }
    let prediction = text(row, "prediction")?;
    if let Some(text) = &prediction {
        note_prediction(text, context);
    }
    let score = |it| QuestionRecord::of_prediction(&question, prediction.clone(), it);
    Ok(protocols.iter().map(score).collect())
}

/// Reads a text, or a number as text; `None` when it is null or missing.
fn text(row: &Fields, field: &str) -> Result<Option<String>, RowError> {
    match row.get(field) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.clone())),
        Some(Value::Number(number)) => Ok(Some(number.to_string())),
        Some(other) => Err(RowError::WrongType {
            field: field.to_owned(),
            expected: "a text or null",
            found: match other {
                Value::Bool(_) => "a truth value",
                Value::Array(_) => "a list",
                _ => "an object",
            },
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn score(rows: &str, protocol: &str) -> Result<Vec<QuestionRecord>, String> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("p.jsonl");
        std::fs::write(&path, rows).unwrap();
        score_predictions(&path, &protocol.parse().unwrap()).map_err(|it| it.to_string())
    }

    #[track_caller]
    fn check(row: &str, protocol: &str, prediction: Option<&str>, is_exact: bool) {
        let record = score(row, protocol).unwrap().remove(0);
        assert_eq!(record.prediction.as_deref(), prediction, "{row}");
        assert_eq!(record.exact_match, is_exact, "{row}");
    }

    #[test]
    fn predictions_and_transcripts() {
        let row = r#"{"golden_answers":["Paris"],"prediction":"paris."}"#;
        check(row, "strict", Some("paris."), true);
        let row = r#"{"golden_answers":"1999","prediction":1999}"#;
        check(row, "strict", Some("1999"), true);
        let row = r#"{"golden_answers":["Beijing"],"prediction":null}"#;
        check(row, "strict", None, false);
        check(row, "zs-compat", Some("Beijing"), true);
        let row = r#"{"golden_answers":["Ulm"],"transcript":"<search>q</search><information><answer>Ulm</answer></information> hm","prediction":"x"}"#;
        check(row, "strict", None, false);
        check(row, "zs-compat", Some("Ulm"), true);
        let row = r#"{"golden_answers":["and"],"prompt":"P <answer>x</answer> ","transcript":"P <answer>x</answer> hm"}"#;
        check(row, "strict", None, false);
        check(row, "strict + prompt-answers", Some("Beijing"), false);
        check(r#"{"golden_answers":["", "b"],"prediction":""}"#, "strict", Some(""), true);
        check(r#"{"golden_answers":[],"prediction":"x"}"#, "strict", Some("x"), false);
        let row = r#"{"possible_answers":"[\"novelist\", \"writer\"]","prediction":"novelist"}"#;
        check(row, "strict", Some("novelist"), true);
        let row =
            r#"{"Golden_Answers":"['the north', \"the cape's north\"]","Prediction":"the north"}"#;
        check(row, "strict", Some("the north"), true);
        let row = r#"{"answer":"array(['7', None], dtype=object)","prediction":7}"#;
        check(row, "strict", Some("7"), true);
    }

    #[test]
    fn ids_of_merged_sets_are_told_apart() {
        let row = |set: &str| {
            format!(
                "{{\"id\":0,\"data_source\":\"{set}\",\"answer\":\"a\",\"prediction\":\"a\"}}\n"
            )
        };
        let records = score(&(row("nq") + &row("popqa")), "strict").unwrap();
        let ids: Vec<&str> = records.iter().map(|it| it.id.as_str()).collect();
        assert_eq!(ids, ["nq:0", "popqa:0"]);
    }

    #[track_caller]
    fn check_refuses(rows: &str, expected: &str) {
        let message = score(rows, "strict").unwrap_err();
        assert!(message.contains("p.jsonl") && message.contains(expected), "{message}");
    }

    #[test]
    fn names_row_and_field() {
        check_refuses("", "holds no question");
        check_refuses("{\"golden_answers\":[\"a\"]}", "row 1: field `prediction` is missing");
        check_refuses("\n{\"prediction\":\"a\"}", "row 2: field `golden_answers` is missing");
        check_refuses(
            "{\"answer\":\"a\",\"prediction\":[1]}",
            "row 1: field `prediction` is a list",
        );
    }
}
