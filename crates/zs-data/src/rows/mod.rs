//! From a file to typed rows: decompression, formats, errors with row and field.

mod array;
mod context;
mod failure;
mod lines;
pub(crate) mod literal;
pub(crate) mod notes;
mod parquet;
mod source;
mod table;
mod text;

use std::fmt;
use std::fs::File;
use std::io::{BufRead, Read, Seek};
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;

use self::array::Elements;
pub use self::context::{ReadReport, RowContext, SkippedRows};
use self::failure::Failure;
use self::lines::Lines;
use self::notes::{Note, Notes};
use self::parquet::ParquetRows;
use self::source::{RawRow, Source};
use self::table::Table;
use self::text::{Opened, Progress, Text, foreign, open_text, peek};
use crate::{DataError, RowError, open_regular};

const PARQUET: &[u8] = b"PAR1";
/// Bytes of a Parquet file that cannot be read in place.
const MAX_SPOOLED_BYTES: u64 = 4 << 30;

/// Longest line, or element of an array, that is read by default.
pub const MAX_LINE_BYTES: usize = 64 << 20;

/// Settings of a reading of rows.
///
/// The first bytes tell compression (gzip, zstd), Parquet, JSON and what is not read at all; the
/// extension tells JSON Lines and tables apart, a further `.gz` or `.zst` is passed over. Pipes are
/// read as files are.
///
/// | extension | one row a | row numbers in errors |
/// |---|---|---|
/// | `.jsonl`, `.ndjson`, `.json` | line (JSON Lines), or element of one array | line or element, from 1 |
/// | `.csv`, `.tsv` | record, with a header or without (question, answers) | line, from 1 |
/// | `.parquet` | row | row, from 1 |
///
/// Byte-order marks, blank lines, and lines that end in LF, CR LF or CR are accepted. Cells of a
/// table may be in quotes as in CSV, or hold quotes as text: the convention with fewer defects is
/// taken, and [`Rows::notes`] has what could be read otherwise. Names of columns are lower case.
///
/// ```
/// use serde::Deserialize;
/// use zs_data::RowReader;
///
/// #[derive(Deserialize)]
/// struct Pair {
///     prompt: String,
///     completion: String,
/// }
///
/// let text = "{\"prompt\": \"2 + 2\", \"completion\": \"4\"}\n{\"prompt\": 5}\n";
/// let reader = RowReader::new("pair");
/// let mut pairs = reader.json_lines::<Pair>(text.as_bytes(), "pairs.jsonl".as_ref())?;
/// assert_eq!(pairs.next().unwrap()?.completion, "4");
/// let error = pairs.next().unwrap().err().unwrap().to_string();
/// assert!(error.starts_with("pairs.jsonl, row 2: not a pair: field `prompt`: invalid type"));
///
/// // The same without the bad row.
/// let (pairs, skipped) = reader
///     .json_lines::<Pair>(text.as_bytes(), "pairs.jsonl".as_ref())?
///     .collect_valid()?;
/// assert_eq!((pairs[0].prompt.as_str(), skipped.count), ("2 + 2", 1));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug)]
pub struct RowReader {
    noun: &'static str,
    columns: Option<&'static [&'static str]>,
    max_line_bytes: usize,
    finished_lines: bool,
}

impl RowReader {
    /// Creates settings; `noun` names a row in errors, e.g. `question`.
    #[must_use]
    pub fn new(noun: &'static str) -> Self {
        Self { noun, columns: None, max_line_bytes: MAX_LINE_BYTES, finished_lines: false }
    }

