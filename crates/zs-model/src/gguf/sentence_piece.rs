//! SentencePiece tokenizers of the kind that Llama 2 has: BPE whose merges follow from the scores.

use serde_json::{Value, json};

use super::GgufError;
use super::vocabulary::Vocabulary;

/// `tokenizer.json` of a SentencePiece vocabulary, as transformers converts one.
///
/// Spaces are `▁`; characters that are no token become byte tokens `<0x00>` to `<0xFF>`. Two
/// adjacent tokens are merged where the vocabulary holds their concatenation, the one with the
/// highest score first.
pub(super) fn tokenizer(vocabulary: &Vocabulary<'_>) -> Result<Value, GgufError> {
    let file = vocabulary.file;
    let key = "tokenizer.ggml.scores";
    let scores = file.optional_array(key, "a list of numbers", |it| it.as_f64())?;
    let scores = scores.ok_or_else(|| file.missing(key))?;
    if scores.len() != vocabulary.tokens.len() {
        let (found, expected) = (scores.len(), vocabulary.tokens.len());
        let problem = format!("has {found} entries for {expected} tokens");
        return Err(GgufError::metadata(file.path(), key, problem, "convert the model again"));
    }
    let unknown = vocabulary.named("unknown")?.map(|(_, text)| text);
    let mut normalizers =
        vec![json!({ "type": "Replace", "pattern": { "String": " " }, "content": "▁" })];
    let mut decoders = vec![
        json!({ "type": "Replace", "pattern": { "String": "▁" }, "content": " " }),
        json!({ "type": "ByteFallback" }),
        json!({ "type": "Fuse" }),
    ];
    if file.optional_flag("tokenizer.ggml.add_space_prefix")?.unwrap_or(true) {
        normalizers.insert(0, json!({ "type": "Prepend", "prepend": "▁" }));
        decoders.push(json!({ "type": "Strip", "content": " ", "start": 1, "stop": 0 }));
    }
    Ok(json!({
        "version": "1.0",
        "truncation": null,
        "padding": null,
        "added_tokens": vocabulary.added_tokens(),
        "normalizer": { "type": "Sequence", "normalizers": normalizers },
        "pre_tokenizer": null,
        "post_processor": vocabulary.template(true)?,
        "decoder": { "type": "Sequence", "decoders": decoders },
        "model": {
            "type": "BPE", "dropout": null, "unk_token": unknown,
            "continuing_subword_prefix": null, "end_of_word_suffix": null, "fuse_unk": true,
            "byte_fallback": true, "ignore_merges": false, "vocab": vocabulary.to_json(),
            "merges": merges(vocabulary, &scores)
        }
    }))
}

/// Every split of a token into two tokens: those of a higher score first, then those with a longer
/// left and a longer right part, as transformers orders them.
fn merges<'a>(vocabulary: &Vocabulary<'a>, scores: &[f64]) -> Vec<[&'a str; 2]> {
    let mut merges = Vec::new();
    for (id, token) in vocabulary.tokens.iter().enumerate() {
        if vocabulary.ids.get(token) != Some(&id) {
            continue;
        }
        for (at, _) in token.char_indices().skip(1) {
            let (left, right) = token.split_at(at);
            if vocabulary.ids.contains_key(left) && vocabulary.ids.contains_key(right) {
                let lengths = [left, right].map(|it| it.chars().count());
                merges.push((scores[id], lengths, [left, right]));
            }
        }
    }
    merges.sort_by(|a, b| b.0.total_cmp(&a.0).then_with(|| b.1.cmp(&a.1)));
    merges.into_iter().map(|it| it.2).collect()
}
