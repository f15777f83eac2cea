//! Questions in the forms that public datasets use.

pub(crate) mod fields;
mod ids;
mod plain;
mod source;

use std::path::Path;

use serde_json::{Map, Value};
use zs_core::Question;

use crate::{DataError, RowReader, Rows};

pub use fields::{note_prediction, scored_question};
pub use ids::{DistinctQuestions, distinct_ids, distinct_questions};
pub use source::{QuestionFile, QuestionSet, QuestionSource, register_question_sources};

/// Top-level columns that questions and predictions are made of; of Parquet files, others are not
/// read at all.
const COLUMNS: [&str; 24] = [
    "id",
    "_id",
    "question",
    "query",
    "prompt",
    "golden_answers",
    "answer",
    "answers",
    "possible_answers",
    "answer_aliases",
    "reward_model",
    "extra_info",
    "hops",
    "gold_titles",
    "supporting_facts",
    "question_decomposition",
    "paragraphs",
    "metadata",
    "data_source",
    "dataset",
    "type",
    "prediction",
    "transcript",
    "turns",
];

/// Fields of one row.
pub type Fields = Map<String, Value>;

/// Reads every question of a file. See [`open_questions`] for the forms that it may have, and
/// [`read_question_set`] for what the reader decided.
///
/// # Errors
///
/// Fails on the first row that is not a question, and on a file that holds none, naming file, row
/// and field. Results are compared by id: an id that occurs twice in a data source is an error.
/// Ids that restart in another data source are all prefixed with `data_source` and a colon.
///
/// ```
/// # let dir = tempfile::tempdir()?;
/// # let path = dir.path().join("trivia.jsonl");
/// std::fs::write(&path, "{\"question\": \"who wrote Dune?\", \"answer\": [\"Frank Herbert\"]}\n")?;
/// let questions = zs_data::read_questions(&path)?;
/// assert_eq!(questions[0].id, "trivia-1");
/// assert_eq!(questions[0].golden_answers, ["Frank Herbert"]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn read_questions(path: &Path) -> Result<Vec<Question>, DataError> {
    Ok(read_question_set(path, false)?.questions)
}

/// Reads the questions of a file, with decisions of the reader and, where `skip_bad_rows` is set,
/// without the rows that are malformed or repeat an id.
///
/// # Errors
///
/// As [`read_questions`]; with `skip_bad_rows`, only where the file cannot be read to its end or holds
/// no valid row.
///
/// ```
/// # let dir = tempfile::tempdir()?;
/// # let path = dir.path().join("trivia.jsonl");
/// std::fs::write(&path, r#"{"question": "who wrote Dune?", "answer": "['Frank Herbert']"}"#)?;
/// let set = zs_data::read_question_set(&path, false)?;
/// assert_eq!(set.questions[0].golden_answers, ["Frank Herbert"]);
/// assert_eq!(set.notes[0].kind, zs_data::NoteKind::ListInText);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn read_question_set(path: &Path, skip_bad_rows: bool) -> Result<QuestionSet, DataError> {
    let rows = open_questions(path)?.try_map(|question, row| Ok((question, row)));
    let (rows, report) = rows.collect_reported(skip_bad_rows)?;
    ids::question_set(rows, report, path, skip_bad_rows)
}

