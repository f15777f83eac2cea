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
    /// `passage` or `content`.
    passage: Option<Scalar>,
    /// Id under a name other than `id` and `_id`.
    other_id: Option<Scalar>,
    /// True where two fields with one name differ.
    has_differing: bool,
}

impl DocumentRow {
    /// The document of a row; `None` for one that is empty.
    pub(crate) fn into_document(
        self,
        context: &mut RowContext<'_>,
    ) -> Result<Option<Document>, RowError> {
        let Self { id, title, text: body, contents, passage, other_id, has_differing } = self;
        if body.is_none() && contents.is_none() && passage.is_none() {
            let alternatives = "contents, passage, content";
            return Err(RowError::Missing { field: "text", alternatives });
        }
        let id = match id.filter(|it| !matches!(it, Scalar::Null)).or(other_id) {
            Some(Scalar::Number(number)) if !number.is_f64() => number.to_string(),
            id => text(id, "id", context)?.unwrap_or_default(),
        };
        let filled = |it: Option<String>| it.filter(|it| !it.trim().is_empty());
        let contents = text(contents, "contents", context)?.unwrap_or_default();
        let (inner_title, inner_text) = Document::split_contents(&contents);
        let body = filled(text(body, "text", context)?);
        let passage = filled(text(passage, "passage", context)?);
        let is_other =
            |it: &str| ![inner_text, &contents].iter().any(|own| own.trim() == it.trim());
        let is_lost = |it: &String| passage.as_ref().is_some_and(|other| other.trim() != it.trim());
        let has_other = body.as_ref().is_some_and(|it| !contents.trim().is_empty() && is_other(it));
        if has_differing || has_other || body.as_ref().is_some_and(is_lost) {
            context.note(NoteKind::FieldsDiffer);
        }
        // The title of another text is none of this one.
        let inner_title = if has_other { "" } else { inner_title };
        if body.is_none() && !inner_title.is_empty() {
            let line = contents.split('\n').next().unwrap_or_default().trim();
            let is_bare = line == inner_title;
            context.note(if is_bare { NoteKind::BareTitle } else { NoteKind::WrappedTitle });
        }
        let title =
            filled(text(title, "title", context)?).unwrap_or_else(|| inner_title.to_owned());
        let body = body.or_else(|| filled(Some(inner_text.to_owned()))).or(passage);
        let text = body.unwrap_or_else(|| title.clone());
        if [&title, &text].iter().any(|it| matches!(it.as_str(), "nan" | "None" | "null" | "<NA>"))
        {
            context.note(NoteKind::MissingMarker);
        }
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
            let lower = key.trim().to_ascii_lowercase();
            let field = match lower.as_str() {
                "id" | "_id" => &mut row.id,
                "title" => &mut row.title,
                "text" => &mut row.text,
                "contents" => &mut row.contents,
                "passage" | "content" => &mut row.passage,
                "docid" | "doc_id" | "pid" | "passage_id" => &mut row.other_id,
                _ => {
                    map.next_value::<IgnoredAny>()?;
                    continue;
                }
            };
            let is_text = matches!(lower.as_str(), "title" | "text" | "contents");
            let value = map.next_value()?;
            match &*field {
                None | Some(Scalar::Null) => *field = Some(value),
                Some(first) => row.has_differing |= is_text && *first != value,
            }
        }
        Ok(row)
    }
}

/// A value that stands for a text.
#[derive(Debug, PartialEq)]
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
