//! One JSON array of objects, taken apart element by element so that it never is in memory whole.

use std::io::BufRead;
use std::path::{Path, PathBuf};

use super::text::Text;
use super::{DatasetError, NumberedRow, RowError, Rows, json_lines};

/// The rows of a `.json` file: elements of its array, or its lines where it opens with an object,
/// as files of JSON Lines under another name do.
pub(super) fn rows_or_lines(path: &Path, mut text: Text) -> Result<Rows, DatasetError> {
    let unreadable = |source| DatasetError::Read { path: path.to_owned(), source };
    match peek(&mut text).map_err(unreadable)? {
        Some(b'[') => {
            text.consume(1);
            Ok(Box::new(Elements { path: path.to_owned(), text, number: 0, is_over: false }))
        }
        _ => Ok(Box::new(json_lines::rows(path, text))),
    }
}

struct Elements {
    path: PathBuf,
    text: Text,
    number: usize,
    is_over: bool,
}

impl Iterator for Elements {
    type Item = Result<NumberedRow, DatasetError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.is_over {
            return None;
        }
        let row = self.element();
        // What follows a broken element cannot be found again.
        self.is_over = !matches!(row, Some(Ok(_)));
        row
    }
}

impl Elements {
    fn element(&mut self) -> Option<Result<NumberedRow, DatasetError>> {
        let result = self.next_bytes();
        let number = self.number;
        let failed = |source| DatasetError::Row { path: self.path.clone(), row: number, source };
        let row = match result {
            Ok(None) => return None,
            Ok(Some(bytes)) => serde_json::from_slice(&bytes)
                .map_err(|source| failed(RowError::NotJson { source })),
            Err(Broken::Io(source)) => Err(DatasetError::Read { path: self.path.clone(), source }),
            Err(Broken::Syntax(problem)) => Err(failed(RowError::NotInArray { problem })),
        };
        Some(row.map(|row| (number, row)))
    }

    /// The bytes of the next element; `None` after the closing bracket.
    fn next_bytes(&mut self) -> Result<Option<Vec<u8>>, Broken> {
        let is_first = self.number == 0;
        self.number += 1;
        match peek(&mut self.text)? {
            Some(b']') => return Ok(None),
            Some(b',') if !is_first => {
                self.text.consume(1);
                peek(&mut self.text)?;
            }
            Some(_) if is_first => {}
            Some(_) => return Err(Broken::Syntax("expected `,` or `]` before it")),
            None => return Err(Broken::Syntax("the file ends before the array does")),
        }
        let mut bytes = Vec::new();
        let (mut depth, mut in_text, mut is_escaped) = (0_usize, false, false);
        loop {
            let buffer = self.text.fill_buf()?;
            if buffer.is_empty() {
                return Err(Broken::Syntax("the file ends before the array does"));
            }
            let mut taken = 0;
            let mut is_done = false;
            for &byte in buffer {
                if !in_text && depth == 0 && matches!(byte, b',' | b']') {
                    is_done = true;
                    break;
                }
                taken += 1;
                match byte {
                    _ if is_escaped => is_escaped = false,
                    b'\\' if in_text => is_escaped = true,
                    b'"' => in_text = !in_text,
                    b'{' | b'[' if !in_text => depth += 1,
                    b'}' | b']' if !in_text => depth = depth.saturating_sub(1),
                    _ => {}
                }
            }
            bytes.extend_from_slice(&buffer[..taken]);
            self.text.consume(taken);
            if is_done {
                return Ok(Some(bytes));
            }
        }
    }
}

enum Broken {
    Io(std::io::Error),
    Syntax(&'static str),
}

impl From<std::io::Error> for Broken {
    fn from(error: std::io::Error) -> Self {
        Self::Io(error)
    }
}

/// The next byte that is no white space, left where it is.
fn peek(text: &mut Text) -> std::io::Result<Option<u8>> {
    loop {
        let buffer = text.fill_buf()?;
        if buffer.is_empty() {
            return Ok(None);
        }
        match buffer.iter().position(|it| !it.is_ascii_whitespace()) {
            Some(at) => {
                let byte = buffer[at];
                text.consume(at);
                return Ok(Some(byte));
            }
            None => {
                let length = buffer.len();
                text.consume(length);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::read_questions;

    fn read(contents: &str) -> Result<Vec<(String, String)>, String> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("q.json");
        std::fs::write(&path, contents).unwrap();
        let questions = read_questions(&path).map_err(|it| it.to_string())?;
        Ok(questions.into_iter().map(|it| (it.id, it.text)).collect())
    }

    #[track_caller]
    fn check(contents: &str, expected: &[(&str, &str)]) {
        let read = read(contents).unwrap();
        let read: Vec<_> = read.iter().map(|(id, text)| (&id[..], &text[..])).collect();
        assert_eq!(read, expected);
    }

    #[test]
    fn elements_are_rows() {
        check(
            "\n [ {\"question\": \"a ] \\\" } é\", \"answer\": \"x\"} ,\n{\"_id\":\"h\",\"question\":\"b\",\"answer\":[\"[\",\"\\\\\"]}\n]\n",
            &[("q-1", "a ] \" } é"), ("h", "b")],
        );
        check(
            "{\"question\":\"a\",\"answer\":1}\n\n{\"question\":\"b\",\"answer\":2}",
            &[("q-1", "a"), ("q-3", "b")],
        );
    }

    #[track_caller]
    fn check_refuses(contents: &str, expected: &str) {
        let message = read(contents).unwrap_err();
        assert!(message.contains("q.json") && message.contains(expected), "{message}");
    }

    #[test]
    fn names_the_element() {
        const GOOD: &str = r#"{"question":"q","answer":"x"}"#;
        check_refuses("[]", "holds no question");
        check_refuses("", "holds no question");
        check_refuses("7", "row 1: not a JSON object");
        check_refuses(&format!("[{GOOD}, 7]"), "row 2: not a JSON object");
        check_refuses(&format!("[{GOOD}, ]"), "row 2: not a JSON object");
        check_refuses(&format!("[{GOOD} {GOOD}]"), "row 1: not a JSON object");
        check_refuses(&format!("[{GOOD}"), "the file ends before the array does");
        check_refuses(&format!("[{GOOD}, {{\"question\": \"q"), "row 2: the file ends");
        check_refuses(
            &format!("[{GOOD}, {{\"question\":\"q\"}}]"),
            "row 2: field `golden_answers`",
        );
    }
}