    /// Reads these top-level columns of Parquet files only.
    #[must_use]
    pub fn with_columns(mut self, columns: &'static [&'static str]) -> Self {
        self.columns = Some(columns);
        self
    }

    /// Refuses lines, and elements of arrays, that are longer than that; [`MAX_LINE_BYTES`] by default.
    #[must_use]
    pub fn with_max_line_bytes(mut self, max_line_bytes: usize) -> Self {
        self.max_line_bytes = max_line_bytes;
        self
    }

    /// Leaves out a last line without a line end, which an interrupted writer has left. Such a file is
    /// no pipe: [`open`](Self::open) refuses what is no regular file.
    #[must_use]
    pub fn with_finished_lines(mut self) -> Self {
        self.finished_lines = true;
        self
    }

    /// Opens a file of any format.
    ///
    /// # Errors
    ///
    /// Fails on a file that is missing, damaged at its start, or of no known format.
    pub fn open<T: DeserializeOwned + 'static>(&self, path: &Path) -> Result<Rows<T>, DataError> {
        let read_error = |error| DataError::Read { path: path.to_owned(), error };
        let name = path.file_name().unwrap_or_default().to_string_lossy().to_ascii_lowercase();
        let name = [".gz", ".zst"].iter().find_map(|it| name.strip_suffix(it)).unwrap_or(&name);
        let extension = name.rsplit_once('.').map_or("", |it| it.1);
        let file = if self.finished_lines { open_regular(path) } else { File::open(path) };
        let file = file.map_err(read_error)?;
        let is_regular = file.metadata().map_err(read_error)?.is_file();
        let (packed, progress) = text::counted(file).map_err(read_error)?;
        let Opened { head, mut text, is_packed } = open_text(packed).map_err(read_error)?;
        if let Some((form, remedy)) = foreign(&head) {
            return Err(DataError::Foreign { path: path.to_owned(), form, remedy });
        }
        if extension == "parquet" || head.starts_with(PARQUET) {
            let file = match is_regular && !is_packed {
                true => File::open(path).map_err(read_error)?,
                false => spooled(&mut text).map_err(read_error)?,
            };
            let rows = ParquetRows::new(file, self.columns, self.max_line_bytes)
                .map_err(|error| DataError::Parquet { path: path.to_owned(), error })?;
            return Ok(self.rows(Source::Parquet(Box::new(rows)), path, progress));
        }
        let table =
            |text, delimiter| Table::new(text, delimiter, self.max_line_bytes).map(Source::table);
        let source = match extension {
            "csv" | "tsv" if is_json(&head) => self.json(text),
            "csv" => table(text, b','),
            "tsv" => table(text, b'\t'),
            "jsonl" | "ndjson" | "json" => self.json(text),
            _ if matches!(head.trim_ascii_start().first(), Some(b'{' | b'[')) => self.json(text),
            _ if table::has_header(&head) => table(text, b','),
            _ => return Err(DataError::UnknownFormat { path: path.to_owned() }),
        };
        Ok(self.rows(source.map_err(|it| it.at(path, 1))?, path, progress))
    }

    /// Reads JSON Lines, compressed or not, from a reader; `path` names it in errors.
    ///
    /// # Errors
    ///
    /// Fails when the reader does.
    pub fn json_lines<T: DeserializeOwned + 'static>(
        &self,
        reader: impl Read + 'static,
        path: &Path,
    ) -> Result<Rows<T>, DataError> {
        let text = open_text(reader)
            .map_err(|error| DataError::Read { path: path.to_owned(), error })?
            .text;
        Ok(self.rows(Source::Lines(self.lines(text, 0)), path, Progress::default()))
    }

    fn json(&self, mut text: Text) -> Result<Source, Failure> {
        let (first, num_blank) = peek(&mut text)?;
        if first == Some(b'[') {
            text.consume(1);
            return Ok(Source::Array(Elements::new(text, self.max_line_bytes)));
        }
        Ok(Source::Lines(self.lines(text, num_blank)))
    }

    fn lines(&self, text: Text, num_blank: usize) -> Lines {
        Lines::new(text, num_blank, self.max_line_bytes, self.finished_lines)
    }

    fn rows<T: DeserializeOwned + 'static>(
        &self,
        source: Source,
        path: &Path,
        progress: Progress,
    ) -> Rows<T> {
        let noun = self.noun;
        Rows {
            path: path.to_owned(),
            noun,
            source,
            progress,
            is_over: false,
            index: 0,
            notes: Notes::default(),
            parse: Box::new(move |row, _| row.parse(noun).map(Some)),
        }
    }
}

/// A temporary copy of a text that can be read in any order; it has no name.
fn spooled(text: &mut Text) -> std::io::Result<File> {
    let mut file = tempfile::tempfile()?;
    let count = std::io::copy(&mut text.take(MAX_SPOOLED_BYTES + 1), &mut file)?;
    if count > MAX_SPOOLED_BYTES {
        let problem =
            "more than 4 GiB of Parquet that is packed or comes through a pipe; save it to a file";
        return Err(std::io::Error::other(problem));
    }
    file.rewind()?;
    Ok(file)
}

