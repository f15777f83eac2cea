//! Single values of a row as text.

use serde_json::{Number, Value};

use crate::rows::notes::NoteKind;
use crate::{RowContext, RowError};

/// Whole numbers up to this are kept exactly by every format.
const MAX_EXACT: f64 = 9_007_199_254_740_992.0;

/// A text that is not blank, trimmed, or the digits of a number; `None` for a null in a list.
pub(crate) fn scalar(
    value: &Value,
    field: impl FnOnce() -> String,
    context: &mut RowContext<'_>,
) -> Result<Option<String>, RowError> {
    match value {
        Value::String(text) => not_blank(text, field).map(Some),
        other => number(other, field, context),
    }
}

/// The digits of a number; `None`, with a note, for null.
pub(crate) fn number(
    value: &Value,
    field: impl FnOnce() -> String,
    context: &mut RowContext<'_>,
) -> Result<Option<String>, RowError> {
    match value {
        Value::Null => {
            context.note(NoteKind::NullInList);
            Ok(None)
        }
        Value::Number(number) => match digits(number) {
            Some((digits, kind)) => {
                context.note(kind);
                Ok(Some(digits))
            }
            None => Err(wrong_type(&field(), "a text, since it is too large to be exact", value)),
        },
        other => Err(wrong_type(&field(), "a text or a number", other)),
    }
}

/// A number as text, and how certain that is; `None` for one that no reader keeps exactly.
pub(crate) fn digits(number: &Number) -> Option<(String, NoteKind)> {
    match number.as_f64().filter(|_| number.is_f64()) {
        None => Some((number.to_string(), NoteKind::NumberAsText)),
        Some(value) if value.abs() < MAX_EXACT => {
            Some((number.to_string(), NoteKind::FractionAsText))
        }
        Some(_) => None,
    }
}

/// The value of a field that must have a text: one that is not blank, trimmed, or a number's digits.
pub(crate) fn text(
    value: &Value,
    field: impl Fn() -> String,
    context: &mut RowContext<'_>,
) -> Result<String, RowError> {
    scalar(value, &field, context)?.ok_or_else(|| RowError::Empty { field: field() })
}

/// The trimmed text, if anything is left of it.
pub(crate) fn not_blank(text: &str, field: impl FnOnce() -> String) -> Result<String, RowError> {
    let text = text.trim();
    if text.is_empty() { Err(RowError::Empty { field: field() }) } else { Ok(text.to_owned()) }
}

/// True for a text that pandas reads as a missing value, or that a program writes for one.
pub(crate) fn is_missing_marker(text: &str) -> bool {
    matches!(
        text,
        "nan"
            | "NaN"
            | "-nan"
            | "-NaN"
            | "null"
            | "NULL"
            | "None"
            | "NA"
            | "N/A"
            | "n/a"
            | "NaT"
            | "<NA>"
            | "#NA"
            | "#N/A"
            | "#N/A N/A"
            | "1.#IND"
            | "-1.#IND"
            | "1.#QNAN"
            | "-1.#QNAN"
    )
}

/// True for an answer of which scoring leaves nothing, since it is an article, as the letter `A` of a
/// choice, or punctuation.
pub(crate) fn leaves_nothing(answer: &str) -> bool {
    let is_odd = answer.chars().any(char::is_uppercase) || !answer.contains(char::is_alphanumeric);
    is_odd && !answer.trim().is_empty() && zs_core::normalize_answer(answer).is_empty()
}

/// True for a text with signs of a wrong decoding (U+FFFD, UTF-8 read as Latin-1) or of one escape too
/// many (`\u00e9`, `&amp;`).
pub(crate) fn is_damaged(text: &str) -> bool {
    text.contains(['\u{fffd}', 'Ã', 'â', '\\', '&'])
        && (text.contains('\u{fffd}')
            || is_latin(text)
            || text.split("\\u").skip(1).any(|it| has_digits(it, 4, 16))
            || text.split('&').skip(1).any(is_entity))
}

/// True where two or three bytes of UTF-8 were read as characters of Latin-1 or of Windows.
fn is_latin(text: &str) -> bool {
    let follows = |lead: char, is_rest: fn(char) -> bool| {
        text.split(lead).skip(1).any(|it| it.starts_with(is_rest))
    };
    follows('Ã', |it| ('\u{80}'..='\u{bf}').contains(&it) || it == 'ƒ' || it == '‰')
        || follows('â', |it| it == '\u{80}' || it == '€')
}

fn has_digits(text: &str, count: usize, radix: u32) -> bool {
    let digits = text.chars().take(count).filter(|it| it.is_digit(radix));
    count > 0 && digits.count() == count
}

/// True for what follows the `&` of an entity of HTML.
fn is_entity(rest: &str) -> bool {
    let Some((name, _)) = rest.split_once(';') else { return false };
    match name.strip_prefix('#') {
        Some(number) => has_digits(number, number.len(), 10),
        None => matches!(name, "amp" | "quot" | "apos" | "lt" | "gt" | "nbsp"),
    }
}

pub(crate) fn list<'a>(value: &'a Value, field: &str) -> Result<&'a [Value], RowError> {
    value.as_array().map(Vec::as_slice).ok_or_else(|| wrong_type(field, "a list", value))
}

/// The name of an element of a list, counted from 0 as in JSON paths.
pub(crate) fn element(field: &str, index: usize) -> String {
    format!("{field}[{index}]")
}

pub(crate) fn wrong_type(field: &str, expected: &'static str, value: &Value) -> RowError {
    let found = match value {
        Value::Null => "null",
        Value::Bool(_) => "a truth value",
        Value::Number(number) if number.is_f64() => "a fraction",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    };
    RowError::WrongType { field: field.to_owned(), expected, found }
}
