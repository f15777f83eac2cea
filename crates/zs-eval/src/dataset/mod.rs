//! Question files: JSON Lines and Parquet in the forms that public datasets use.

mod error;
mod fields;
mod json_lines;
mod parquet;

use std::collections::BTreeMap;
use std::path::Path;

use zs_core::Question;

pub use error::{DatasetError, RowError};

/// Reads every question of a file, picking the reader by extension: `.jsonl` or `.ndjson` for JSON
/// Lines, `.parquet` for Parquet.
///
/// Both hold one question a row. Fields are looked for in this order:
///
/// | of [`Question`] | taken from |
/// |---|---|
/// | `id` | `id` or `_id` (text or whole number), `extra_info.index` where it is text, else `<file stem>-<row>` |
/// | `text` | `question`, else the last user message of `prompt` |
/// | `golden_answers` | `golden_answers`, `answer`, `answers`, `reward_model.ground_truth.target`, `reward_model.ground_truth` |
/// | `hops` | `hops`, else the number of supporting titles |
/// | `gold_titles` | `gold_titles`, else the titles of `supporting_facts` |
///
/// Answers are a text, a whole number, or a list of these; a text is split at
/// `<|answer_split|>`. Supporting facts are HotpotQA's, as `{"title": [..]}` or
/// `[[title, sentence], ..]`. Other fields are ignored. Blank lines of JSON Lines files are skipped.
/// Rows count from 1.
///
/// That covers FlashRAG, NQ-open, HotpotQA, 2WikiMultihopQA, Search-R1, ZeroSearch and
/// DeepResearcher files, and the world that `zs data` exports. A numeric `extra_info.index` is not
/// an identifier: Search-R1's merged sets restart it for each source.
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
    let extension = path.extension().and_then(|it| it.to_str()).map(str::to_ascii_lowercase);
    let rows = match extension.as_deref() {
        Some("jsonl" | "ndjson") => json_lines::read_rows(path)?,
        Some("parquet") => parquet::read_rows(path)?,
        _ => return Err(DatasetError::UnknownFormat { path: path.to_owned() }),
    };
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    let mut questions = Vec::with_capacity(rows.len());
    let mut first_rows = BTreeMap::new();
    for (number, row) in rows {
        let question = fields::question(&row, &format!("{stem}-{number}")).map_err(|error| {
            DatasetError::Row { path: path.to_owned(), row: number, source: error }
        })?;
        if let Some(first) = first_rows.insert(question.id.clone(), number) {
            let source = RowError::DuplicateId { id: question.id, first };
            return Err(DatasetError::Row { path: path.to_owned(), row: number, source });
        }
        questions.push(question);
    }
    if questions.is_empty() {
        return Err(DatasetError::NoQuestions { path: path.to_owned() });
    }
    Ok(questions)
}

/// One row as JSON, with its number in the file, from 1.
type NumberedRow = (usize, serde_json::Map<String, serde_json::Value>);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_extension_decides() {
        for name in ["questions.csv", "questions", "questions.jsonl.gz"] {
            let message = read_questions(Path::new(name)).unwrap_err().to_string();
            assert!(message.starts_with(name) && message.contains(".parquet"), "{message}");
        }
    }

    #[test]
    fn the_shared_type_reads_back() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("world.ndjson");
        let mut question = Question::new("w-1", "Who?", ["A", "B"]);
        question.hops = Some(2);
        question.gold_titles = vec!["T".into(), "U".into()];
        std::fs::write(&path, serde_json::to_string(&question).unwrap()).unwrap();
        assert_eq!(read_questions(&path).unwrap(), [question]);
    }
}
