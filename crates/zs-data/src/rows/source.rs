//! Rows of an opened file of any format, before they are deserialized.

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::array::Elements;
use super::failure::Failure;
use super::lines::{Lines, without_marks};
use super::notes::Notes;
use super::parquet::ParquetRows;
use super::table::Table;
use crate::RowError;

/// Opened file of one of the formats.
pub(super) enum Source {
    Lines(Lines),
    Array(Elements),
    Table(Box<Table>),
    Parquet(Box<ParquetRows>),
}

impl Source {
    pub(super) fn table(table: Table) -> Self {
        Self::Table(Box::new(table))
    }

    pub(super) fn notes(&self) -> Option<&Notes> {
        match self {
            Self::Table(it) => Some(&it.notes),
            Self::Parquet(it) => Some(&it.notes),
            _ => None,
        }
    }

    pub(super) fn number(&self) -> usize {
        match self {
            Self::Lines(it) => it.number,
            Self::Array(it) => it.number,
            Self::Table(it) => it.number,
            Self::Parquet(it) => it.number,
        }
    }

    /// The next row and its number.
    pub(super) fn next(&mut self) -> Option<(usize, Result<RawRow<'_>, Failure>)> {
        let read = match self {
            Self::Lines(it) => it.advance(),
            Self::Array(it) => it.advance(),
            Self::Table(it) => it.advance(),
            Self::Parquet(it) => it.advance(),
        };
        match read {
            Ok(false) => None,
            Err(failure) => Some((self.number(), Err(failure))),
            Ok(true) => Some((
                self.number(),
                match self {
                    Self::Lines(it) => RawRow::json(without_marks(&it.line)),
                    Self::Array(it) => RawRow::json(&it.element),
                    Self::Table(it) => it.fields().map(RawRow::Fields).map_err(Failure::Row),
                    Self::Parquet(it) => it.fields().map(RawRow::Fields).map_err(Failure::Row),
                },
            )),
        }
    }
}

/// A row before it is deserialized.
pub(super) enum RawRow<'a> {
    Json(&'a str),
    Fields(Map<String, Value>),
}

impl<'a> RawRow<'a> {
    fn json(bytes: &'a [u8]) -> Result<Self, Failure> {
        let not_utf8 = |_| RowError::NotUtf8 { place: "the row".to_owned() };
        Ok(Self::Json(std::str::from_utf8(bytes).map_err(not_utf8)?.trim()))
    }

    pub(super) fn parse<T: DeserializeOwned>(self, noun: &'static str) -> Result<T, RowError> {
        match self {
            Self::Json(text) => serde_json::from_str(text).map_err(|error| {
                let deserializer = &mut serde_json::Deserializer::from_str(text);
                not_json(noun, error, serde_path_to_error::deserialize::<_, T>(deserializer))
            }),
            Self::Fields(fields) => {
                let value = Value::Object(fields);
                T::deserialize(&value).map_err(|error| {
                    not_json(noun, error, serde_path_to_error::deserialize::<_, T>(&value))
                })
            }
        }
    }
}

/// The error of a row, with the path that a second, slower reading has found.
fn not_json<T>(
    noun: &'static str,
    error: serde_json::Error,
    traced: Result<T, serde_path_to_error::Error<serde_json::Error>>,
) -> RowError {
    let path = traced.err().filter(|_| error.is_data()).map(|it| it.path().to_string());
    let field = path.filter(|it| it != ".").unwrap_or_default();
    RowError::NotJson { noun, field, error }
}
