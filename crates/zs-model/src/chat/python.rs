//! Methods of Python's texts and lists that minijinja's own compatibility layer lacks, and tests and
//! printing as in Python.

use minijinja::value::{Value, ValueKind, from_args};
use minijinja::{Error, ErrorKind, Output, State, escape_formatter};
use minijinja_contrib::pycompat::unknown_method_callback;

use super::to_json::python_float;

/// Longest text that a method pads to.
const MAX_WIDTH: usize = 1 << 16;

/// Calls a method that the template engine does not know.
pub(super) fn call_method(
    state: &mut State<'_, '_>,
    value: &Value,
    method: &str,
    args: &[Value],
) -> Result<Value, Error> {
    let found = match (value.as_str(), value.kind()) {
        (Some(text), _) => text_method(text, method, args)?,
        (None, ValueKind::Seq) if method == "index" => {
            let (item,): (&Value,) = from_args(args)?;
            let position = value.try_iter()?.position(|it| it == *item);
            Some(position.map(Value::from).ok_or_else(|| missing("list"))?)
        }
        _ => None,
    };
    match found {
        Some(found) => Ok(found),
        None => unknown_method_callback(state, value, method, args),
    }
}

fn missing(container: &str) -> Error {
    Error::new(ErrorKind::InvalidOperation, format!("the {container} does not hold the item"))
}

/// Result of a method of texts; `None` for methods that are known elsewhere, or not at all.
fn text_method(text: &str, method: &str, args: &[Value]) -> Result<Option<Value>, Error> {
    let one = || -> Result<&str, Error> { from_args::<(&str,)>(args).map(|it| it.0) };
    let padded = || -> Result<(usize, char), Error> {
        let (width, fill): (usize, Option<char>) = from_args(args)?;
        if width > MAX_WIDTH {
            let message = format!("a text is padded to {MAX_WIDTH} characters at most");
            return Err(Error::new(ErrorKind::InvalidOperation, message));
        }
        Ok((width.saturating_sub(text.chars().count()), fill.unwrap_or(' ')))
    };
    let fill = |count: usize, sign: char| std::iter::repeat_n(sign, count).collect::<String>();
    Ok(Some(match method {
        "removeprefix" => text.strip_prefix(one()?).unwrap_or(text).into(),
        "removesuffix" => text.strip_suffix(one()?).unwrap_or(text).into(),
        "partition" => {
            let separator = one()?;
            match text.split_once(separator) {
                Some((before, after)) => Value::from((before, separator, after)),
                None => Value::from((text, "", "")),
            }
        }
        "rpartition" => {
            let separator = one()?;
            match text.rsplit_once(separator) {
                Some((before, after)) => Value::from((before, separator, after)),
                None => Value::from(("", "", text)),
            }
        }
        "rsplit" => {
            let (separator, limit): (Option<&str>, Option<i64>) = from_args(args)?;
            let limit =
                limit.and_then(|it| usize::try_from(it).ok()).map_or(usize::MAX, |it| it + 1);
            let mut parts: Vec<&str> = match separator {
                Some(it) => text.rsplitn(limit, it).collect(),
                None => rsplit_white_space(text, limit),
            };
            parts.reverse();
            parts.into_iter().map(Value::from).collect::<Vec<_>>().into()
        }
        "index" => {
            let at = text.find(one()?).ok_or_else(|| missing("text"))?;
            text[..at].chars().count().into()
        }
        "ljust" => {
            let (count, sign) = padded()?;
            format!("{text}{}", fill(count, sign)).into()
        }
        "rjust" => {
            let (count, sign) = padded()?;
            format!("{}{text}", fill(count, sign)).into()
        }
        "center" => {
            let (count, sign) = padded()?;
            // Python puts the odd one left where the width is odd.
            let left = count / 2 + (count & (count + text.chars().count()) & 1);
            format!("{}{text}{}", fill(left, sign), fill(count - left, sign)).into()
        }
        "zfill" => {
            let (count, _) = padded()?;
            let (sign, digits) = text.split_at(usize::from(text.starts_with(['+', '-'])));
            format!("{sign}{}{digits}", fill(count, '0')).into()
        }
        "casefold" => text.to_lowercase().into(),
        "swapcase" => {
            let swapped = |it: char| -> String {
                if it.is_lowercase() {
                    it.to_uppercase().collect()
                } else {
                    it.to_lowercase().collect()
                }
            };
            text.chars().map(swapped).collect::<String>().into()
        }
        _ => return Ok(None),
    }))
}

/// Parts between white space from the right, the last part first; `limit` of them at most.
fn rsplit_white_space(text: &str, limit: usize) -> Vec<&str> {
    let mut parts = Vec::new();
    let mut rest = text.trim_end();
    while !rest.is_empty() {
        let cut = rest.rfind(char::is_whitespace).filter(|_| parts.len() + 1 < limit);
        let start = cut.map_or(0, |at| at + rest[at..].chars().next().map_or(0, char::len_utf8));
        parts.push(if cut.is_some() { &rest[start..] } else { rest.trim_start() });
        rest = rest[..cut.unwrap_or(0)].trim_end();
    }
    parts
}

/// Returns true for what Python iterates over: texts too, and nothing else that is not a container.
pub(super) fn is_iterable(value: &Value) -> bool {
    !matches!(value.kind(), ValueKind::None | ValueKind::Bool | ValueKind::Number)
}

/// Returns true for what has a length and items: texts and dictionaries too.
pub(super) fn is_sequence(value: &Value) -> bool {
    let kind = value.kind();
    matches!(kind, ValueKind::Undefined | ValueKind::String | ValueKind::Seq | ValueKind::Map)
}

/// Writes a value into the output, floats as Python does.
pub(super) fn write_value(
    out: &mut Output<'_>,
    state: &mut State<'_, '_>,
    value: &Value,
) -> Result<(), Error> {
    let float = match value.kind() {
        ValueKind::Number if !value.is_integer() => f64::try_from(value.clone()).ok(),
        _ => None,
    };
    match float.filter(|it| it.is_finite()) {
        Some(float) => out.write_str(&python_float(float)).map_err(Error::from),
        None => escape_formatter(out, state, value),
    }
}
