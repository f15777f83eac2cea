//! The chat template of a model directory, from the files that may hold it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::ChatTemplateError;
use crate::model_file;
use crate::special_tokens::{FieldsError, TokenizerConfig, read_fields};

const TEMPLATE: &str = "chat_template.jinja";
const ADDITIONAL: &str = "additional_chat_templates";
const PROCESSOR: &str = "chat_template.json";
const FIELD: &str = "chat_template";

/// Template that holds in place of several when none is asked for by name.
const DEFAULT: &str = "default";

/// Source of a template, with the file that holds it.
pub(super) struct TemplateSource {
    pub(super) path: PathBuf,
    pub(super) source: String,
}

impl From<FieldsError> for ChatTemplateError {
    fn from(error: FieldsError) -> Self {
        Self::Read { path: error.path, message: error.message }
    }
}

/// Finds the template, in the order of transformers: `chat_template.jinja`, `chat_template` in
/// `tokenizer_config.json`, then `chat_template.json`.
///
/// Of several templates, the one named `default` is taken.
pub(super) fn find(
    dir: &Path,
    config: &TokenizerConfig,
) -> Result<Option<TemplateSource>, ChatTemplateError> {
    let path = dir.join(TEMPLATE);
    let own = model_file::read_optional(&path)
        .map_err(|it| ChatTemplateError::Read { path: path.clone(), message: it.to_string() })?;
    if let Some(source) = own {
        return Ok(Some(TemplateSource { path, source }));
    }
    let additional = dir.join(ADDITIONAL).join(format!("{DEFAULT}.jinja"));
    let additional_source = model_file::read_optional(&additional).map_err(|it| {
        ChatTemplateError::Read { path: additional.clone(), message: it.to_string() }
    })?;
    if let Some(source) = additional_source {
        return Ok(Some(TemplateSource { path: additional, source }));
    }
    let in_config = config.fields.get(FIELD);
    if let Some(source) = chosen(in_config, &config.path)? {
        return Ok(Some(TemplateSource { path: config.path.clone(), source }));
    }
    let path = dir.join(PROCESSOR);
    let source = chosen(read_fields(&path)?.get(FIELD), &path)?;
    Ok(source.map(|source| TemplateSource { path, source }))
}

/// The template that a field holds: a text, or one of several with names.
fn chosen(field: Option<&Value>, path: &Path) -> Result<Option<String>, ChatTemplateError> {
    let failed = |message: String| ChatTemplateError::Read { path: path.to_owned(), message };
    let text = |it: &Value| it.as_str().map(str::to_owned);
    let named: BTreeMap<String, String> = match field {
        None | Some(Value::Null) => return Ok(None),
        Some(Value::String(source)) => return Ok(Some(source.clone())),
        Some(Value::Object(templates)) => {
            templates.iter().filter_map(|(name, it)| Some((name.clone(), text(it)?))).collect()
        }
        Some(Value::Array(templates)) => {
            let entry = |it: &Value| Some((text(it.get("name")?)?, text(it.get("template")?)?));
            templates.iter().filter_map(entry).collect()
        }
        Some(_) => {
            return Err(failed(format!("`{FIELD}` is neither a text nor a list of templates")));
        }
    };
    if let Some(source) = named.get(DEFAULT) {
        return Ok(Some(source.clone()));
    }
    let names: Vec<&str> = named.keys().map(String::as_str).collect();
    Err(failed(format!(
        "none of the templates of `{FIELD}` is named `{DEFAULT}` (there are: {}); name one so, or write it to \
         {TEMPLATE}",
        if names.is_empty() { "none".to_owned() } else { names.join(", ") }
    )))
}

/// Length of the longest `{{ .. }}` or `{% .. %}` of a template in bytes, without the texts in quotes.
pub(super) fn longest_block(template: &str) -> usize {
    let bytes = template.as_bytes();
    let (mut at, mut longest) = (0, 0);
    while at < bytes.len() {
        if !bytes[at..].starts_with(b"{{") && !bytes[at..].starts_with(b"{%") {
            at += 1;
            continue;
        }
        at += 2;
        let (mut length, mut quote) = (0, None);
        while at < bytes.len() {
            let is_end = bytes[at..].starts_with(b"}}") || bytes[at..].starts_with(b"%}");
            match (quote, bytes[at]) {
                (None, _) if is_end => break,
                (None, it @ (b'"' | b'\'')) => quote = Some(it),
                (None, _) => length += 1,
                // The sign after it ends no text.
                (Some(_), b'\\') => at += 1,
                (Some(opening), it) if it == opening => quote = None,
                (Some(_), _) => {}
            }
            at += 1;
        }
        longest = longest.max(length);
    }
    longest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_measured_without_their_texts() {
        for (template, expected) in [
            ("", 0),
            ("a { b", 0),
            ("{{a}}", 1),
            ("{{ 'long \\' }} text' }}{% if b %}", 6),
            ("{% set x = \"é}}\" + 'y' %}", 13),
            ("{{ never closed é", 16),
        ] {
            assert_eq!(longest_block(template), expected, "{template}");
        }
    }
}
