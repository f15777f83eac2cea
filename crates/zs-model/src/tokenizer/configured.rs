//! Tokens that the configuration of a tokenizer adds to those of `tokenizer.json`, as transformers adds
//! them at loading.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::{Map, Value};
use tokenizers::AddedToken;

use crate::special_tokens::{FieldsError, ROLES, SPECIAL_TOKENS_MAP, TokenizerConfig, read_fields};

/// Tokens by the identifiers that a configuration names.
const DECODER: &str = "added_tokens_decoder";
/// The same, in a file of older versions.
const ADDED_TOKENS: &str = "added_tokens.json";
/// Fields with further special tokens.
const EXTRA: [&str; 2] = ["extra_special_tokens", "additional_special_tokens"];

/// Adds the tokens that `tokenizer_config.json`, `added_tokens.json` and `special_tokens_map.json` list
/// and `tokenizer.json` lacks, and gives tokens the flags of `added_tokens_decoder`.
///
/// Tokens with a role become special. One that is not in the vocabulary is only added where other tokens
/// are, since few models have a row for it.
///
/// # Errors
///
/// Fails, naming the file, on a token that is none.
pub(super) fn add_configured(
    tokenizer: &mut tokenizers::Tokenizer,
    config: &TokenizerConfig,
    dir: &Path,
) -> Result<(), FieldsError> {
    let known = tokenizer.get_added_tokens_decoder();
    let mut extra: Vec<&Value> = listed(&config.fields).collect();
    let decoder = config.fields.get(DECODER).filter(|it| !it.is_null());
    let map = match decoder {
        Some(_) => Map::new(),
        None => read_fields(&dir.join(SPECIAL_TOKENS_MAP))?,
    };
    extra.extend(listed(&map));
    let extra = extra
        .into_iter()
        .map(|it| token(it, true).ok_or_else(|| failed(&config.path, EXTRA[0], it)));
    let extra: Vec<AddedToken> = extra.collect::<Result<_, _>>()?;
    let mut added: BTreeMap<u32, AddedToken> = BTreeMap::new();
    if let Some(decoder) = decoder {
        for (id, value) in decoder.as_object().into_iter().flatten() {
            let entry = id.parse().ok().zip(token(value, false));
            let (id, token) = entry.ok_or_else(|| failed(&config.path, DECODER, value))?;
            added.insert(id, token);
        }
    } else {
        let path = dir.join(ADDED_TOKENS);
        for (text, id) in read_fields(&path)? {
            let id = id.as_u64().and_then(|it| u32::try_from(it).ok());
            let id = id.ok_or_else(|| failed(&path, &text, &Value::Null))?;
            let is_special = config.tokens.values().any(|it| *it == text)
                || extra.iter().any(|it| it.content == text);
            // What `tokenizer.json` says of an identifier holds.
            if !known.contains_key(&id) {
                added.insert(id, AddedToken::from(text, is_special));
            }
        }
    }
    let mut missing: Vec<AddedToken> =
        added.into_values().filter(|it| !known.values().any(|own| is_same(own, it))).collect();
    let is_known = |text: &str, missing: &[AddedToken]| {
        known.values().chain(missing).any(|it| it.content == text)
    };
    let extra: Vec<AddedToken> =
        extra.into_iter().filter(|it| !is_known(&it.content, &missing)).collect();
    let is_in_vocabulary = |text: &str| tokenizer.token_to_id(text).is_some();
    let grows = !extra.is_empty() || missing.iter().any(|it| !is_in_vocabulary(&it.content));
    let roles = ROLES.iter().filter_map(|it| config.tokens.get(*it));
    for text in roles.chain(config.tokens.values()) {
        if !is_known(text, &missing) && (grows || is_in_vocabulary(text)) {
            missing.push(AddedToken::from(text.clone(), true));
        }
    }
    missing.extend(extra);
    if !missing.is_empty() {
        tokenizer.add_tokens(missing).map_err(|it| FieldsError {
            path: config.path.clone(),
            message: format!("its tokens cannot be added: {it}"),
        })?;
    }
    let splits = config.fields.get("split_special_tokens").and_then(Value::as_bool);
    tokenizer.set_encode_special_tokens(splits.unwrap_or(false));
    Ok(())
}

/// Further special tokens of a file, where they are a list.
fn listed(fields: &Map<String, Value>) -> impl Iterator<Item = &Value> {
    EXTRA.iter().filter_map(|it| fields.get(*it)?.as_array()).flatten()
}

/// A token, given as a text or as an object.
fn token(value: &Value, is_special: bool) -> Option<AddedToken> {
    let text = value.as_str().or_else(|| value.get("content")?.as_str())?;
    let flag = |name: &str| value.get(name).and_then(Value::as_bool);
    let special = flag("special").unwrap_or(is_special);
    Some(
        AddedToken::from(text, special)
            .single_word(flag("single_word").unwrap_or(false))
            .lstrip(flag("lstrip").unwrap_or(false))
            .rstrip(flag("rstrip").unwrap_or(false))
            .normalized(flag("normalized").unwrap_or(!special)),
    )
}

fn is_same(first: &AddedToken, second: &AddedToken) -> bool {
    let parts = |it: &AddedToken| {
        (it.content.clone(), it.single_word, it.lstrip, it.rstrip, it.normalized, it.special)
    };
    parts(first) == parts(second)
}

fn failed(path: &Path, field: &str, value: &Value) -> FieldsError {
    let message = format!("`{field}` holds what is no token: {value}");
    FieldsError { path: path.to_owned(), message }
}
