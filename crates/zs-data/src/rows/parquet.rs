//! Parquet, through the row interface: one column of the file at a time, so that every failure
//! names its field.

use std::fs::File;
use std::sync::Arc;

use parquet::basic::{LogicalType, TimeUnit};
use parquet::errors::ParquetError;
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::record::reader::{ReaderIter, TreeBuilder};
use parquet::record::{Field, Row};
use parquet::schema::types::{ColumnDescriptor, SchemaDescPtr, SchemaDescriptor, Type};
use serde_json::{Map, Value};
use zs_core::caught;

use super::failure::Failure;
use super::notes::{NoteKind, Notes};
use crate::RowError;

/// Rows of a Parquet file as JSON, numbered from 1. A page of each column is in memory at a time.
pub(super) struct ParquetRows {
    reader: SerializedFileReader<File>,
    columns: Vec<(String, SchemaDescPtr)>,
    /// Index of the next row group.
    group: usize,
    /// Values of each column in the open row group.
    values: Vec<ReaderIter>,
    /// Rows left in it.
    left: usize,
    pub(super) number: usize,
    num_rows: usize,
    max_bytes: usize,
    pub(super) notes: Notes,
}

impl ParquetRows {
    /// Opens a file; top-level columns that are not among `columns` are not read at all.
    pub(super) fn new(
        file: File,
        columns: Option<&[&str]>,
        max_bytes: usize,
    ) -> Result<Self, ParquetError> {
        let reader = unpanicked(|| SerializedFileReader::new(file))?;
        let metadata = reader.metadata().file_metadata();
        let num_rows = usize::try_from(metadata.num_rows()).unwrap_or(0);
        let schema = metadata.schema();
        let columns = schema
            .get_fields()
            .iter()
            .filter(|it| columns.is_none_or(|columns| is_among(columns, it.name())))
            .map(|column| Ok((column.name().to_owned(), project(schema, column)?)))
            .collect::<Result<Vec<(String, SchemaDescPtr)>, ParquetError>>()?;
        let names = columns.iter().map(|it| &it.0);
        if let Some(name) = names
            .enumerate()
            .find_map(|(at, name)| columns[..at].iter().any(|it| it.0 == *name).then_some(name))
        {
            let problem = format!("two columns are called `{name}`; rename one");
            return Err(ParquetError::General(problem));
        }
        Ok(Self {
            reader,
            columns,
            group: 0,
            values: Vec::new(),
            left: 0,
            number: 0,
            num_rows,
            max_bytes,
            notes: Notes::default(),
        })
    }

    /// Fraction of the rows that have been read.
    pub(super) fn fraction(&self) -> f64 {
        self.number as f64 / self.num_rows.max(1) as f64
    }

    /// Goes to the next row; `false` behind the last.
    pub(super) fn advance(&mut self) -> Result<bool, Failure> {
        while self.left == 0 {
            if self.group == self.reader.num_row_groups() {
                return Ok(false);
            }
            self.open_group().map_err(Failure::Parquet)?;
        }
        self.left -= 1;
        self.number += 1;
        Ok(true)
    }

    fn open_group(&mut self) -> Result<(), ParquetError> {
        let group = unpanicked(|| self.reader.get_row_group(self.group))?;
        self.group += 1;
        self.left = usize::try_from(group.metadata().num_rows()).unwrap_or(0);
        self.values = self
            .columns
            .iter()
            .map(|(_, schema)| {
                unpanicked(|| TreeBuilder::new().as_iter(Arc::clone(schema), group.as_ref()))
            })
            .collect::<Result<_, _>>()?;
        Ok(())
    }

    /// Fields of the row; read once.
    pub(super) fn fields(&mut self) -> Result<Map<String, Value>, RowError> {
        let mut row = Map::new();
        let mut budget = Budget { left: self.max_bytes, limit: self.max_bytes };
        for ((name, schema), values) in self.columns.iter().zip(&mut self.values) {
            let ended = || Err(ParquetError::EOF(format!("column `{name}` ends early")));
            let field = unpanicked(|| values.next().unwrap_or_else(ended))
                .map_err(|error| decoding_error(name, error))
                .and_then(only_value)
                .map(|field| with_time(field, schema))?;
            if matches!(field, Field::TimestampMillis(_) | Field::TimestampMicros(_)) {
                self.notes.add(NoteKind::TimeAsText, self.number);
            }
            let value = to_json(field, name, &mut budget)?;
            row.insert(name.clone(), value);
        }
        Ok(row)
    }
}

/// Result of the crate parquet, which panics on some damaged files.
fn unpanicked<T>(read: impl FnOnce() -> Result<T, ParquetError>) -> Result<T, ParquetError> {
    caught(read).unwrap_or_else(|message| {
        Err(ParquetError::General(format!("the file is damaged: reading it {message}")))
    })
}

