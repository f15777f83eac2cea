//! Reading a corpus of documents from JSON Lines.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};

use serde::Deserialize;
use zs_core::Document;

/// Why a corpus could not be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CorpusError {
    /// The file cannot be opened or read.
    #[error("{path}: cannot be read", path = path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's own error.
        #[source]
        source: std::io::Error,
    },
    /// A row is not UTF-8.
    #[error("{path}, row {row}: not UTF-8", path = path.display())]
    NotUtf8 {
        /// The file.
        path: PathBuf,
        /// The row, from 1.
        row: usize,
    },
    /// A row is not a JSON object of strings.
    #[error("{path}, row {row}: not a JSON object of a document", path = path.display())]
    Row {
        /// The file.
        path: PathBuf,
        /// The row, from 1.
        row: usize,
        /// The parser's own error.
        #[source]
        source: serde_json::Error,
    },
    /// A row lacks its text.
    #[error(
        "{path}, row {row}: no field `text` or `contents`; write \
         {{\"id\", \"title\", \"text\"}} or {{\"id\", \"contents\"}}",
        path = path.display()
    )]
    NoText {
        /// The file.
        path: PathBuf,
        /// The row, from 1.
        row: usize,
    },
    /// There is no row at all.
    #[error("{path}: the corpus has no documents", path = path.display())]
    Empty {
        /// The file.
        path: PathBuf,
    },
}

/// Reads a corpus: one JSON object a line, `{"id", "title", "text"}`, or `{"id", "contents"}` with
/// `"Title"\nText` as contents, the form of Search-R1's Wikipedia dump.
///
/// Blank lines are passed over; other fields are ignored; `id` may be a number.
///
/// # Errors
///
/// Fails at the first row that is malformed, and when there is none.
pub fn read_corpus(path: &Path) -> Result<Vec<Document>, CorpusError> {
    let unreadable = |source| CorpusError::Read { path: path.to_owned(), source };
    let mut reader = BufReader::new(File::open(path).map_err(unreadable)?);
    let mut documents = Vec::new();
    let mut bytes = Vec::new();
    for row in 1.. {
        bytes.clear();
        if reader.read_until(b'\n', &mut bytes).map_err(unreadable)? == 0 {
            break;
        }
        let line = std::str::from_utf8(&bytes)
            .map_err(|_| CorpusError::NotUtf8 { path: path.to_owned(), row })?;
        if line.trim().is_empty() {
            continue;
        }
        let value: Row = serde_json::from_str(line).map_err(|source| CorpusError::Row {
            path: path.to_owned(),
            row,
            source,
        })?;
        let document = value.into_document();
        documents.push(document.ok_or(CorpusError::NoText { path: path.to_owned(), row })?);
    }
    if documents.is_empty() {
        return Err(CorpusError::Empty { path: path.to_owned() });
    }
    Ok(documents)
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
    fn into_document(self) -> Option<Document> {
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
            (None, None) => return None,
        };
        Some(Document { id, title: self.title.unwrap_or(title), text, score: None })
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
        check(b"", Err("no documents"));
        check(b"\n  \n", Err("no documents"));
        check(b"{\"text\":\"x\"}\n{\"id\":\"a\"}\n", Err("row 2: no field `text`"));
        check(b"{\"text\":\"x\"}\n{oops\n", Err("row 2: not a JSON object"));
        check(b"{\"text\":\"x\"}\n\xff\xfe\n", Err("row 2: not UTF-8"));
        let missing = read_corpus(Path::new("no-such-corpus.jsonl")).unwrap_err();
        assert!(missing.to_string().starts_with("no-such-corpus.jsonl"));
    }
}
