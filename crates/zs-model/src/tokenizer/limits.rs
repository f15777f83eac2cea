//! Bounds on the text that a tokenizer makes of a text, and on its patterns.

use serde_json::Value;

/// Largest factor by which a tokenizer may lengthen text. The released ones stay below 8.
const MAX_GROWTH: u64 = 256;

/// Most bytes of regular expressions in one `tokenizer.json`. The released ones have below 1,000, and
/// compiling takes time in proportion.
const MAX_PATTERN_BYTES: usize = 8192;

/// Refuses a `tokenizer.json` whose replacements, one after the other, lengthen a text by a large
/// factor, or whose regular expressions are long.
pub(super) fn check(json: &[u8]) -> Result<(), String> {
    // What is no JSON is refused by the reader of tokenizers.
    let Ok(json) = serde_json::from_slice::<Parts>(json) else { return Ok(()) };
    let parts = [&json.normalizer, &json.pre_tokenizer, &json.decoder];
    let patterns: usize = parts.into_iter().map(pattern_bytes).sum();
    if patterns > MAX_PATTERN_BYTES {
        return Err(format!(
            "its regular expressions have {patterns} bytes; at most {MAX_PATTERN_BYTES} are compiled"
        ));
    }
    for (part, value) in [("normalizer", &json.normalizer), ("decoder", &json.decoder)] {
        if growth(value) > MAX_GROWTH {
            return Err(format!(
                "the replacements of its {part} lengthen a text by more than {MAX_GROWTH} times"
            ));
        }
    }
    Ok(())
}

/// Parts of a `tokenizer.json` that match or replace text.
#[derive(Default, serde::Deserialize)]
#[serde(default)]
struct Parts {
    normalizer: Value,
    pre_tokenizer: Value,
    decoder: Value,
}

/// Bytes of all regular expressions in a part.
fn pattern_bytes(part: &Value) -> usize {
    match part {
        Value::Array(parts) => parts.iter().map(pattern_bytes).sum(),
        Value::Object(fields) => {
            let bytes = |(name, value): (&String, &Value)| match value {
                Value::String(pattern) if name == "Regex" => pattern.len(),
                value => pattern_bytes(value),
            };
            fields.iter().map(bytes).sum()
        }
        _ => 0,
    }
}

/// Factor by which a part lengthens text at most, in characters.
fn growth(part: &Value) -> u64 {
    let kind = part.get("type").and_then(Value::as_str).unwrap_or_default();
    let parts = ["normalizers", "decoders"].into_iter().find_map(|it| part.get(it)?.as_array());
    match (kind, parts) {
        ("Replace", _) => {
            let len = |it: &Value| it.as_str().map_or(0, |it| it.chars().count() as u64);
            // A pattern may match between characters, so that each stays and gets the content too.
            let pattern = part.get("pattern");
            let matched = pattern.and_then(|it| it.get("String")).map_or(0, len);
            let content = part.get("content").map_or(0, len);
            match matched {
                0 => content + 1,
                _ => content.div_ceil(matched).max(1),
            }
        }
        (_, Some(parts)) => parts.iter().map(growth).fold(1, u64::saturating_mul),
        _ => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check_growth(part: Value, expected: u64) {
        assert_eq!(growth(&part), expected, "{part}");
    }

    #[test]
    fn replacements_multiply() {
        let replace = |pattern: Value, content: &str| serde_json::json!({"type": "Replace", "pattern": pattern, "content": content});
        let string = |it: &str| serde_json::json!({ "String": it });
        check_growth(replace(string(" "), "▁"), 1);
        check_growth(replace(string("``"), "\""), 1);
        check_growth(replace(serde_json::json!({"Regex": " {2,}"}), " "), 2);
        let twice = replace(string("a"), "aa");
        let many = serde_json::json!({"type": "Sequence", "normalizers": vec![twice; 40]});
        check_growth(many.clone(), 1 << 40);
        let json = serde_json::json!({ "normalizer": many }).to_string();
        assert!(check(json.as_bytes()).unwrap_err().contains("normalizer"));
        check_growth(serde_json::json!(null), 1);
        assert!(check(b"{").is_ok());
    }

    #[test]
    fn regular_expressions_have_a_length() {
        let split = |bytes: usize| {
            let pattern = serde_json::json!({ "Regex": "a".repeat(bytes) });
            let splits = [serde_json::json!({ "type": "Split", "pattern": pattern })];
            let pre = serde_json::json!({ "type": "Sequence", "pretokenizers": splits });
            let replace = serde_json::json!({ "pattern": { "Regex": " {2,}" } });
            serde_json::json!({ "pre_tokenizer": pre, "normalizer": replace }).to_string()
        };
        assert!(check(split(MAX_PATTERN_BYTES - 5).as_bytes()).is_ok());
        let error = check(split(MAX_PATTERN_BYTES).as_bytes()).unwrap_err();
        assert_eq!(error, "its regular expressions have 8197 bytes; at most 8192 are compiled");
    }
}
