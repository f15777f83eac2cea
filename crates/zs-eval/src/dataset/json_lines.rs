//! JSON Lines: one object a line.

use std::path::Path;

use super::{DatasetError, NumberedRow, RowError};

/// Every row of a JSON Lines file, numbered by line. A byte-order mark is dropped.
pub(super) fn read_rows(path: &Path) -> Result<Vec<NumberedRow>, DatasetError> {
    let bytes = std::fs::read(path)
        .map_err(|source| DatasetError::Read { path: path.to_owned(), source })?;
    let bytes = bytes.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(&bytes);
    let mut rows = Vec::new();
    for (index, line) in bytes.split(|&byte| byte == b'\n').enumerate() {
        let number = index + 1;
        let row_error = |source| DatasetError::Row { path: path.to_owned(), row: number, source };
        let line = std::str::from_utf8(line)
            .map_err(|_| row_error(RowError::NotUtf8 { place: "the line".to_owned() }))?
            .trim();
        if line.is_empty() {
            continue;
        }
        let row =
            serde_json::from_str(line).map_err(|source| row_error(RowError::NotJson { source }))?;
        rows.push((number, row));
    }
    Ok(rows)
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
