//! The filter `tojson` as transformers defines it: Python's `json.dumps`.

use std::io::{self, Write};

use minijinja::value::Kwargs;
use minijinja::{Error, ErrorKind, State, Value};
use serde::Serialize;
use serde_json::ser::{Formatter, PrettyFormatter, Serializer};

/// Writes a value as JSON. Options are those of the filter in transformers: `ensure_ascii`, `indent`,
/// `separators` and `sort_keys`.
pub(super) fn to_json(
    state: &State<'_, '_>,
    value: &Value,
    ensure_ascii: Option<bool>,
    options: Kwargs,
) -> Result<Value, Error> {
    if value.is_undefined() {
        return Err(failed("an undefined value has no JSON"));
    }
    let ensure_ascii = match ensure_ascii {
        Some(it) => it,
        None => options.get::<Option<bool>>("ensure_ascii")?.unwrap_or(false),
    };
    let sort_keys = options.get::<Option<bool>>("sort_keys")?.unwrap_or(false);
    let separators = options.get::<Option<Vec<String>>>("separators")?;
    let indent = options.get::<Option<Value>>("indent")?.filter(|it| !it.is_none());
    options.assert_all_used()?;
    let indent = match indent {
        None => None,
        Some(it) => Some(match it.as_str() {
            Some(text) => text.to_owned(),
            None => " ".repeat(u8::try_from(it)?.into()),
        }),
    };
    let [item, key] = match separators {
        Some(it) => {
            <[String; 2]>::try_from(it).map_err(|_| failed("`separators` are not two texts"))?
        }
        None if indent.is_some() => [",".to_owned(), ": ".to_owned()],
        None => [", ".to_owned(), ": ".to_owned()],
    };
    let mut json = serde_json::to_value(value).map_err(|it| failed(it.to_string()))?;
    if sort_keys {
        json.sort_all_objects();
    }
    let lines = indent.as_ref().map(|it| PrettyFormatter::with_indent(it.as_bytes()));
    let format = PythonFormatter { lines, item, key, ensure_ascii };
    let mut out = Vec::new();
    json.serialize(&mut Serializer::with_formatter(&mut out, format))
        .map_err(|it| failed(it.to_string()))?;
    state.consume_fuel(out.len() as u64 / 4)?;
    let text = String::from_utf8(out).map_err(|it| failed(it.to_string()))?;
    Ok(Value::from_safe_string(text))
}

fn failed(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::BadSerialization, message.into())
}

/// A float as Python writes it: the shortest digits, and an exponent of two digits from 1e16 on and
/// below 1e-4.
pub(super) fn python_float(value: f64) -> String {
    let size = value.abs();
    if size != 0.0 && !(1e-4..1e16).contains(&size) {
        let text = format!("{value:e}");
        let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
        let (sign, exponent) = match exponent.strip_prefix('-') {
            Some(it) => ('-', it),
            None => ('+', exponent),
        };
        return format!("{digits}e{sign}{exponent:0>2}");
    }
    format!("{value:?}")
}

/// Format of Python's `json.dumps`.
struct PythonFormatter<'a> {
    /// Writes line breaks, where there is an indent.
    lines: Option<PrettyFormatter<'a>>,
    item: String,
    key: String,
    ensure_ascii: bool,
}

/// Implements methods of [`Formatter`] by those of [`PrettyFormatter`] where there is an indent, else
/// by writing a text.
macro_rules! bracket {
    ($($name:ident $text:literal),*) => {
        $(fn $name<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
            match &mut self.lines {
                Some(lines) => lines.$name(writer),
                None => writer.write_all($text),
            }
        })*
    };
}

impl PythonFormatter<'_> {
    /// Writes what separates an item from the one before it.
    fn begin_item<W: ?Sized + Write>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        if !first {
            writer.write_all(self.item.as_bytes())?;
        }
        match &mut self.lines {
            // Writes the line break and the indent.
            Some(lines) => lines.begin_array_value(writer, true),
            None => Ok(()),
        }
    }
}

