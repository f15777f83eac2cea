//! Tables: CSV and TSV, with a header or as a question and its answers (DPR).

mod dialect;

use std::io::{Cursor, Read};

use serde_json::{Map, Value};

use self::dialect::{Dialect, Record, cells_of_line};
use super::failure::Failure;
use super::lines::Lines;
use super::notes::{NoteKind, Notes};
use super::text::Text;
use crate::RowError;

/// Bytes on which the convention of a table is decided.
const SAMPLE_BYTES: usize = 16 << 20;

/// Names of columns; a first record that has them is a header.
const KNOWN: [&str; 32] = [
    "question",
    "query",
    "text",
    "contents",
    "prompt",
    "golden_answers",
    "answer",
    "answers",
    "possible_answers",
    "answer_aliases",
    "id",
    "_id",
    "title",
    "completion",
    "prediction",
    "transcript",
    "reward_model",
    "extra_info",
    "data_source",
    "dataset",
    "type",
    "hops",
    "gold_titles",
    "supporting_facts",
    "turns",
    "documents",
    "passage",
    "content",
    "docid",
    "doc_id",
    "pid",
    "passage_id",
];

/// Names that make a header on their own.
const CERTAIN: [&str; 7] =
    ["question", "query", "text", "contents", "prompt", "golden_answers", "possible_answers"];

/// Columns of a table without a header.
const UNNAMED: [&str; 2] = ["question", "answers"];

/// Records of a table, numbered by the line that they start on.
pub(super) struct Table {
    lines: Lines,
    dialect: Dialect,
    header: Vec<String>,
    /// Columns with the name of an earlier one, which is read.
    repeated: Vec<(usize, usize)>,
    record: Record,
    pub(super) number: usize,
    /// Set while `record` holds the first record, which was not a header.
    is_pending: bool,
    max_bytes: usize,
    pub(super) notes: Notes,
}

/// True where the first line of a text names columns.
pub(super) fn has_header(head: &[u8]) -> bool {
    let line = first_line(head);
    [b'\t', b',', b';'].iter().any(|it| is_header(&cells_of_line(line, *it)))
}

impl Table {
    /// Decides on the convention of the table and reads its header.
    ///
    /// The separator is `delimiter`, unless the first line has tabs, or names columns only with
    /// another one. [`Dialect::decide`] says whether quotes are those of CSV or text.
    pub(super) fn new(mut text: Text, delimiter: u8, max_bytes: usize) -> Result<Self, Failure> {
        let mut sample = Vec::new();
        (&mut text).take(SAMPLE_BYTES as u64).read_to_end(&mut sample)?;
        let is_whole = sample.len() < SAMPLE_BYTES;
        let line = first_line(&sample);
        let named = [b'\t', delimiter, b',', b';'];
        let named = named.into_iter().find(|it| is_header(&cells_of_line(line, *it)));
        let delimiter = match named {
            Some(named) if cells_of_line(line, named).len() > 1 => named,
            _ if line.contains(&b'\t') => b'\t',
            _ => delimiter,
        };
        let ends_at_cr =
            sample.get(line.len()) == Some(&b'\r') && sample.get(line.len() + 1) != Some(&b'\n');
        let dialect = Dialect::decide(&sample, is_whole, delimiter, ends_at_cr);
        let text: Text = Box::new(Cursor::new(sample).chain(text));
        let lines = Lines::new(text, 0, max_bytes, false).with_ends_at_cr(ends_at_cr);
        let mut table = Self {
            lines,
            dialect,
            header: UNNAMED.map(str::to_owned).to_vec(),
            repeated: Vec::new(),
            record: Record::default(),
            number: 0,
            is_pending: false,
            max_bytes,
            notes: Notes::default(),
        };
        if !table.read_record()? {
            return Ok(table);
        }
        if is_header(&table.record.cells) {
            let cells = table.record.cells.iter();
            table.header = cells.map(|it| name(it)).collect();
            let first = |at: usize| {
                let earlier = table.header[..at].iter().position(|it| *it == table.header[at]);
                earlier.filter(|_| !table.header[at].is_empty()).map(|it| (it, at))
            };
            table.repeated = (0..table.header.len()).filter_map(first).collect();
        } else {
            let num_cells = table.record.cells.len();
            if num_cells != UNNAMED.len() {
                let problem = format!(
                    "the first line has {num_cells} cells and no name that is known; write the \
                     names of the columns into the first line, e.g. `question` and `golden_answers`"
                );
                return Err(Failure::LastRow(RowError::NotARecord { problem }));
            }
            table.notes.add(NoteKind::NoHeader, table.number);
            table.is_pending = true;
        }
        Ok(table)
    }

