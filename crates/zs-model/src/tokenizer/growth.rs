//! Bound on the text that a tokenizer makes of a text.

use serde_json::Value;

/// Largest factor by which a tokenizer may lengthen text. The released ones stay below 8.
const MAX_GROWTH: u64 = 256;

/// Refuses a `tokenizer.json` whose replacements, one after the other, lengthen a text by a large factor.
pub(super) fn check(json: &[u8]) -> Result<(), String> {
    // What is no JSON is refused by the reader of tokenizers.
    let Ok(json) = serde_json::from_slice::<Parts>(json) else { return Ok(()) };
    for (part, value) in [("normalizer", json.normalizer), ("decoder", json.decoder)] {
        if growth(&value) > MAX_GROWTH {
            return Err(format!(
                "the replacements of its {part} lengthen a text by more than {MAX_GROWTH} times"
            ));
        }
    }
    Ok(())
}

/// Parts of a `tokenizer.json` that replace text.
#[derive(serde::Deserialize)]
struct Parts {
    #[serde(default)]
    normalizer: Value,
    #[serde(default)]
    decoder: Value,
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
}