/// True where a column has one of some names, but for case and white space around it.
fn is_among(columns: &[&str], name: &str) -> bool {
    columns.iter().any(|it| it.eq_ignore_ascii_case(name.trim()))
}

/// The file's schema with one column.
fn project(schema: &Type, column: &Arc<Type>) -> Result<SchemaDescPtr, ParquetError> {
    let fields = vec![Arc::clone(column)];
    let schema = Type::group_type_builder(schema.name()).with_fields(fields).build()?;
    Ok(Arc::new(SchemaDescriptor::new(Arc::new(schema))))
}

/// A time in nanoseconds, which the row interface gives as a number, as one in microseconds.
fn with_time(field: Field, schema: &SchemaDescriptor) -> Field {
    match field {
        Field::Long(nanos) if schema.num_columns() == 1 && is_nanos(&schema.column(0)) => {
            Field::TimestampMicros(nanos.div_euclid(1_000))
        }
        field => field,
    }
}

fn is_nanos(column: &ColumnDescriptor) -> bool {
    let unit = column.logical_type_ref();
    matches!(unit, Some(LogicalType::Timestamp(it)) if it.unit == TimeUnit::NANOS)
}

/// The value of a row that was projected to one column.
fn only_value(row: Row) -> Result<Field, RowError> {
    Ok(row.into_columns().pop().map_or(Field::Null, |(_, field)| field))
}

fn decoding_error(field: &str, error: ParquetError) -> RowError {
    // The row interface has no error of its own for text that is not UTF-8, and quotes every byte.
    if error.to_string().contains("as String") {
        RowError::NotUtf8 { place: format!("field `{field}`") }
    } else {
        RowError::Undecodable { field: field.to_owned(), error }
    }
}

/// Bytes that the values of a row may still have.
struct Budget {
    left: usize,
    limit: usize,
}

impl Budget {
    fn take(&mut self, bytes: usize) -> Result<(), RowError> {
        match self.left.checked_sub(bytes) {
            Some(left) => {
                self.left = left;
                Ok(())
            }
            None => Err(RowError::TooLong { limit: self.limit }),
        }
    }
}

