//! Special tokens of a model directory, by their roles.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use crate::model_file;

const CONFIG: &str = "tokenizer_config.json";
pub(crate) const SPECIAL_TOKENS_MAP: &str = "special_tokens_map.json";

/// Roles that every tokenizer of transformers has.
pub(crate) const ROLES: [&str; 7] =
    ["bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"];

/// `tokenizer_config.json`, and the special tokens of that file and of `special_tokens_map.json`.
#[derive(Clone, Debug, Default)]
pub(crate) struct TokenizerConfig {
    /// Path of `tokenizer_config.json`.
    pub(crate) path: PathBuf,
    /// Its fields; empty where the file is missing.
    pub(crate) fields: Map<String, Value>,
    /// Texts of the special tokens by role.
    pub(crate) tokens: BTreeMap<String, String>,
}

/// Error of a file with the fields of a tokenizer.
#[derive(Debug)]
pub(crate) struct FieldsError {
    pub(crate) path: PathBuf,
    pub(crate) message: String,
}

impl TokenizerConfig {
    /// Reads the files as transformers does: `special_tokens_map.json` overrides
    /// `tokenizer_config.json`, unless that lists its added tokens.
    pub(crate) fn from_dir(dir: &Path) -> Result<Self, FieldsError> {
        let path = dir.join(CONFIG);
        let fields = read_fields(&path)?;
        let mut tokens: BTreeMap<String, String> = BTreeMap::new();
        if let Some(named) = fields.get("extra_special_tokens").and_then(Value::as_object) {
            tokens.extend(
                named.iter().filter_map(|(role, token)| Some((role.clone(), text(token)?))),
            );
        }
        let own = fields.iter().filter(|(role, token)| {
            let is_standard = ROLES.contains(&role.as_str());
            is_standard || (role.ends_with("_token") && token.is_string())
        });
        tokens.extend(own.filter_map(|(role, token)| Some((role.clone(), text(token)?))));
        if fields.get("added_tokens_decoder").is_none_or(Value::is_null) {
            let map = read_fields(&dir.join(SPECIAL_TOKENS_MAP))?;
            for role in ROLES {
                match map.get(role) {
                    None => {}
                    Some(Value::Null) => drop(tokens.remove(role)),
                    Some(token) => tokens.extend(text(token).map(|it| (role.to_owned(), it))),
                }
            }
        }
        Ok(Self { path, fields, tokens })
    }
}

/// Fields of a JSON object; none where the file is missing.
pub(crate) fn read_fields(path: &Path) -> Result<Map<String, Value>, FieldsError> {
    let failed = |message: String| FieldsError { path: path.to_owned(), message };
    let Some(content) = model_file::read_optional(path).map_err(|it| failed(it.to_string()))?
    else {
        return Ok(Map::new());
    };
    serde_json::from_str(&content).map_err(|it| failed(it.to_string()))
}

/// Text of a token, which is given as a string or as an object with a `content`.
fn text(token: &Value) -> Option<String> {
    token.as_str().or_else(|| token.get("content")?.as_str()).map(str::to_owned)
}

/// Names of control tokens in angle or square brackets.
const CONTROL_NAMES: [&str; 20] = [
    "s",
    "bos",
    "eos",
    "pad",
    "unk",
    "cls",
    "sep",
    "mask",
    "eop",
    "eod",
    "inst",
    "sys",
    "start_of_turn",
    "end_of_turn",
    "start_of_image",
    "end_of_image",
    "image_soft_token",
    "turn",
    "endoftext",
    "sop",
];

/// Returns true if a special token carries no meaning in text: `<s>`, `<|im_end|>`, `[PAD]`. A tag such
/// as `</search>` is text, even where a tokenizer holds it as a special token.
pub(crate) fn is_control(token: &str, has_role: bool) -> bool {
    let inside = |open: char, close: char| token.strip_prefix(open)?.strip_suffix(close);
    let Some(name) = inside('<', '>').or_else(|| inside('[', ']')) else { return has_role };
    let is_framed = |bar: char| name.starts_with(bar) || name.ends_with(bar);
    let (is_closing, name) = match name.strip_prefix('/') {
        Some(name) => (true, name),
        None => (false, name),
    };
    let is_numbered = |prefix| {
        let number = name.strip_prefix(prefix);
        number.is_some_and(|it: &str| it.bytes().all(|it| it.is_ascii_digit()))
    };
    is_framed('|')
        || is_framed('｜')
        || CONTROL_NAMES.contains(&name.to_ascii_lowercase().as_str())
        || ["unused", "reserved_", "extra_id_"].into_iter().any(is_numbered)
        || (has_role && !is_closing)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_are_text_and_control_tokens_are_not() {
        for tag in [
            "<search>",
            "</search>",
            "<answer>",
            "</think>",
            "<tool_call>",
            "[THINK]",
            "[/THINK]",
            "◁think▷",
            "<information>",
            "###",
        ] {
            assert!(!is_control(tag, false), "{tag}");
        }
        assert!(!is_control("</answer>", true));
        for token in [
            "<s>",
            "</s>",
            "<pad>",
            "<|im_end|>",
            "<｜end▁of▁sentence｜>",
            "[PAD]",
            "[/INST]",
            "<unused12>",
            "<end_of_turn>",
            "<|endoftext|>",
            "<unk>",
        ] {
            assert!(is_control(token, false), "{token}");
        }
        assert!(is_control("<stop>", true) && is_control("###", true));
    }

    #[track_caller]
    fn check(files: &[(&str, &str)], expected: &[(&str, &str)]) {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in files {
            std::fs::write(dir.path().join(name), text).unwrap();
        }
        let config = TokenizerConfig::from_dir(dir.path()).unwrap();
        let found: Vec<(&str, &str)> =
            config.tokens.iter().map(|(role, it)| (role.as_str(), it.as_str())).collect();
        assert_eq!(found, expected);
    }

    /// Expected tokens are those of `special_tokens_map` in transformers 5.24.
    #[test]
    fn tokens_come_from_every_file_that_may_hold_them() {
        let config = r#"{"bos_token": "<s>", "eos_token": {"content": "</s>"}, "pad_token": null, "image_token": "<i>",
            "add_bos_token": true, "extra_special_tokens": {"audio_token": "<a>"}}"#;
        let map = r#"{"bos_token": null, "eos_token": "<e>", "pad_token": {"content": "<p>", "lstrip": false}}"#;
        let more = [
            ("audio_token", "<a>"),
            ("bos_token", "<s>"),
            ("eos_token", "</s>"),
            ("image_token", "<i>"),
        ];
        check(&[], &[]);
        check(&[(CONFIG, config)], &more);
        check(&[(SPECIAL_TOKENS_MAP, map)], &[("eos_token", "<e>"), ("pad_token", "<p>")]);
        check(
            &[(CONFIG, config), (SPECIAL_TOKENS_MAP, map)],
            &[
                ("audio_token", "<a>"),
                ("eos_token", "<e>"),
                ("image_token", "<i>"),
                ("pad_token", "<p>"),
            ],
        );
        let with_list = config.replacen('{', r#"{"added_tokens_decoder": {}, "#, 1);
        check(&[(CONFIG, &with_list), (SPECIAL_TOKENS_MAP, map)], &more);
        check(&[(CONFIG, "{\"bos_token\": 3}")], &[]);
    }
}
