//! Row of a corpus, in any of the forms that public corpora have.

use std::fmt;

use serde::de::{Error, IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::Number;
use zs_core::Document;

use crate::questions::fields::values::digits;
use crate::{NoteKind, RowContext, RowError};

/// A row as it stands in a file. Of fields with the same name but for case, the first is kept.
#[derive(Debug, Default)]
pub(crate) struct DocumentRow {
    id: Option<Scalar>,
    title: Option<Scalar>,
    text: Option<Scalar>,
    contents: Option<Scalar>,
}

impl DocumentRow {
    /// The document of a row; `None` for one that is empty.
    pub(crate) fn into_document(
        self,
        context: &mut RowContext<'_>,
    ) -> Result<Option<Document>, RowError> {
        if self.text.is_none() && self.contents.is_none() {
            return Err(RowError::Missing { field: "text", alternatives: "contents" });
        }
        let id = match self.id {
            Some(Scalar::Number(number)) if !number.is_f64() => number.to_string(),
            id => text(id, "id", context)?.unwrap_or_default(),
        };
        let contents = text(self.contents, "contents", context)?.unwrap_or_default();
        let (title, body) = match text(self.text, "text", context)? {
            Some(text) => (String::new(), text),
            None => {
                let (title, text) = Document::split_contents(&contents);
                if !title.is_empty() {
                    let line = contents.split('\n').next().unwrap_or_default().trim();
                    let is_bare = line == title;
                    context.note(if is_bare {
                        NoteKind::BareTitle
                    } else {
                        NoteKind::WrappedTitle
                    });
                }
                (title.to_owned(), text.to_owned())
            }
        };
        let title = text(self.title, "title", context)?.unwrap_or(title);
        let text = if body.trim().is_empty() { title.clone() } else { body };
        if text.trim().is_empty() {
            context.note(NoteKind::EmptyDocument);
            return Ok(None);
        }
        Ok(Some(Document { id, title, text, score: None }))
    }
}

/// The text of a field; `None` where it is absent or null.
fn text(
    value: Option<Scalar>,
    field: &'static str,
    context: &mut RowContext<'_>,
) -> Result<Option<String>, RowError> {
    match value {
        None | Some(Scalar::Null) => Ok(None),
        Some(Scalar::Text(text)) => Ok(Some(text)),
        Some(Scalar::Number(number)) => match digits(&number) {
            Some((digits, kind)) => {
                context.note(kind);
                Ok(Some(digits))
            }
            None => Err(RowError::WrongType {
                field: field.to_owned(),
                expected: "a text, since it is too large to be exact",
                found: "a fraction",
            }),
        },
    }
}

impl<'de> Deserialize<'de> for DocumentRow {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(RowVisitor)
    }
}

struct RowVisitor;

impl<'de> Visitor<'de> for RowVisitor {
    type Value = DocumentRow;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object with `text` or `contents`")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<DocumentRow, A::Error> {
        let mut row = DocumentRow::default();
        while let Some(key) = map.next_key::<String>()? {
            let field = match key.trim().to_ascii_lowercase().as_str() {
                "id" | "_id" => &mut row.id,
                "title" => &mut row.title,
                "text" => &mut row.text,
                "contents" => &mut row.contents,
                _ => {
                    map.next_value::<IgnoredAny>()?;
                    continue;
                }
            };
            let value = map.next_value()?;
            if matches!(field, None | Some(Scalar::Null)) {
                *field = Some(value);
            }
        }
        Ok(row)
    }
}

/// A value that stands for a text.
#[derive(Debug)]
enum Scalar {
    Null,
    Text(String),
    Number(Number),
}

impl<'de> Deserialize<'de> for Scalar {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ScalarVisitor)
    }
}

struct ScalarVisitor;

impl Visitor<'_> for ScalarVisitor {
    type Value = Scalar;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a text")
    }

    fn visit_unit<E: Error>(self) -> Result<Scalar, E> {
        Ok(Scalar::Null)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Scalar, E> {
        Ok(Scalar::Text(text.to_owned()))
    }

    fn visit_string<E: Error>(self, text: String) -> Result<Scalar, E> {
        Ok(Scalar::Text(text))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Scalar, E> {
        Ok(Scalar::Number(value.into()))
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Scalar, E> {
        Ok(Scalar::Number(value.into()))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Scalar, E> {
        Ok(Number::from_f64(value).map_or(Scalar::Null, Scalar::Number))
    }
}