impl Formatter for PythonFormatter<'_> {
    bracket!(
        begin_array b"[", end_array b"]", end_array_value b"",
        begin_object b"{", end_object b"}", end_object_value b""
    );

    fn begin_array_value<W: ?Sized + Write>(
        &mut self,
        writer: &mut W,
        first: bool,
    ) -> io::Result<()> {
        self.begin_item(writer, first)
    }

    fn begin_object_key<W: ?Sized + Write>(
        &mut self,
        writer: &mut W,
        first: bool,
    ) -> io::Result<()> {
        self.begin_item(writer, first)
    }

    fn begin_object_value<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        writer.write_all(self.key.as_bytes())
    }

    fn write_f64<W: ?Sized + Write>(&mut self, writer: &mut W, value: f64) -> io::Result<()> {
        writer.write_all(python_float(value).as_bytes())
    }

    fn write_string_fragment<W: ?Sized + Write>(
        &mut self,
        writer: &mut W,
        fragment: &str,
    ) -> io::Result<()> {
        if !self.ensure_ascii {
            return writer.write_all(fragment.as_bytes());
        }
        let mut units = [0; 2];
        for sign in fragment.chars() {
            match sign {
                ' '..='~' => writer.write_all(&[sign as u8])?,
                _ => sign
                    .encode_utf16(&mut units)
                    .iter()
                    .try_for_each(|it| write!(writer, "\\u{it:04x}"))?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use minijinja::value::Serde;
    use minijinja::{Environment, context};

    use super::*;

    #[track_caller]
    fn check(expression: &str, expected: &str) {
        let mut environment = Environment::new();
        environment.add_filter("tojson", to_json);
        let value: serde_json::Value = serde_json::from_str(
            r#"{"b": [1, 2.0, 1e-05, 1e16, null, true, "é<'\"\n\u001f"], "a": {}, "c": []}"#,
        )
        .unwrap();
        let rendered = environment.render_str(expression, context! { v => Serde(value) });
        match rendered {
            Ok(text) => assert_eq!(text, expected, "{expression}"),
            Err(error) => assert!(format!("{error:#}").contains(expected), "{error:#}"),
        }
    }

    /// Expected texts are those of transformers 5.24 (`json.dumps`).
    #[test]
    fn writes_what_transformers_writes() {
        let list = r#"[1, 2.0, 1e-05, 1e+16, null, true, "é<'\"\n\u001f"]"#;
        check("{{ v|tojson }}", &format!(r#"{{"b": {list}, "a": {{}}, "c": []}}"#));
        check(
            "{{ v|tojson(sort_keys=true, ensure_ascii=true, separators=(',', ':')) }}",
            r#"{"a":{},"b":[1,2.0,1e-05,1e+16,null,true,"\u00e9<'\"\n\u001f"],"c":[]}"#,
        );
        check(
            "{{ {'a': [1, {}], 'b': 2}|tojson(indent=2) }}",
            "{\n  \"a\": [\n    1,\n    {}\n  ],\n  \"b\": 2\n}",
        );
        check("{{ [1]|tojson(indent='\t') }}", "[\n\t1\n]");
        check("{{ '🎬'|tojson(true) }}", r#""\ud83c\udfac""#);
        check("{{ none|tojson }}", "null");
        check("{{ missing|tojson }}", "undefined");
        check("{{ 1|tojson(separators=['a']) }}", "two texts");
        check("{{ 1|tojson(other=1) }}", "other");
    }

    #[test]
    fn floats_are_those_of_python() {
        for (value, expected) in [
            (0.0, "0.0"),
            (-0.0, "-0.0"),
            (0.0001, "0.0001"),
            (0.000_012, "1.2e-05"),
            (1.5e300, "1.5e+300"),
            (123_456_789_012_345_680.0, "1.2345678901234568e+17"),
            (9_007_199_254_740_993.0, "9007199254740992.0"),
        ] {
            assert_eq!(python_float(value), expected);
        }
    }
}
