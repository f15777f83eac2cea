//! CSV and TSV: with a header (`PopQA`), or a question and its answers (DPR).

use std::io::BufRead;
use std::path::{Path, PathBuf};

use csv::{ByteRecord, Reader, ReaderBuilder};
use serde_json::{Map, Value};

use super::text::Text;
use super::{DatasetError, NumberedRow, RowError, list_literal};

/// Columns whose cells may be lists.
const LISTS: [&str; 5] =
    ["golden_answers", "answer", "answers", "possible_answers", "answer_aliases"];

/// A first record with one of these cells is a header: `text` is DPR's header of passages.
const HEADERS: [&str; 2] = ["question", "text"];

/// The rows of a table, numbered by the line that they start on.
///
/// Where the first record is no header, the first two columns are question and answers. A `.csv` file whose first line has a tab is separated by tabs, as DPR's are.
pub(super) fn rows(path: &Path, mut text: Text, delimiter: u8) -> Result<Records, DatasetError> {
    let unreadable = |source| DatasetError::Read { path: path.to_owned(), source };
    let start = text.fill_buf().map_err(unreadable)?;
    let first_line = start.split(|&it| it == b'\n').next().unwrap_or_default();
    let delimiter = if first_line.contains(&b'\t') { b'\t' } else { delimiter };
    let has_crlf = first_line.ends_with(b"\r");
    let mut reader = ReaderBuilder::new();
    reader.delimiter(delimiter).has_headers(false).flexible(true);
    let mut records = Records {
        path: path.to_owned(),
        reader: reader.from_reader(text),
        header: vec!["question".to_owned(), "answers".to_owned()],
        pending: None,
        has_crlf,
    };
    if let Some(record) = records.record() {
        let (line, record) = record?;
        let cells: Vec<String> =
            record.iter().map(|it| String::from_utf8_lossy(it).trim().to_lowercase()).collect();
        if cells.iter().any(|it| HEADERS.contains(&it.as_str())) {
            records.header = cells;
        } else {
            records.pending = Some((line, record));
        }
    }
    Ok(records)
}

pub(super) struct Records {
    path: PathBuf,
    reader: Reader<Text>,
    header: Vec<String>,
    /// The first record, where it was not a header.
    pending: Option<(usize, ByteRecord)>,
    /// Whether lines end in CR and LF. The reader ends a record at CR and counts lines by LF.
    has_crlf: bool,
}

impl Iterator for Records {
    type Item = Result<NumberedRow, DatasetError>;

    fn next(&mut self) -> Option<Self::Item> {
        let (line, record) = match self.pending.take() {
            Some(first) => first,
            None => match self.record()? {
                Ok(record) => record,
                Err(error) => return Some(Err(error)),
            },
        };
        let row = self.row(&record);
        Some(row.map(|row| (line, row)).map_err(|source| DatasetError::Row {
            path: self.path.clone(),
            row: line,
            source,
        }))
    }
}

impl Records {
    /// The next record and its line.
    fn record(&mut self) -> Option<Result<(usize, ByteRecord), DatasetError>> {
        let mut record = ByteRecord::new();
        match self.reader.read_byte_record(&mut record) {
            Ok(false) => None,
            Ok(true) => {
                let (line, byte) = record.position().map_or((0, 0), |it| (it.line(), it.byte()));
                let line = line + u64::from(self.has_crlf && byte > 0);
                Some(Ok((usize::try_from(line).unwrap_or(usize::MAX), record)))
            }
            Err(error) => {
                let path = self.path.clone();
                let row = usize::try_from(self.reader.position().line()).unwrap_or(usize::MAX);
                Some(Err(match error.into_kind() {
                    csv::ErrorKind::Io(source) => DatasetError::Read { path, source },
                    other => {
                        let problem = format!("{other:?}");
                        DatasetError::Row { path, row, source: RowError::NotARecord { problem } }
                    }
                }))
            }
        }
    }