/// True for the beginning of JSON in a file whose name says table: one object in its first line, or
/// a list of objects.
fn is_json(head: &[u8]) -> bool {
    let head = head.trim_ascii_start();
    let is_key = |rest: &[u8]| matches!(rest.trim_ascii_start().first(), Some(b'"' | b'}'));
    match head.split_first() {
        Some((b'{', rest)) => is_key(rest),
        Some((b'[', rest)) => rest
            .trim_ascii_start()
            .split_first()
            .is_some_and(|(it, rest)| *it == b'{' && is_key(rest)),
        _ => false,
    }
}

type Parse<T> = dyn FnMut(RawRow<'_>, &mut RowContext<'_>) -> Result<Option<T>, RowError>;

/// Rows of a file, one at a time, so that a file may be larger than memory.
///
/// A malformed row is an item; iteration continues after it if the format allows that.
pub struct Rows<T> {
    path: PathBuf,
    noun: &'static str,
    source: Source,
    progress: Progress,
    is_over: bool,
    /// Rows so far.
    index: usize,
    notes: Notes,
    parse: Box<Parse<T>>,
}

impl<T: 'static> Rows<T> {
    /// Number of the last row that the iterator gave, from 1.
    #[must_use]
    pub fn row(&self) -> usize {
        self.source.number()
    }

    /// Fraction of the file that has been read, in [0, 1]; 0 for other readers.
    #[must_use]
    pub fn fraction(&self) -> f64 {
        match &self.source {
            Source::Parquet(rows) => rows.fraction(),
            _ => self.progress.fraction(),
        }
    }

    /// Decisions of the reader so far, with counts; complete after the last row.
    #[must_use]
    pub fn notes(&self) -> Vec<Note> {
        self.notes.merged(self.source.notes()).report()
    }

    /// Converts each row, given its number; an error of `convert` is one of that row.
    #[must_use]
    pub fn try_map<U>(
        self,
        mut convert: impl FnMut(T, usize) -> Result<U, RowError> + 'static,
    ) -> Rows<U> {
        self.try_filter_map(move |row, context| convert(row, context.row).map(Some))
    }

    /// Converts each row, or leaves it out; an error of `convert` is one of that row.
    #[must_use]
    pub fn try_filter_map<U>(
        self,
        mut convert: impl FnMut(T, &mut RowContext<'_>) -> Result<Option<U>, RowError> + 'static,
    ) -> Rows<U> {
        let Self { path, noun, source, progress, is_over, index, notes, mut parse } = self;
        let parse = move |raw: RawRow<'_>, context: &mut RowContext<'_>| match parse(raw, context)?
        {
            Some(row) => convert(row, context),
            None => Ok(None),
        };
        Rows { path, noun, source, progress, is_over, index, notes, parse: Box::new(parse) }
    }

    /// Reads all rows.
    ///
    /// # Errors
    ///
    /// Fails at the first malformed row, and when there is none.
    pub fn collect_all(mut self) -> Result<Vec<T>, DataError> {
        let rows = self.by_ref().collect::<Result<Vec<T>, _>>()?;
        self.not_empty(rows)
    }

    /// Reads all rows but those that are malformed.
    ///
    /// # Errors
    ///
    /// Fails on a file that cannot be read to its end, and when there is no valid row.
    pub fn collect_valid(self) -> Result<(Vec<T>, SkippedRows), DataError> {
        let (rows, report) = self.collect_reported(true)?;
        Ok((rows, report.skipped))
    }

    /// Reads all rows, with what the reader decided about them; malformed rows are left out where
    /// `skip_bad_rows` is set.
    ///
    /// # Errors
    ///
    /// As [`collect_all`](Self::collect_all), or [`collect_valid`](Self::collect_valid).
    pub fn collect_reported(
        mut self,
        skip_bad_rows: bool,
    ) -> Result<(Vec<T>, ReadReport), DataError> {
        let (mut rows, mut skipped) = (Vec::new(), SkippedRows::default());
        for row in self.by_ref() {
            match row {
                Ok(row) => rows.push(row),
                Err(error @ DataError::Row { .. }) if skip_bad_rows => {
                    skipped.count += 1;
                    skipped.first.get_or_insert_with(|| error.into());
                }
                Err(error) => return Err(error),
            }
        }
        let notes = self.notes();
        Ok((self.not_empty(rows)?, ReadReport { skipped, notes }))
    }

    fn not_empty(self, rows: Vec<T>) -> Result<Vec<T>, DataError> {
        match rows.is_empty() {
            true => Err(DataError::Empty { path: self.path, noun: self.noun }),
            false => Ok(rows),
        }
    }
}

