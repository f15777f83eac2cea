//! Lines of a text: one object a line in JSON Lines, one record or a part of one in a table.

use std::io::BufRead;

use super::failure::Failure;
use super::text::Text;
use crate::RowError;

/// Lines of a text, numbered from 1. A line ends at LF, CR LF, or CR.
pub(super) struct Lines {
    text: Text,
    /// The line, with its end.
    pub(super) line: Vec<u8>,
    pub(super) number: usize,
    max_bytes: usize,
    finished_only: bool,
    /// False where a CR without LF is part of its line.
    ends_at_cr: bool,
}

impl Lines {
    /// Starts behind `number` lines that have been passed over.
    pub(super) fn new(text: Text, number: usize, max_bytes: usize, finished_only: bool) -> Self {
        Self { text, line: Vec::new(), number, max_bytes, finished_only, ends_at_cr: true }
    }

    /// Takes a CR without LF for a part of its line, unless `ends_at_cr`.
    pub(super) fn with_ends_at_cr(mut self, ends_at_cr: bool) -> Self {
        self.ends_at_cr = ends_at_cr;
        self
    }

    /// Reads the next line that is not blank; `false` at the end of the text.
    pub(super) fn advance(&mut self) -> Result<bool, Failure> {
        while self.read_line()? {
            let text = without_marks(&self.line);
            if !text.iter().all(u8::is_ascii_whitespace) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Reads the next line; `false` at the end of the text.
    pub(super) fn read_line(&mut self) -> Result<bool, Failure> {
        self.line.clear();
        let (mut is_finished, mut is_too_long) = (false, false);
        while !is_finished {
            let buffer = self.text.fill_buf()?;
            if buffer.is_empty() {
                break;
            }
            let ends_at_cr = self.ends_at_cr;
            let end = buffer.iter().position(|&it| it == b'\n' || ends_at_cr && it == b'\r');
            let count = end.map_or(buffer.len(), |it| it + 1);
            is_too_long |= self.line.len() + count - usize::from(end.is_some()) > self.max_bytes;
            if !is_too_long {
                self.line.extend_from_slice(&buffer[..count]);
            }
            let is_cr = end.is_some_and(|it| buffer[it] == b'\r');
            self.text.consume(count);
            if is_cr && self.text.fill_buf()?.first() == Some(&b'\n') {
                self.text.consume(1);
                if !is_too_long {
                    self.line.push(b'\n');
                }
            }
            is_finished = end.is_some();
        }
        if is_too_long {
            self.number += 1;
            self.line.clear();
            return Err(RowError::TooLong { limit: self.max_bytes }.into());
        }
        if self.line.is_empty() || !is_finished && self.finished_only {
            return Ok(false);
        }
        self.number += 1;
        Ok(true)
    }
}

/// A line without the byte-order marks that joined files have in their middle.
pub(super) fn without_marks(mut line: &[u8]) -> &[u8] {
    while let Some(rest) = line.strip_prefix(b"\xEF\xBB\xBF") {
        line = rest;
    }
    line
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
        check_refuses(format!("{GOOD}\n\n[1]\n").as_bytes(), "row 3: not a question");
        check_refuses(format!("{GOOD}\n{{\"question\":\n").as_bytes(), "row 2: not a question");
        check_refuses(
            format!("{GOOD}\n{GOOD}\n").as_bytes(),
            "row 2: field `id` is `a`, as in row 1",
        );
        check_refuses(b"{\"question\":\"q\",\"answer\":\"\xFF\"}", "row 1: the row is not UTF-8");
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
        let (first, second) =
            (r#"{"question":"é","answer":"x"}"#, r#"{"question":"r","answer":"y"}"#);
        for end in ["\n", "\r\n", "\r", "\r\n\r\n", "\n\u{feff}"] {
            std::fs::write(&path, format!("\u{feff}{first}{end}{second}")).unwrap();
            let questions = read_questions(&path).unwrap();
            let ids: Vec<&str> = questions.iter().map(|it| it.id.as_str()).collect();
            assert_eq!(ids, ["q-1", "q-2"], "{end:?}");
            assert_eq!(questions[0].text, "é");
        }
        std::fs::write(&path, format!("{first}\r\r\n{second}\r[1]\r")).unwrap();
        let message = read_questions(&path).unwrap_err().to_string();
        assert!(message.contains("row 4: not a question"), "{message}");
    }
}
