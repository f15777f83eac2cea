//! Reading a corpus of documents from JSON Lines.

use std::path::Path;

use serde::Deserialize;
use zs_core::Document;

use crate::jsonl::{JsonLinesError, read_rows};

/// Reads a corpus: one JSON object a line, `{"id", "title", "text"}`, or `{"id", "contents"}` with
/// `"Title"\nText` as contents, the form of Search-R1's Wikipedia dump.
///
/// Blank lines are passed over; other fields are ignored; `id` may be a number.
///
/// # Errors
///
/// Fails at the first row that is malformed, and when there is none.
pub fn read_corpus(path: &Path) -> Result<Vec<Document>, JsonLinesError> {
    read_rows(path, "document", Row::into_document)
}

#[derive(Deserialize)]
struct Row {
    #[serde(default)]
    id: Option<Id>,
    #[serde(default)]
    title: Option<String>,
    text: Option<String>,
    contents: Option<String>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Id {
    Text(String),
    Number(i64),
}

impl Row {
    fn into_document(self) -> Result<Document, String> {
        let id = match self.id {
            Some(Id::Text(id)) => id,
            Some(Id::Number(id)) => id.to_string(),
            None => String::new(),
        };
        let (title, text) = match (self.text, self.contents) {
            (Some(text), _) => (String::new(), text),
            (None, Some(contents)) => match contents.split_once('\n') {
                Some((title, text)) => (title.trim().trim_matches('"').to_owned(), text.to_owned()),
                None => (String::new(), contents),
            },
            (None, None) => {
                return Err("no field `text` or `contents`; write {\"id\", \"title\", \"text\"} \
                            or {\"id\", \"contents\"}"
                    .to_owned());
            }
        };
        Ok(Document { id, title: self.title.unwrap_or(title), text, score: None })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(contents: &[u8], expected: Result<&[(&str, &str, &str)], &str>) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("corpus.jsonl");
        std::fs::write(&path, contents).unwrap();
        match (read_corpus(&path), expected) {
            (Ok(documents), Ok(rows)) => {
                let read: Vec<_> = documents
                    .iter()
                    .map(|it| (it.id.as_str(), it.title.as_str(), it.text.as_str()))
                    .collect();
                assert_eq!(read, rows);
            }
            (Err(error), Err(expected)) => {
                let message = error.to_string();
                assert!(message.contains("corpus.jsonl"), "{message}");
                assert!(message.contains(expected), "{message}");
            }
            (read, expected) => panic!("{read:?} is not {expected:?}"),
        }
    }

    #[test]
    fn reads_both_forms_and_names_what_is_wrong() {
        let rows = b"{\"id\":\"a\",\"title\":\"T\",\"text\":\"x\"}\n\n\
            {\"id\":7,\"contents\":\"\\\"Some Title\\\"\\nBody\\nmore\"}\n{\"contents\":\"plain\"}";
        let read = [("a", "T", "x"), ("7", "Some Title", "Body\nmore"), ("", "", "plain")];
        check(rows, Ok(&read));
        check(b"", Err("no document"));
        check(b"\n  \n", Err("no document"));
        check(b"{\"text\":\"x\"}\n{\"id\":\"a\"}\n", Err("row 2: no field `text`"));
        check(b"{\"text\":\"x\"}\n{oops\n", Err("row 2: not a document"));
        check(b"{\"text\":\"x\"}\n\xff\xfe\n", Err("row 2: not UTF-8"));
        let missing = read_corpus(Path::new("no-such-corpus.jsonl")).unwrap_err();
        assert!(missing.to_string().starts_with("no-such-corpus.jsonl"));
    }
}