/// A value as JSON. Dates, times and decimals become text; maps with keys of text, objects.
fn to_json(field: Field, name: &str, budget: &mut Budget) -> Result<Value, RowError> {
    budget.take(1)?;
    Ok(match field {
        Field::Null => Value::Null,
        Field::Bool(it) => it.into(),
        Field::Byte(it) => it.into(),
        Field::Short(it) => it.into(),
        Field::Int(it) => it.into(),
        Field::Long(it) => it.into(),
        Field::UByte(it) => it.into(),
        Field::UShort(it) => it.into(),
        Field::UInt(it) => it.into(),
        Field::ULong(it) => it.into(),
        // The digits of the number as it is, not of the nearest one of twice the width.
        Field::Float(it) => it.to_string().parse::<f64>().map_or(Value::Null, Into::into),
        Field::Double(it) => it.into(),
        Field::Str(it) => {
            budget.take(it.len())?;
            it.into()
        }
        // Writers that predate the string annotation store text as plain bytes.
        Field::Bytes(it) => match std::str::from_utf8(it.data()) {
            Ok(text) => {
                budget.take(text.len())?;
                text.into()
            }
            Err(_) => return Err(RowError::NotUtf8 { place: format!("field `{name}`") }),
        },
        Field::Group(row) => {
            let columns = row.into_columns().into_iter();
            let entries = columns.map(|(key, value)| {
                let value = to_json(value, &format!("{name}.{key}"), budget)?;
                Ok((key, value))
            });
            Value::Object(entries.collect::<Result<_, RowError>>()?)
        }
        Field::ListInternal(list) => {
            let elements = list.elements().iter().enumerate();
            let values = elements
                .map(|(index, value)| to_json(value.clone(), &format!("{name}[{index}]"), budget));
            Value::Array(values.collect::<Result<_, RowError>>()?)
        }
        Field::MapInternal(map) => {
            let entries = map.entries().iter().map(|(key, value)| {
                let key = match key {
                    Field::Str(key) => key.clone(),
                    other => other.to_string(),
                };
                let value = to_json(value.clone(), &format!("{name}.{key}"), budget)?;
                Ok((key, value))
            });
            Value::Object(entries.collect::<Result<_, RowError>>()?)
        }
        time @ (Field::TimestampMillis(_) | Field::TimestampMicros(_)) => {
            let text = time.to_string();
            let text = text.strip_suffix(" +00:00").unwrap_or(&text);
            match text.contains('.') {
                true => text.trim_end_matches('0').trim_end_matches('.').into(),
                false => text.into(),
            }
        }
        other => other.to_string().into(),
    })
}

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};

    use parquet::data_type::{ByteArray, ByteArrayType};
    use parquet::file::writer::SerializedFileWriter;
    use parquet::schema::parser::parse_message_type;

    use super::*;
    use crate::read_questions;

    const SEARCH_R1: &str = "message schema {
        OPTIONAL BYTE_ARRAY question (STRING);
        OPTIONAL group reward_model {
            OPTIONAL group ground_truth {
                OPTIONAL group target (LIST) {
                    REPEATED group list { OPTIONAL BYTE_ARRAY element (STRING); }
                }
            }
        }
    }";

    /// One leaf of a column: its values and their definition and repetition levels.
    struct Leaf<'a> {
        values: &'a [&'a [u8]],
        definitions: &'a [i16],
        repetitions: Option<&'a [i16]>,
    }

    fn write(dir: &Path, schema: &str, leaves: &[Leaf<'_>]) -> PathBuf {
        let path = dir.join("q.parquet");
        let schema = Arc::new(parse_message_type(schema).unwrap());
        let file = std::fs::File::create(&path).unwrap();
        let mut writer = SerializedFileWriter::new(file, schema, Arc::default()).unwrap();
        let mut group = writer.next_row_group().unwrap();
        for leaf in leaves {
            let values: Vec<ByteArray> =
                leaf.values.iter().map(|it| ByteArray::from(it.to_vec())).collect();
            let mut column = group.next_column().unwrap().unwrap();
            let typed = column.typed::<ByteArrayType>();
            typed.write_batch(&values, Some(leaf.definitions), leaf.repetitions).unwrap();
            column.close().unwrap();
        }
        group.close().unwrap();
        writer.close().unwrap();
        path
    }

    #[test]
    fn reads_nested_answers() {
        let dir = tempfile::tempdir().unwrap();
        let path = write(
            dir.path(),
            SEARCH_R1,
            &[
                Leaf { values: &[b"who?", b"when?"], definitions: &[1, 1], repetitions: None },
                Leaf {
                    values: &[b"a", b"b", b"1999"],
                    definitions: &[5, 5, 5],
                    repetitions: Some(&[0, 1, 0]),
                },
            ],
        );
        let questions = read_questions(&path).unwrap();
        assert_eq!(questions[0], zs_core::Question::new("q-1", "who?", ["a", "b"]));
        assert_eq!(questions[1], zs_core::Question::new("q-2", "when?", ["1999"]));
    }

    #[track_caller]
    fn check_refuses(schema: &str, leaves: &[Leaf<'_>], expected: &str) {
        let dir = tempfile::tempdir().unwrap();
        let path = write(dir.path(), schema, leaves);
        let message = read_questions(&path).unwrap_err().to_string();
        assert!(message.contains("q.parquet"), "{message}");
        assert!(message.contains(expected), "`{message}` does not say `{expected}`");
    }

    #[test]
    fn names_row_and_field() {
        let two = "message schema {
            OPTIONAL BYTE_ARRAY question (STRING);
            OPTIONAL BYTE_ARRAY answer (STRING);
        }";
        let plain = "message schema {
            OPTIONAL BYTE_ARRAY question (STRING);
            OPTIONAL BYTE_ARRAY answer;
        }";
        let questions =
            || Leaf { values: &[b"a?", b"b?"], definitions: &[1, 1], repetitions: None };
        let answers = |values| Leaf { values, definitions: &[1, 1], repetitions: None };
        check_refuses(
            two,
            &[questions(), Leaf { values: &[b"x"], definitions: &[1, 0], repetitions: None }],
            "row 2: field `golden_answers` is missing",
        );
        check_refuses(
            two,
            &[questions(), answers(&[b"x", b"\xFF"])],
            "row 2: field `answer` is not UTF-8",
        );
        check_refuses(
            plain,
            &[questions(), answers(&[b"x", b"\xFF"])],
            "row 2: field `answer` is not UTF-8",
        );
        check_refuses(
            two,
            &[questions(), answers(&[b"", b"x"])],
            "row 1: field `answer[0]` is empty",
        );
        let none = || Leaf { values: &[], definitions: &[], repetitions: None };
        check_refuses(two, &[none(), none()], "holds no question");
    }

    #[test]
    fn refuses_files_that_are_not_parquet() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("q.parquet");
        for contents in [&b""[..], b"PAR1", b"{\"question\": \"q\", \"answer\": \"a\"}\n"] {
            std::fs::write(&path, contents).unwrap();
            let message = read_questions(&path).unwrap_err().to_string();
            assert!(message.contains("q.parquet: not a readable Parquet file"), "{message}");
        }
    }
}