impl<T> Iterator for Rows<T> {
    type Item = Result<T, DataError>;

    fn next(&mut self) -> Option<Self::Item> {
        while !self.is_over {
            let Some((row, raw)) = self.source.next() else {
                self.is_over = true;
                return None;
            };
            self.index += 1;
            let mut context = RowContext::new(row, self.index, &mut self.notes);
            let parsed = raw.and_then(|it| (self.parse)(it, &mut context).map_err(Failure::Row));
            if let Err(failure) = &parsed {
                self.is_over = failure.is_final();
            }
            match parsed {
                Ok(None) => {}
                parsed => return parsed.map_err(|it| it.at(&self.path, row)).transpose(),
            }
        }
        None
    }
}

impl<T> fmt::Debug for Rows<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rows")
            .field("path", &self.path)
            .field("row", &self.source.number())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;
    use crate::read_questions;

    #[derive(Debug, serde::Deserialize)]
    struct Turn {
        queries: Vec<String>,
    }

    /// Reads lines of at most 40 bytes; a row is its queries, or its error behind the file's name.
    fn lines(reader: RowReader, text: &[u8]) -> Vec<String> {
        let name = Path::new("turns.jsonl");
        let reader = reader.with_max_line_bytes(40);
        let rows = reader.json_lines::<Turn>(std::io::Cursor::new(text.to_vec()), name).unwrap();
        let row = |row: Result<Turn, DataError>| match row {
            Ok(turn) => turn.queries.join(" "),
            Err(error) => error.to_string().replace("turns.jsonl, ", ""),
        };
        rows.map(row).collect()
    }

    #[test]
    fn rows_go_on_behind_bad_ones() {
        let long = format!("{{\"queries\":[\"{}\"]}}", "x".repeat(40));
        let text = format!(
            "\u{feff}{{\"queries\":[\"a\",\"b\"]}}\r\n \n{long}\n{{\"queries\":[\"a\",1]}}\n{{\n{{\"queries\":[\"c\"]}}"
        );
        let rows = lines(RowReader::new("turn"), text.as_bytes());
        assert_eq!((rows[0].as_str(), rows[4].as_str(), rows.len()), ("a b", "c", 5));
        assert!(rows[1].starts_with("row 3: longer than 40 bytes"), "{}", rows[1]);
        assert!(
            rows[2].starts_with("row 4: not a turn: field `queries[1]`: invalid type"),
            "{}",
            rows[2]
        );
        assert!(rows[3].starts_with("row 5: not a turn: EOF"), "{}", rows[3]);
        let packed = zstd::encode_all(text.as_bytes(), 1).unwrap();
        assert_eq!(lines(RowReader::new("turn"), &packed), rows);
        let finished = lines(RowReader::new("turn").with_finished_lines(), text.as_bytes());
        assert_eq!(finished, rows[..4]);
    }

    #[test]
    fn skipping_ends_where_the_file_does() {
        let reader = RowReader::new("turn");
        let read = |text: &'static str| {
            let name = Path::new("turns.jsonl");
            reader.json_lines::<Turn>(text.as_bytes(), name).unwrap().collect_valid()
        };
        let (turns, skipped) = read("{}\n{\"queries\":[]}\n5\n").unwrap();
        assert_eq!((turns.len(), skipped.count), (1, 2));
        assert!(skipped.first.unwrap().to_string().contains("row 1: not a turn: missing field"));
        assert_eq!(read("{}\n").unwrap_err().to_string(), "turns.jsonl: the file holds no turn");
    }

    #[test]
    fn gzipped_files_are_unpacked_member_by_member() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("q.JSONL.GZ");
        let mut packed = Vec::new();
        for text in ["{\"question\":\"é\",\"answer\":\"x\"}\n{\"question\":", "\"r\",\"answer\":1}"]
        {
            let mut encoder = flate2::write::GzEncoder::new(&mut packed, Default::default());
            encoder.write_all(text.as_bytes()).unwrap();
            encoder.finish().unwrap();
        }
        std::fs::write(&path, &packed).unwrap();
        let questions = read_questions(&path).unwrap();
        assert_eq!(questions.iter().map(|it| &it.id[..]).collect::<Vec<_>>(), ["q-1", "q-2"]);
        std::fs::write(&path, &packed[..packed.len() - 4]).unwrap();
        let message = read_questions(&path).unwrap_err().to_string();
        assert!(message.contains("q.JSONL.GZ: cannot be read"), "{message}");
    }
}
