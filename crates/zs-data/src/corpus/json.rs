//! Rows in JSON: one a line, or all in one array.

use std::io::BufRead;
use std::ops::ControlFlow;
use std::path::Path;

use serde::Deserializer as _;
use serde::de::{Error as _, SeqAccess, Visitor};
use zs_core::Document;

use super::{CorpusError, Row};

type Show<'a> = dyn FnMut(Document) -> ControlFlow<()> + 'a;

/// Shows the document of every row, whichever of the two forms it is.
pub(super) fn for_each_row(
    path: &Path,
    mut reader: impl BufRead,
    show: &mut Show<'_>,
) -> Result<(), CorpusError> {
    let unreadable = |source| CorpusError::Read { path: path.to_owned(), source };
    let mut num_blank = 0;
    loop {
        let bytes = reader.fill_buf().map_err(unreadable)?;
        let Some(first) = bytes.first().copied() else { return Ok(()) };
        match first {
            b'[' => return for_each_element(path, reader, show),
            byte if byte.is_ascii_whitespace() => {
                num_blank += usize::from(byte == b'\n');
                reader.consume(1);
            }
            _ => return for_each_line(path, reader, 1 + num_blank, show),
        }
    }
}

/// Blank lines are passed over.
fn for_each_line(
    path: &Path,
    mut reader: impl BufRead,
    first_row: usize,
    show: &mut Show<'_>,
) -> Result<(), CorpusError> {
    let mut bytes = Vec::new();
    for row in first_row.. {
        bytes.clear();
        let count = reader
            .read_until(b'\n', &mut bytes)
            .map_err(|source| CorpusError::Read { path: path.to_owned(), source })?;
        if count == 0 {
            break;
        }
        let path = || path.to_owned();
        let line =
            std::str::from_utf8(&bytes).map_err(|_| CorpusError::NotUtf8 { path: path(), row })?;
        if line.trim().is_empty() {
            continue;
        }
        let parsed: Row = serde_json::from_str(line).map_err(|source| CorpusError::Row {
            path: path(),
            row,
            source,
        })?;
        let document = parsed.into_document().map_err(|problem| CorpusError::Field {
            path: path(),
            row,
            problem,
        })?;
        if show(document).is_break() {
            break;
        }
    }
    Ok(())
}

fn for_each_element(
    path: &Path,
    reader: impl BufRead,
    show: &mut Show<'_>,
) -> Result<(), CorpusError> {
    let mut parser = serde_json::Deserializer::from_reader(reader);
    let mut elements = Elements { show, num_read: 0, stop: None };
    let parsed = parser.deserialize_seq(&mut elements);
    let (row, stop) = (elements.num_read + 1, elements.stop);
    let path = path.to_owned();
    match (stop, parsed.and_then(|()| parser.end())) {
        (Some(Stop::Told), _) | (None, Ok(())) => Ok(()),
        (Some(Stop::Field(problem)), _) => Err(CorpusError::Field { path, row, problem }),
        (None, Err(source)) if source.is_io() => {
            Err(CorpusError::Read { path, source: source.into() })
        }
        (None, Err(source)) => Err(CorpusError::Row { path, row, source }),
    }
}

/// Takes the elements of an array one by one, so that the array is never in memory.
struct Elements<'a, 'b> {
    show: &'a mut Show<'b>,
    num_read: usize,
    stop: Option<Stop>,
}

/// Why an array was not read to its end; the parser is told of an error, whose text nobody sees.
enum Stop {
    Told,
    Field(String),
}

impl<'de> Visitor<'de> for &mut Elements<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("an array of documents")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut rows: A) -> Result<(), A::Error> {
        while let Some(row) = rows.next_element::<Row>()? {
            let stop = match row.into_document() {
                Err(problem) => Stop::Field(problem),
                Ok(document) => {
                    self.num_read += 1;
                    if (self.show)(document).is_continue() {
                        continue;
                    }
                    Stop::Told
                }
            };
            self.stop = Some(stop);
            return Err(A::Error::custom("stopped"));
        }
        Ok(())
    }
}