/// Opens a file of questions, for reading one at a time, in any format of [`RowReader`].
///
/// Fields are looked for in this order:
///
/// | of [`Question`] | taken from |
/// |---|---|
/// | `id` | `id` or `_id` (text or whole number), `extra_info.index` where it is text, else `<file stem>-<index of the row>` |
/// | `text` | `question`, `extra_info.question`, `extra_info.tools_kwargs.search.create_kwargs.question`, `query`, else the last user message of `prompt`, or `prompt` |
/// | `golden_answers` | `golden_answers`, `answer`, `answers`, `possible_answers`, `reward_model.ground_truth.target`, `reward_model.ground_truth`; then `answer_aliases` |
/// | `hops` | `hops`, else `MuSiQue`'s `question_decomposition`, else the number of supporting titles |
/// | `gold_titles` | `gold_titles`, else the titles of `supporting_facts`, else of the `paragraphs` that say `is_supporting` |
/// | `data_source` | `data_source`, `dataset` |
/// | `question_type` | `type` |
///
/// Names of fields may have any case. `metadata.` is looked into where a field is not at the top
/// (FlashRAG). Answers are a text, a number, a list of these, SQuAD's `{"text": [..]}` or TriviaQA's
/// `{"value", "aliases"}`; a text is split at `<|answer_split|>`. A list or object may be written
/// inside a text, as JSON, Python or numpy print it, in every format. Of a `prompt`, the instruction of
/// Search-R1 and ZeroSearch is removed. Supporting facts are HotpotQA's, as `{"title": [..]}` or
/// `[[title, sentence], ..]`. Other fields are ignored. [`Rows::notes`] counts what was decided.
///
/// A numeric `extra_info.index` is not an identifier: Search-R1's merged sets restart it for each
/// source. Ids are not compared here; [`read_questions`] does.
///
/// ```
/// # let dir = tempfile::tempdir()?;
/// # let path = dir.path().join("nq.csv");
/// // DPR: tabs in spite of the name, no header, answers as Python prints a list.
/// std::fs::write(&path, "who wrote Dune?\t['Frank Herbert', \"F. Herbert\"]\n")?;
/// for question in zs_data::open_questions(&path)? {
///     assert_eq!(question?.golden_answers, ["Frank Herbert", "F. Herbert"]);
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
///
/// As [`RowReader::open`].
pub fn open_questions(path: &Path) -> Result<Rows<Question>, DataError> {
    let (stem, rows) = open_question_rows(path)?;
    Ok(rows.try_filter_map(move |row, context| fields::question(&row, context, &stem).map(Some)))
}

/// Opens a file of questions or predictions, for reading the fields of one row at a time, and gives
/// the name of the file without its extensions, which ids default to. Fields have their plain names,
/// and hold the lists that are written inside texts.
///
/// # Errors
///
/// As [`RowReader::open`].
pub fn open_question_rows(path: &Path) -> Result<(String, Rows<Fields>), DataError> {
    let rows = RowReader::new("question").with_columns(&COLUMNS).open::<Fields>(path)?;
    let rows = rows.try_filter_map(|row, context| Ok(Some(plain::plain_fields(row, context))));
    Ok((stem(path), rows))
}

/// Opens a file of episodes for reading the fields of one row at a time, as [`open_question_rows`]
/// does, but with all columns.
///
/// # Errors
///
/// As [`RowReader::open`].
pub fn open_episode_rows(path: &Path) -> Result<(String, Rows<Fields>), DataError> {
    let rows = RowReader::new("episode").open::<Fields>(path)?;
    let rows = rows.try_filter_map(|row, context| Ok(Some(plain::plain_fields(row, context))));
    Ok((stem(path), rows))
}

/// Name of a file without the extensions of compression and format.
fn stem(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let lower = name.to_ascii_lowercase();
    let packed = [".gz", ".zst"].iter().find(|it| lower.ends_with(*it)).map_or(0, |it| it.len());
    let name = &name[..name.len() - packed];
    name.rsplit_once('.').map_or(name, |it| it.0).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_formats_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["questions.xlsx", "questions", "questions.gz"] {
            let path = dir.path().join(name);
            std::fs::write(&path, "PK question,answer").unwrap();
            let message = read_questions(&path).unwrap_err().to_string();
            assert!(message.contains(name) && message.contains(".parquet"), "{message}");
        }
    }

    #[test]
    fn bad_rows_are_left_out_and_counted() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("q.jsonl");
        let good = |id: &str| format!("{{\"id\":\"{id}\",\"question\":\"?\",\"answer\":\"a\"}}\n");
        let text = good("1") + "{\"id\":\"2\"\n" + &good("1") + "{\"id\":\"4\"}\n" + &good("5");
        std::fs::write(&path, text).unwrap();
        let QuestionSet { questions, skipped, .. } = read_question_set(&path, true).unwrap();
        assert_eq!(questions.iter().map(|it| it.id.as_str()).collect::<Vec<_>>(), ["1", "5"]);
        assert_eq!(skipped.count, 3);
        assert!(skipped.first.unwrap().to_string().contains("row 2: not a question"));
        assert!(read_questions(&path).unwrap_err().to_string().contains("row 2"));
        assert!(read_question_set(&dir.path().join("none.jsonl"), true).is_err());
    }

    #[test]
    fn the_shared_type_reads_back() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("world.ndjson");
        let mut question = Question::new("w-1", "Who?", ["A", "B"]);
        question.hops = Some(2);
        question.gold_titles = vec!["T".into(), "U".into()];
        question.data_source = Some("world".into());
        question.question_type = Some("bridge".into());
        std::fs::write(&path, serde_json::to_string(&question).unwrap()).unwrap();
        assert_eq!(read_questions(&path).unwrap(), [question]);
    }
}
