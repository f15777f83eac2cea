//! JSON Lines: one object a line.

use std::io::{BufRead, Read};

use super::Failure;
use super::text::Text;
use crate::RowError;

/// Lines of a text, numbered from 1; blank ones are passed over.
pub(super) struct Lines {
    text: Text,
    pub(super) line: Vec<u8>,
    pub(super) number: usize,
    max_bytes: usize,
    finished_only: bool,
}

impl Lines {
    /// Starts behind `number` lines that have been passed over.
    pub(super) fn new(text: Text, number: usize, max_bytes: usize, finished_only: bool) -> Self {
        Self { text, line: Vec::new(), number, max_bytes, finished_only }
    }

    /// Reads the next line that is not blank; `false` at the end of the text.
    pub(super) fn advance(&mut self) -> Result<bool, Failure> {
        while self.read_line()? {
            if !self.line.iter().all(u8::is_ascii_whitespace) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Reads the next line; `false` at the end of the text.
    fn read_line(&mut self) -> Result<bool, Failure> {
        self.line.clear();
        let limit = self.max_bytes as u64 + 1;
        let count = (&mut self.text).take(limit).read_until(b'\n', &mut self.line)?;
        if count == 0 {
            return Ok(false);
        }
        let is_finished = self.line.ends_with(b"\n");
        if !is_finished && self.line.len() > self.max_bytes {
            self.number += 1;
            self.skip_line()?;
            return Err(RowError::TooLong { limit: self.max_bytes }.into());
        }
        if !is_finished && self.finished_only {
            return Ok(false);
        }
        self.number += 1;
        Ok(true)
    }

    /// Passes over the rest of a line that is too long to keep.
    fn skip_line(&mut self) -> std::io::Result<()> {
        loop {
            let buffer = self.text.fill_buf()?;
            if buffer.is_empty() {
                return Ok(());
            }
            let end = buffer.iter().position(|it| *it == b'\n');
            let count = end.map_or(buffer.len(), |it| it + 1);
            self.text.consume(count);
            if end.is_some() {
                return Ok(());
            }
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
        let text = "\u{feff}{\"question\":\"é\",\"answer\":\"x\"}\r\n\r\n{\"question\":\"r\",\"answer\":\"y\"}";
        std::fs::write(&path, text).unwrap();
        let questions = read_questions(&path).unwrap();
        let ids: Vec<&str> = questions.iter().map(|it| it.id.as_str()).collect();
        assert_eq!(ids, ["q-1", "q-3"]);
        assert_eq!(questions[0].text, "é");
    }
}