    fn row(&self, record: &ByteRecord) -> Result<Map<String, Value>, RowError> {
        let mut row = Map::new();
        for (name, cell) in self.header.iter().zip(record) {
            let Ok(cell) = std::str::from_utf8(cell) else {
                return Err(RowError::NotUtf8 { place: format!("field `{name}`") });
            };
            if name.is_empty() || cell.trim().is_empty() {
                continue;
            }
            let list = LISTS.contains(&name.as_str()).then(|| list_literal::parse(cell)).flatten();
            let value = match (list, name.as_str()) {
                (Some(list), _) => list.into(),
                (None, "hops") => {
                    cell.trim().parse::<u64>().map_or_else(|_| cell.into(), Into::into)
                }
                (None, _) => cell.into(),
            };
            row.insert(name.clone(), value);
        }
        Ok(row)
    }
}

#[cfg(test)]
mod tests {
    use zs_core::Question;

    use crate::read_questions;

    fn read(name: &str, contents: &[u8]) -> Result<Vec<Question>, String> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(name);
        std::fs::write(&path, contents).unwrap();
        read_questions(&path).map_err(|it| it.to_string())
    }

    #[test]
    fn popqa_has_a_header_and_json_lists() {
        let text = "id\tsubj\tprop\tquestion\tpossible_answers\n\
            4222362\tGeorge Rankin\toccupation\tWhat is George Rankin's occupation?\t\"[\"\"politician\"\", \"\"political \\u00e9\"\"]\"\n\
            5\tx\ty\tWho \"is\" it?\t[\"a\"]\n";
        assert_eq!(
            read("popQA.tsv", text.as_bytes()).unwrap(),
            [
                Question::new(
                    "4222362",
                    "What is George Rankin's occupation?",
                    ["politician", "political é"]
                ),
                Question::new("5", "Who \"is\" it?", ["a"]),
            ]
        );
    }

    #[test]
    fn dpr_has_neither_header_nor_commas() {
        let text = "who got the first nobel prize, in physics\t['Wilhelm Conrad Röntgen']\n\
            which Sinclair?\t\"['(Harry) Sinclair Lewis', \"\"Grace's\"\"]\"\n";
        assert_eq!(
            read("nq-test.csv", text.as_bytes()).unwrap(),
            [
                Question::new(
                    "nq-test-1",
                    "who got the first nobel prize, in physics",
                    ["Wilhelm Conrad Röntgen"]
                ),
                Question::new(
                    "nq-test-2",
                    "which Sinclair?",
                    ["(Harry) Sinclair Lewis", "Grace's"]
                ),
            ]
        );
    }

    #[test]
    fn commas_quotes_and_line_ends() {
        let text = "Question,Answer,hops,type\r\n\"a, \"\"b\"\"\nc\",x,2,bridge\r\nd,1999,,\r\n";
        let questions = read("q.csv", text.as_bytes()).unwrap();
        let first = Question {
            hops: Some(2),
            question_type: Some("bridge".into()),
            ..Question::new("q-2", "a, \"b\"\nc", ["x"])
        };
        assert_eq!(questions, [first, Question::new("q-4", "d", ["1999"])]);
    }

    #[track_caller]
    fn check_refuses(contents: &[u8], expected: &str) {
        let message = read("q.tsv", contents).unwrap_err();
        assert!(message.contains("q.tsv") && message.contains(expected), "{message}");
    }

    #[test]
    fn names_line_and_field() {
        check_refuses(b"", "holds no question");
        check_refuses(b"question\tanswer\n", "holds no question");
        check_refuses(b"question\tanswer\na\tb\nc\n", "row 3: field `golden_answers` is missing");
        check_refuses(b"question\tanswer\na\t[]\n", "row 2: field `answer` is empty");
        check_refuses(b"question\tanswer\na\t\xff\n", "row 2: field `answer` is not UTF-8");
    }
}
