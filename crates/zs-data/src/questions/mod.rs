//! Questions in the forms that public datasets use.

mod fields;
mod source;

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::{Map, Value};
use zs_core::Question;

use crate::{DataError, RowError, RowReader, Rows, SkippedRows};

pub use fields::scored_question;
pub use source::{QuestionFile, QuestionSet, QuestionSource, register_question_sources};

/// Top-level columns that questions and predictions are made of; of Parquet files, others are not
/// read at all.
const COLUMNS: [&str; 22] = [
    "id",
    "_id",
    "question",
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
];

/// Fields of one row.
pub type Fields = Map<String, Value>;

/// Reads every question of a file. See [`open_questions`] for the forms that it may have.
///
/// # Errors
///
/// Fails on the first row that is not a question, and on a file that holds none, naming file, row
/// and field. An id that occurs twice is an error too, since results are compared by id.
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
    distinct(open_questions(path)?).collect_all()
}

/// Reads the questions of a file without the rows that are malformed or repeat an id.
///
/// # Errors
///
/// Fails on a file that cannot be read to its end, and on one that holds no valid row.
pub fn read_valid_questions(path: &Path) -> Result<(Vec<Question>, SkippedRows), DataError> {
    distinct(open_questions(path)?).collect_valid()
}

/// Makes an id that an earlier row has an error.
fn distinct(questions: Rows<Question>) -> Rows<Question> {
    let mut first_rows: BTreeMap<String, usize> = BTreeMap::new();
    questions.try_map(move |question, row| match first_rows.get(&question.id) {
        Some(&first) => Err(RowError::DuplicateId { id: question.id, first }),
        None => {
            first_rows.insert(question.id.clone(), row);
            Ok(question)
        }
    })
}

/// Opens a file of questions, for reading one at a time, in any format of [`RowReader`].
///
/// Fields are looked for in this order:
///
/// | of [`Question`] | taken from |
/// |---|---|
/// | `id` | `id` or `_id` (text or whole number), `extra_info.index` where it is text, else `<file stem>-<row>` |
/// | `text` | `question`, else the last user message of `prompt` |
/// | `golden_answers` | `golden_answers`, `answer`, `answers`, `possible_answers`, `reward_model.ground_truth.target`, `reward_model.ground_truth`; then `answer_aliases` |
/// | `hops` | `hops`, else `MuSiQue`'s `question_decomposition`, else the number of supporting titles |
/// | `gold_titles` | `gold_titles`, else the titles of `supporting_facts`, else of the `paragraphs` that say `is_supporting` |
/// | `data_source` | `data_source`, `dataset` |
/// | `question_type` | `type` |
///
/// `metadata.` is looked into where a field is not at the top (FlashRAG). Answers are a text, a whole
/// number, or a list of these; a text is split at `<|answer_split|>`, and in CSV and TSV a list may
/// be written as JSON or as Python prints it. Supporting facts are HotpotQA's, as `{"title": [..]}`
/// or `[[title, sentence], ..]`. Other fields are ignored.
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
    Ok(rows.try_map(move |fields, row| fields::question(&fields, &format!("{stem}-{row}"))))
}

/// Opens a file of questions or predictions, for reading the fields of one row at a time, and gives
/// the name of the file without its extensions, which ids default to.
///
/// # Errors
///
/// As [`RowReader::open`].
pub fn open_question_rows(path: &Path) -> Result<(String, Rows<Fields>), DataError> {
    let rows = RowReader::new("question").with_columns(&COLUMNS).open(path)?;
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
        let (questions, skipped) = read_valid_questions(&path).unwrap();
        assert_eq!(questions.iter().map(|it| it.id.as_str()).collect::<Vec<_>>(), ["1", "5"]);
        assert_eq!(skipped.count, 3);
        assert!(skipped.first.unwrap().to_string().contains("row 2: not a question"));
        assert!(read_questions(&path).unwrap_err().to_string().contains("row 2"));
        assert!(read_valid_questions(&dir.path().join("none.jsonl")).is_err());
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