    /// Reads the next record; `false` at the end of the table.
    pub(super) fn advance(&mut self) -> Result<bool, Failure> {
        if !std::mem::take(&mut self.is_pending) && !self.read_record()? {
            return Ok(false);
        }
        let (cells, columns) = (&self.record.cells, self.header.len());
        if cells.iter().skip(columns).any(|it| !it.trim_ascii().is_empty()) {
            let problem = format!(
                "it has {} cells, and the table {columns} columns; put a cell that holds the \
                 separator into quotes",
                cells.len()
            );
            return Err(RowError::NotARecord { problem }.into());
        }
        for _ in 0..self.record.num_text_quotes {
            self.notes.add(NoteKind::QuoteAsText, self.number);
        }
        for _ in 0..self.record.num_ambiguous {
            self.notes.add(NoteKind::QuotedCell, self.number);
        }
        let cell = |at: usize| cells.get(at).map_or(&b""[..], |it| it.trim_ascii());
        for &(first, second) in &self.repeated {
            if !cell(second).is_empty() && cell(first) != cell(second) {
                self.notes.add(NoteKind::FieldsDiffer, self.number);
            }
        }
        Ok(true)
    }

    fn read_record(&mut self) -> Result<bool, Failure> {
        if !self.lines.advance()? {
            self.number = self.lines.number;
            return Ok(false);
        }
        self.number = self.lines.number;
        self.record.start(&self.dialect, &self.lines.line);
        while self.record.is_open {
            if self.record.num_bytes() > self.max_bytes {
                return Err(RowError::TooLong { limit: self.max_bytes }.into());
            }
            if !self.lines.read_line()? {
                let problem = "a quote is opened and never closed; close it, or double the quotes \
                    inside of a cell in quotes";
                return Err(Failure::LastRow(RowError::NotARecord { problem: problem.to_owned() }));
            }
            self.record.go_on(&self.dialect, &self.lines.line);
        }
        if self.record.is_malformed {
            let problem = "there is text behind a closing quote; double the quotes inside of a cell \
                in quotes";
            return Err(RowError::NotARecord { problem: problem.to_owned() }.into());
        }
        Ok(true)
    }

    /// Fields of the record; a blank cell is null.
    pub(super) fn fields(&self) -> Result<Map<String, Value>, RowError> {
        let mut row = Map::new();
        for (name, cell) in self.header.iter().zip(&self.record.cells) {
            let Ok(cell) = std::str::from_utf8(cell) else {
                return Err(RowError::NotUtf8 { place: format!("field `{name}`") });
            };
            if !name.is_empty() && !row.contains_key(name) {
                let is_blank = cell.trim().is_empty();
                row.insert(name.clone(), if is_blank { Value::Null } else { cell.into() });
            }
        }
        Ok(row)
    }
}

fn first_line(text: &[u8]) -> &[u8] {
    text.split(|it| matches!(it, b'\n' | b'\r')).next().unwrap_or_default()
}

fn name(cell: &[u8]) -> String {
    String::from_utf8_lossy(cell).trim().to_lowercase()
}

/// A record that names columns: one that is certain, or several.
fn is_header(cells: &[Vec<u8>]) -> bool {
    let names: Vec<String> = cells.iter().map(|it| name(it)).collect();
    let known = names.iter().filter(|it| KNOWN.contains(&it.as_str())).count();
    known > 1 || names.iter().any(|it| CERTAIN.contains(&it.as_str()))
}

#[cfg(test)]
mod tests {
    use zs_core::Question;

