//! Two conventions of tables: cells in quotes as CSV has them, and quotes that are text.

use crate::rows::lines::without_marks;

/// Convention of a table.
pub(super) struct Dialect {
    delimiter: u8,
    /// True where a quote at the start of a cell opens it.
    is_quoted: bool,
    /// True where the other convention fits the table as well.
    is_ambiguous: bool,
}

impl Dialect {
    /// Decides on the convention of a table by its beginning.
    ///
    /// Both conventions are tried. The one with fewer defects is taken: a quote that is not closed,
    /// text behind a closing quote, a record that has not as many cells as the first. Where both
    /// have as many, commas and semicolons mean CSV; tabs do where the first record is all in quotes
    /// or a cell has doubled quotes inside, as programs write them that quote, and else quotes are
    /// text.
    pub(super) fn decide(sample: &[u8], is_whole: bool, delimiter: u8, ends_at_cr: bool) -> Self {
        let mut dialect = Self { delimiter, is_quoted: true, is_ambiguous: false };
        if !sample.contains(&b'"') {
            return dialect;
        }
        let quoted = Survey::of(&dialect, sample, is_whole, ends_at_cr);
        let plain_dialect = Self { is_quoted: false, ..dialect };
        let plain = Survey::of(&plain_dialect, sample, is_whole, ends_at_cr);
        let is_written_quoted = quoted.num_doubled > 0 || quoted.is_first_quoted;
        dialect.is_quoted = match quoted.num_defects.cmp(&plain.num_defects) {
            std::cmp::Ordering::Less => true,
            std::cmp::Ordering::Greater => false,
            std::cmp::Ordering::Equal => delimiter != b'\t' || is_written_quoted,
        };
        dialect.is_ambiguous = quoted.num_defects == plain.num_defects && !is_written_quoted;
        dialect
    }
}

/// Findings about a table in one convention.
#[derive(Default)]
struct Survey {
    num_defects: usize,
    /// Cells in quotes with doubled quotes inside.
    num_doubled: usize,
    /// True where every cell of the first record is in quotes.
    is_first_quoted: bool,
}

impl Survey {
    fn of(dialect: &Dialect, sample: &[u8], is_whole: bool, ends_at_cr: bool) -> Self {
        let mut survey = Self::default();
        let mut record = Record::default();
        let mut num_cells = None;
        let end = if ends_at_cr { b'\r' } else { b'\n' };
        let mut lines = sample.split_inclusive(|it| *it == end).peekable();
        while let Some(line) = lines.next() {
            let is_cut = !is_whole && lines.peek().is_none();
            if is_cut || !record.is_open && line.trim_ascii().is_empty() {
                continue;
            }
            match record.is_open {
                true => record.go_on(dialect, line),
                false => record.start(dialect, line),
            }
            if record.is_open {
                continue;
            }
            let expected = *num_cells.get_or_insert_with(|| {
                survey.is_first_quoted = record.num_quoted == record.cells.len();
                record.cells.len()
            });
            let is_defect = record.is_malformed || record.cells.len() != expected;
            survey.num_defects += usize::from(is_defect);
            survey.num_doubled += record.num_doubled;
        }
        survey.num_defects += usize::from(record.is_open && is_whole);
        survey
    }
}

/// Record of a table, taken apart line by line.
#[derive(Default)]
pub(super) struct Record {
    pub(super) cells: Vec<Vec<u8>>,
    /// True inside of a quoted cell that continues on the next line.
    pub(super) is_open: bool,
    /// True where there is text behind a closing quote.
    pub(super) is_malformed: bool,
    /// Cells that start with a quote which is text, in a table that cannot be CSV.
    pub(super) num_text_quotes: usize,
    /// Cells that the other convention would read otherwise, in a table that fits both.
    pub(super) num_ambiguous: usize,
    num_quoted: usize,
    num_doubled: usize,
    num_lines: usize,
}

impl Record {
    pub(super) fn start(&mut self, dialect: &Dialect, line: &[u8]) {
        *self = Self { cells: vec![Vec::new()], num_lines: 1, ..Self::default() };
        let line = without_marks(line);
        match dialect.is_quoted {
            true => self.take(dialect, line, State::Start),
            false => {
                self.cells = without_end(line)
                    .split(|it| *it == dialect.delimiter)
                    .map(<[u8]>::to_vec)
                    .collect();
                let opens = self.cells.iter().filter(|it| it.starts_with(b"\"")).count();
                match dialect.is_ambiguous {
                    true => self.num_ambiguous = opens,
                    false => self.num_text_quotes = opens,
                }
            }
        }
    }

    /// Takes the next line of a record that is open.
    pub(super) fn go_on(&mut self, dialect: &Dialect, line: &[u8]) {
        self.num_lines += 1;
        if self.num_lines == 2 && dialect.is_ambiguous {
            self.num_ambiguous += 1;
        }
        self.is_open = false;
        self.take(dialect, line, State::Quoted);
    }

    pub(super) fn num_bytes(&self) -> usize {
        self.cells.iter().map(Vec::len).sum()
    }

    fn take(&mut self, dialect: &Dialect, line: &[u8], mut state: State) {
        let end = without_end(line).len();
        let mut is_doubled = false;
        for (at, &byte) in line.iter().enumerate() {
            let is_end = at >= end;
            let Some(cell) = self.cells.last_mut() else { return };
            state = match state {
                State::Quoted if byte == b'"' => State::Closed,
                State::Quoted => {
                    cell.push(byte);
                    State::Quoted
                }
                State::Closed if byte == b'"' => {
                    cell.push(byte);
                    self.num_doubled += usize::from(!std::mem::replace(&mut is_doubled, true));
                    State::Quoted
                }
                _ if is_end => break,
                State::Start if byte == b'"' => {
                    is_doubled = false;
                    self.num_quoted += 1;
                    State::Quoted
                }
                _ if byte == dialect.delimiter => {
                    self.cells.push(Vec::new());
                    State::Start
                }
                State::Closed => {
                    self.is_malformed = true;
                    cell.push(byte);
                    State::Plain
                }
                State::Start | State::Plain => {
                    cell.push(byte);
                    State::Plain
                }
            };
        }
        self.is_open = matches!(state, State::Quoted);
    }
}

enum State {
    /// At the start of a cell.
    Start,
    Plain,
    Quoted,
    /// Behind a quote that closes the cell, unless another follows.
    Closed,
}

/// Cells of a line by itself, without quotes around them.
pub(super) fn cells_of_line(line: &[u8], delimiter: u8) -> Vec<Vec<u8>> {
    let dialect = Dialect { delimiter, is_quoted: true, is_ambiguous: false };
    let mut record = Record::default();
    record.start(&dialect, line);
    record.cells
}

fn without_end(line: &[u8]) -> &[u8] {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    line.strip_suffix(b"\r").unwrap_or(line)
}
