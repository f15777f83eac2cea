//! JSON Lines: one object a line.

use std::io::BufRead;
use std::path::{Path, PathBuf};

use super::text::Text;
use super::{DatasetError, NumberedRow, RowError};

/// The rows of a JSON Lines file, numbered by line.
pub(super) fn rows(path: &Path, text: Text) -> Lines {
    Lines { path: path.to_owned(), text, line: Vec::new(), number: 0 }
}

pub(super) struct Lines {
    path: PathBuf,
    text: Text,
    line: Vec<u8>,
    number: usize,
}

impl Iterator for Lines {
    type Item = Result<NumberedRow, DatasetError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            self.line.clear();
            match self.text.read_until(b'\n', &mut self.line) {
                Ok(0) => return None,
                Ok(_) => self.number += 1,
                Err(source) => {
                    return Some(Err(DatasetError::Read { path: self.path.clone(), source }));
                }
            }
            let row = match std::str::from_utf8(&self.line).map(str::trim) {
                Ok("") => continue,
                Ok(line) => {
                    serde_json::from_str(line).map_err(|source| RowError::NotJson { source })
                }
                Err(_) => Err(RowError::NotUtf8 { place: "the line".to_owned() }),
            };
            let number = self.number;
            return Some(row.map(|row| (number, row)).map_err(|source| DatasetError::Row {
                path: self.path.clone(),
                row: number,
                source,
            }));
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::read_questions;

    #[track_caller]
    fn check_refuses(contents: &[u8], expected: &str) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("q.jsonl");
        std::fs::write(&path, contents).unwrap();
        let message = read_questions(&path).unwrap_err().to_string();
        assert!(message.contains("q.jsonl"), "{message}");
        assert!(message.contains(expected), "`{message}` does not say `{expected}`");
        assert!(!message.contains('\n'), "{message}");
    }

    const GOOD: &str = r#"{"id":"a","question":"q","answer":"x"}"#;

    #[test]
    fn names_the_row() {
        check_refuses(b"", "holds no question");
        check_refuses(b"\n \n", "holds no question");
        check_refuses(format!("{GOOD}\n\n[1]\n").as_bytes(), "row 3: not a JSON object");
        check_refuses(format!("{GOOD}\n{{\"question\":\n").as_bytes(), "row 2: not a JSON object");
        check_refuses(
            format!("{GOOD}\n{GOOD}\n").as_bytes(),
            "row 2: field `id` is `a`, as in row 1",
        );
        check_refuses(b"{\"question\":\"q\",\"answer\":\"\xFF\"}", "row 1: the line is not UTF-8");
        check_refuses(b"{\"question\":\"q\"}", "row 1: field `golden_answers` is missing");
    }

    #[test]
    fn missing_files_are_named() {
        let message = read_questions("nowhere/q.jsonl".as_ref()).unwrap_err().to_string();
        assert!(message.contains("nowhere/q.jsonl"), "{message}");
    }

    #[test]
    fn rows_are_lines() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("q.jsonl");
        let text = "\u{feff}{\"question\":\"é\",\"answer\":\"x\"}\r\n\r\n{\"question\":\"r\",\"answer\":\"y\"}";
        std::fs::write(&path, text).unwrap();
        let questions = read_questions(&path).unwrap();
        let ids: Vec<&str> = questions.iter().map(|it| it.id.as_str()).collect();
        assert_eq!(ids, ["q-1", "q-3"]);
        assert_eq!(questions[0].text, "é");
    }
}
