//! Question files in the forms that public datasets use: JSON Lines, JSON arrays, CSV, TSV and
//! Parquet, plain or gzipped, one row at a time.

mod delimited;
mod documents;
mod error;
mod fields;
mod json_array;
mod json_lines;
mod list_literal;
mod parquet;
mod rows;
mod text;

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use zs_core::Question;

pub use documents::read_documents;
pub use error::{DatasetError, RowError};
pub(crate) use fields::scored_answers;

/// Reads every question of a file. See [`Questions`] for the forms that it may have.
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
/// let questions = zs_eval::read_questions(&path)?;
/// assert_eq!(questions[0].id, "trivia-1");
/// assert_eq!(questions[0].golden_answers, ["Frank Herbert"]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn read_questions(path: &Path) -> Result<Vec<Question>, DatasetError> {
    let mut questions = Vec::new();
    read_each(path, |question| {
        questions.push(question?);
        Ok(())
    })?;
    not_empty(path, questions)
}

/// Reads the questions of a file, leaving out rows that are not one; these are returned beside them.
///
/// # Errors
///
/// Fails on a file that cannot be read at all, and on one that holds no sound row.
pub fn read_sound_questions(
    path: &Path,
) -> Result<(Vec<Question>, Vec<DatasetError>), DatasetError> {
    let (mut questions, mut bad_rows) = (Vec::new(), Vec::new());
    read_each(path, |question| {
        match question {
            Ok(question) => questions.push(question),
            Err(error @ DatasetError::Row { .. }) => bad_rows.push(error),
            Err(error) => return Err(error),
        }
        Ok(())
    })?;
    Ok((not_empty(path, questions)?, bad_rows))
}

/// Hands out each question; one whose id was there before is an error.
fn read_each(
    path: &Path,
    mut take: impl FnMut(Result<Question, DatasetError>) -> Result<(), DatasetError>,
) -> Result<(), DatasetError> {
    let mut rows = Questions::open(path)?;
    let mut first_rows: BTreeMap<String, usize> = BTreeMap::new();
    while let Some(question) = rows.next() {
        let row = rows.row();
        let unique = question.and_then(|question| match first_rows.get(&question.id) {
            None => {
                first_rows.insert(question.id.clone(), row);
                Ok(question)
            }
            Some(&first) => {
                let source = RowError::DuplicateId { id: question.id, first };
                Err(DatasetError::Row { path: path.to_owned(), row, source })
            }
        });
        take(unique)?;
    }
    Ok(())
}

fn not_empty(path: &Path, questions: Vec<Question>) -> Result<Vec<Question>, DatasetError> {
    match questions.is_empty() {
        true => Err(DatasetError::NoQuestions { path: path.to_owned() }),
        false => Ok(questions),
    }
}

/// The questions of a file, one at a time, so that a file may be larger than memory.
///
/// The extension says what the file holds; a further `.gz` says that it is gzipped:
///
/// | extension | one question a | row numbers in errors |
/// |---|---|---|
/// | `.jsonl`, `.ndjson` | line (JSON Lines); blank lines are passed over | line, from 1 |
/// | `.json` | element of one array (`HippoRAG`, `HotpotQA`, `2WikiMultihopQA`), or line | element or line, from 1 |
/// | `.csv`, `.tsv` | record, with a header (`PopQA`) or without (DPR: question, answers) | line, from 1 |
/// | `.parquet` | row (Search-R1, `ZeroSearch`, `DeepResearcher`) | row, from 1 |
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
/// for question in zs_eval::Questions::open(&path)? {
///     assert_eq!(question?.golden_answers, ["Frank Herbert", "F. Herbert"]);
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Questions {
    path: PathBuf,
    stem: String,
    rows: Rows,
    row: usize,
}

impl Questions {
    /// Opens a file.
    ///
    /// # Errors
    ///
    /// Fails on a file that is missing, and on an extension that says nothing about the form.
    pub fn open(path: &Path) -> Result<Self, DatasetError> {
        let (stem, rows) = rows::open(path)?;
        Ok(Self { path: path.to_owned(), stem, rows, row: 0 })
    }

    /// The row of the last question, or error, that the iterator gave.
    #[must_use]
    pub fn row(&self) -> usize {
        self.row
    }
}

impl Iterator for Questions {
    type Item = Result<Question, DatasetError>;

    fn next(&mut self) -> Option<Self::Item> {
        let (row, fields) = match self.rows.next()? {
            Ok(row) => row,
            Err(error) => return Some(Err(error)),
        };
        self.row = row;
        let question = fields::question(&fields, &format!("{}-{row}", self.stem));
        Some(question.map_err(|source| DatasetError::Row { path: self.path.clone(), row, source }))
    }
}

impl fmt::Debug for Questions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Questions")
            .field("path", &self.path)
            .field("row", &self.row)
            .finish_non_exhaustive()
    }
}

/// One row as JSON, with its number in the file, from 1.
pub(crate) type NumberedRow = (usize, serde_json::Map<String, serde_json::Value>);

/// The rows of a file, whichever its form.
pub(crate) type Rows = Box<dyn Iterator<Item = Result<NumberedRow, DatasetError>>>;

pub(crate) use rows::open as open_rows;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_extension_decides() {
        for name in ["questions.xlsx", "questions", "questions.gz"] {
            let message = read_questions(Path::new(name)).unwrap_err().to_string();
            assert!(message.starts_with(name) && message.contains(".parquet"), "{message}");
        }
    }

    #[test]
    fn bad_rows_are_left_out_and_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("q.jsonl");
        let good = |id: &str| format!("{{\"id\":\"{id}\",\"question\":\"?\",\"answer\":\"a\"}}\n");
        let text = good("1") + "{\"id\":\"2\"\n" + &good("1") + "{\"id\":\"4\"}\n" + &good("5");
        std::fs::write(&path, text).unwrap();
        let (questions, bad_rows) = read_sound_questions(&path).unwrap();
        assert_eq!(questions.iter().map(|it| it.id.as_str()).collect::<Vec<_>>(), ["1", "5"]);
        let rows: Vec<String> = bad_rows.iter().map(ToString::to_string).collect();
        assert_eq!(rows.len(), 3, "{rows:?}");
        for (message, row) in rows.iter().zip(["row 2", "row 3", "row 4"]) {
            assert!(message.contains(row), "{message}");
        }
        assert!(read_questions(&path).unwrap_err().to_string().contains("row 2"));
        assert!(read_sound_questions(&dir.path().join("none.jsonl")).is_err());
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
