//! Corpora in the same files as questions: gzipped, arrays, tables, Parquet.

use std::path::Path;

use serde_json::{Map, Value};
use zs_core::Document;

use super::{DatasetError, RowError, rows};

/// Reads the documents of a corpus in any of the forms that [`Questions`](super::Questions) reads.
///
/// A row has `text`, and `title` and `id` where it can; or `contents`, which is a title in quotation
/// marks, a line end and the text (Search-R1).
///
/// # Errors
///
/// Fails on the first row without text, and on a file without rows, naming file, row and field.
pub fn read_documents(path: &Path) -> Result<Vec<Document>, DatasetError> {
    let (_, rows) = rows::open(path)?;
    let mut documents = Vec::new();
    for row in rows {
        let (number, row) = row?;
        let document = document(&row);
        documents.push(document.map_err(|source| DatasetError::Row {
            path: path.to_owned(),
            row: number,
            source,
        })?);
    }
    if documents.is_empty() {
        return Err(DatasetError::NoDocuments { path: path.to_owned() });
    }
    Ok(documents)
}

fn document(row: &Map<String, Value>) -> Result<Document, RowError> {
    let id = match row.get("id").or_else(|| row.get("_id")) {
        Some(Value::String(id)) => id.clone(),
        Some(Value::Number(id)) => id.to_string(),
        _ => String::new(),
    };
    let field = |name: &str| row.get(name).and_then(Value::as_str);
    let (title, text) = match (field("text"), field("contents")) {
        (Some(text), _) => (field("title").unwrap_or_default(), text),
        (None, Some(contents)) => match contents.split_once('\n') {
            Some((title, text)) => (title.trim().trim_matches('"'), text),
            None => ("", contents),
        },
        (None, None) => {
            return Err(RowError::Missing { field: "text", alternatives: "contents" });
        }
    };
    Ok(Document { id, ..Document::new(title, text) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(name: &str, contents: &str, expected: Result<(&str, &str, &str), &str>) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(name);
        std::fs::write(&path, contents).unwrap();
        match (read_documents(&path), expected) {
            (Ok(documents), Ok((id, title, text))) => {
                let expected = Document { id: id.to_owned(), ..Document::new(title, text) };
                assert_eq!(documents[0], expected);
            }
            (Err(error), Err(expected)) => {
                let message = error.to_string();
                assert!(message.contains(name) && message.contains(expected), "{message}");
            }
            (read, expected) => panic!("{read:?} is not {expected:?}"),
        }
    }

    #[test]
    fn reads_corpora() {
        check("c.json", r#"[{"title": "T", "text": "x"}]"#, Ok(("", "T", "x")));
        check("c.jsonl", r#"{"id": 7, "contents": "\"T\"\nx\ny"}"#, Ok(("7", "T", "x\ny")));
        // DPR's passages, whose header calls the question's column something else.
        check("c.tsv", "id\ttext\ttitle\n1\t\"x \"\"y\"\"\"\tT\n", Ok(("1", "T", "x \"y\"")));
        check("c.json", "[]", Err("holds no document"));
        check("c.jsonl", "{}", Err("row 1: field `text` is missing"));
    }
}
