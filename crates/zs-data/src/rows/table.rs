//! CSV and TSV: with a header (`PopQA`), or a question and its answers (DPR).

use std::io::BufRead;

use csv::{ByteRecord, Reader, ReaderBuilder};
use serde_json::{Map, Value};

use super::text::Text;
use super::{Failure, list_literal};
use crate::RowError;

/// Columns whose cells may be lists.
const LISTS: [&str; 5] =
    ["golden_answers", "answer", "answers", "possible_answers", "answer_aliases"];

/// A first record with one of these cells is a header: `text` is DPR's header of passages.
const HEADERS: [&str; 2] = ["question", "text"];

/// Records of a table, numbered by the line that they start on.
pub(super) struct Table {
    reader: Reader<Text>,
    header: Vec<String>,
    record: ByteRecord,
    pub(super) number: usize,
    /// Set while `record` holds the first record, which was not a header.
    is_pending: bool,
    /// Set for lines that end in CR and LF. The reader ends a record at CR and counts lines by LF.
    has_crlf: bool,
}

impl Table {
    /// Reads the header. Where the first record is no header, the first two columns are question and
    /// answers. A `.csv` file whose first line has a tab is separated by tabs, as DPR's are.
    pub(super) fn new(mut text: Text, delimiter: u8) -> Result<Self, Failure> {
        let start = text.fill_buf()?;
        let first_line = start.split(|&it| it == b'\n').next().unwrap_or_default();
        let delimiter = if first_line.contains(&b'\t') { b'\t' } else { delimiter };
        let has_crlf = first_line.ends_with(b"\r");
        let mut reader = ReaderBuilder::new();
        reader.delimiter(delimiter).has_headers(false).flexible(true);
        let mut table = Self {
            reader: reader.from_reader(text),
            header: vec!["question".to_owned(), "answers".to_owned()],
            record: ByteRecord::new(),
            number: 0,
            is_pending: false,
            has_crlf,
        };
        if table.read_record()? {
            let cells = table.record.iter();
            let cells: Vec<String> =
                cells.map(|it| String::from_utf8_lossy(it).trim().to_lowercase()).collect();
            match cells.iter().any(|it| HEADERS.contains(&it.as_str())) {
                true => table.header = cells,
                false => table.is_pending = true,
            }
        }
        Ok(table)
    }

    /// Reads the next record; `false` at the end of the table.
    pub(super) fn advance(&mut self) -> Result<bool, Failure> {
        if std::mem::take(&mut self.is_pending) { Ok(true) } else { self.read_record() }
    }

    fn read_record(&mut self) -> Result<bool, Failure> {
        match self.reader.read_byte_record(&mut self.record) {
            Ok(is_record) => {
                let (line, byte) =
                    self.record.position().map_or((0, 0), |it| (it.line(), it.byte()));
                let line = line + u64::from(self.has_crlf && byte > 0);
                self.number = usize::try_from(line).unwrap_or(usize::MAX);
                Ok(is_record)
            }
            Err(error) => {
                self.number = usize::try_from(self.reader.position().line()).unwrap_or(usize::MAX);
                Err(match error.into_kind() {
                    csv::ErrorKind::Io(error) => error.into(),
                    other => RowError::NotARecord { problem: format!("{other:?}") }.into(),
                })
            }
        }
    }

    /// Fields of the record.
    pub(super) fn fields(&self) -> Result<Map<String, Value>, RowError> {
        let mut row = Map::new();
        for (name, cell) in self.header.iter().zip(&self.record) {
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