    use super::NoteKind;
    use crate::{read_question_set, read_questions};

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
            ..Question::new("q-1", "a, \"b\"\nc", ["x"])
        };
        assert_eq!(questions, [first, Question::new("q-2", "d", ["1999"])]);
    }

    #[track_caller]
    fn check_refuses(contents: &[u8], expected: &str) {
        let message = read("q.tsv", contents).unwrap_err();
        assert!(message.contains("q.tsv") && message.contains(expected), "{message}");
    }

    /// Reads a table as text and answers, with notes; rows are separated by `|`.
    #[track_caller]
    fn check(name: &str, contents: &str, expected: &[(&str, &str)], notes: &[(NoteKind, usize)]) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(name);
        std::fs::write(&path, contents).unwrap();
        let set = read_question_set(&path, false).unwrap();
        let read: Vec<(&str, String)> =
            set.questions.iter().map(|it| (&it.text[..], it.golden_answers.join("|"))).collect();
        let expected: Vec<(&str, String)> =
            expected.iter().map(|(text, answers)| (*text, (*answers).to_owned())).collect();
        assert_eq!(read, expected, "{contents}");
        let noted: Vec<(NoteKind, usize)> =
            set.notes.iter().map(|it| (it.kind, it.count)).collect();
        assert_eq!(noted, notes, "{contents}");
    }

    #[test]
    fn quotes_are_those_of_csv_or_text_by_what_fits() {
        use NoteKind::*;
        let plain = "question\tanswer\nwhere is dun head\tthe north\n\"Who said that\tHamlet\n\
            capital of orvany\tPort Asel\nshe said \"no\tx\nlast one\ty\n";
        let five = [
            ("where is dun head", "the north"),
            ("\"Who said that", "Hamlet"),
            ("capital of orvany", "Port Asel"),
            ("she said \"no", "x"),
            ("last one", "y"),
        ];
        check("q.tsv", plain, &five, &[(QuoteAsText, 1)]);
        check("q.tsv", &plain.replace('\n', "\r"), &five, &[(QuoteAsText, 1)]);
        // Both conventions fit: nothing that a program would have quoted.
        let title = "question\tanswer\nwho sang it\t\"Heroes\"\n";
        check("q.tsv", title, &[("who sang it", "\"Heroes\"")], &[(QuotedCell, 1)]);
        let lines = "question\tanswer\n\"a\tb\nc\"\td\n";
        check("q.tsv", lines, &[("\"a", "b"), ("c\"", "d")], &[(QuotedCell, 1)]);
        let title = "question,answer\nwho sang it,\"Heroes\"\n";
        check("q.csv", title, &[("who sang it", "Heroes")], &[]);
        // Programs that quote: every cell, or doubled quotes, or a separator inside.
        let all = "\"question\"\t\"answer\"\n\"a\"\t\"b\"\n";
        check("q.tsv", all, &[("a", "b")], &[]);
        let doubled = "question\tanswer\n\"a \"\"b\"\"\"\tc\n\"d\"\te\n";
        check("q.tsv", doubled, &[("a \"b\"", "c"), ("d", "e")], &[]);
        let inside = "question\tanswer\n\"a\tb\nc\"\td\n\"e\"\tf\n\"g\th\"\ti\n";
        check("q.tsv", inside, &[("a\tb\nc", "d"), ("e", "f"), ("g\th", "i")], &[]);
        check("q.csv", "question;answer\na,b;c\n", &[("a,b", "c")], &[]);
        check("q", "ID,Question,Answer\n7,a,b\n", &[("a", "b")], &[]);
        check("q.csv", "a,b\nc,d\n", &[("a", "b"), ("c", "d")], &[(NoHeader, 1)]);
        check("q.csv", "{\"question\": \"a\", \"answer\": \"b\"}\n", &[("a", "b")], &[]);
    }

    #[test]
    fn names_line_and_field() {
        check_refuses(b"", "holds no question");
        check_refuses(b"question\tanswer\n", "holds no question");
        check_refuses(b"question\tanswer\na\tb\nc\n", "row 3: field `golden_answers` is missing");
        check_refuses(
            b"question\tanswer\na\tb\tc\n",
            "row 2: not a CSV or TSV record: it has 3 cells",
        );
        check_refuses(b"1\ta\tb\n", "row 1: not a CSV or TSV record: the first line has 3 cells");
        check_refuses(
            b"question\tanswer\n\"a\"x\tb\tc\n\"\"\"d\"\"\"\te\n",
            "row 2: not a CSV or TSV record: there is text behind a closing quote",
        );
        check_refuses(b"question\tanswer\na\t[]\n", "row 2: field `answer` is empty");
        check_refuses(b"question\tanswer\na\t\xff\n", "row 2: field `answer` is not UTF-8");
    }
}
