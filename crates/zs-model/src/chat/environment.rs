//! The template engine, set up as transformers sets up Jinja2.

use chrono::NaiveDate;
use minijinja::syntax::SyntaxConfig;
use minijinja::value::ValueKind;
use minijinja::{Environment, Error, ErrorKind, Value};

use super::generation_tag::translated;
use super::python::{call_method, is_iterable, is_sequence, write_value};
use super::to_json::to_json;

/// Work that one rendering may take: instructions, and one unit per 64 bytes of text.
///
/// The longest templates in use spend a few thousand units on a conversation.
const FUEL: u64 = 4_000_000;

/// Name of the template in its environment.
pub(super) const NAME: &str = "chat";

/// Environment with one template. `strftime_now` tells `date`.
pub(super) fn environment(source: &str, date: NaiveDate) -> Result<Environment<'static>, Error> {
    let mut environment = Environment::new();
    environment.set_syntax(SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build()?);
    environment.set_unknown_method_callback(call_method);
    environment.set_formatter(write_value);
    environment.set_fuel(Some(FUEL));
    environment.add_function("raise_exception", |message: String| -> Result<String, Error> {
        Err(Error::new(ErrorKind::InvalidOperation, message))
    });
    environment.add_function("strftime_now", move |format: &str| strftime(date, format));
    environment.add_filter("tojson", to_json);
    environment.add_test("iterable", is_iterable);
    environment.add_test("sequence", is_sequence);
    environment.add_test("callable", |it: &Value| it.kind() == ValueKind::Plain);
    // Jinja2 reads every line end as a line feed.
    let source = source.replace("\r\n", "\n").replace('\r', "\n");
    environment.add_template_owned(NAME, translated(&source))?;
    Ok(environment)
}

fn strftime(date: NaiveDate, format: &str) -> Result<String, Error> {
    use std::fmt::Write;

    let mut text = String::new();
    let noon = date.and_hms_opt(12, 0, 0).unwrap_or_default();
    // A format that is not known fails when it is written.
    write!(text, "{}", noon.format(format)).map_err(|_| {
        Error::new(ErrorKind::InvalidOperation, format!("strftime_now does not know `{format}`"))
    })?;
    Ok(text)
}
