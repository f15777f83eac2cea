//! One JSON array of objects, taken apart element by element so that it never is in memory whole.

use std::io::BufRead;

use super::failure::Failure;
use super::text::{Text, peek};
use crate::RowError;

/// Elements of an array whose opening bracket has been read.
pub(super) struct Elements {
    text: Text,
    pub(super) element: Vec<u8>,
    pub(super) number: usize,
    max_bytes: usize,
}

impl Elements {
    pub(super) fn new(text: Text, max_bytes: usize) -> Self {
        Self { text, element: Vec::new(), number: 0, max_bytes }
    }

    /// Reads the bytes of the next element; `false` after the closing bracket.
    pub(super) fn advance(&mut self) -> Result<bool, Failure> {
        let broken = |problem| Err(Failure::LastRow(RowError::NotInArray { problem }));
        let is_first = self.number == 0;
        self.number += 1;
        match peek(&mut self.text)?.0 {
            Some(b']') => {
                self.text.consume(1);
                return match peek(&mut self.text)?.0 {
                    None => Ok(false),
                    Some(_) => broken("there is text after the array"),
                };
            }
            Some(b',') if !is_first => {
                self.text.consume(1);
                peek(&mut self.text)?;
            }
            Some(_) if is_first => {}
            Some(_) => return broken("expected `,` or `]` before it"),
            None => return broken("the file ends before the array does"),
        }
        self.element.clear();
        let (mut depth, mut in_text, mut is_escaped) = (0_usize, false, false);
        loop {
            let buffer = self.text.fill_buf()?;
            if buffer.is_empty() {
                return broken("the file ends before the array does");
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
            self.element.extend_from_slice(&buffer[..taken]);
            self.text.consume(taken);
            if self.element.len() > self.max_bytes {
                return Err(Failure::LastRow(RowError::TooLong { limit: self.max_bytes }));
            }
            if is_done {
                return Ok(true);
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
            &[("q-1", "a"), ("q-2", "b")],
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
        check_refuses("7", "row 1: not a question");
        check_refuses(&format!("[{GOOD}, 7]"), "row 2: not a question");
        check_refuses(&format!("[{GOOD}, ]"), "row 2: not a question");
        check_refuses(&format!("[{GOOD} {GOOD}]"), "row 1: not a question");
        check_refuses(&format!("[{GOOD}"), "the file ends before the array does");
        check_refuses(&format!("[{GOOD}, {{\"question\": \"q"), "row 2: the file ends");
        check_refuses(
            &format!("[{GOOD}, {{\"question\":\"q\"}}]"),
            "row 2: field `golden_answers`",
        );
    }
}
