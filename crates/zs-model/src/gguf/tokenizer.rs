//! `tokenizer.json` and `tokenizer_config.json` from the metadata of a GGUF file.

use serde_json::{Value, json};

use super::GgufError;
use super::file::GgufFile;
use super::pre_tokenizer::{ByteLevelKind, byte_level_kind};
use super::sentence_piece;
use super::vocabulary::Vocabulary;
use crate::Tokenizer;

const CONVERT_AGAIN: &str = "convert the model again";

/// Files of a tokenizer.
pub(super) struct TokenizerFiles {
    pub(super) tokenizer: Value,
    pub(super) config: Value,
}

/// Builds the files, and checks that the tokenizer loads and has an embedding for each token.
pub(super) fn tokenizer_files(
    file: &GgufFile,
    vocab_size: usize,
    context_length: usize,
) -> Result<TokenizerFiles, GgufError> {
    let vocabulary = Vocabulary::read(file)?;
    let embedded = vocabulary.ids.values().max().map_or(0, |it| it + 1);
    if embedded > vocab_size {
        let problem = format!("holds {embedded} tokens, but the embedding has {vocab_size} rows");
        let key = "tokenizer.ggml.tokens";
        return Err(GgufError::metadata(file.path(), key, problem, CONVERT_AGAIN));
    }
    let tokenizer = match file.text("tokenizer.ggml.model")? {
        "gpt2" => byte_level(&vocabulary, byte_level_kind(file)?)?,
        "llama" => sentence_piece::tokenizer(&vocabulary)?,
        other => {
            let problem = format!("= {other} is not supported");
            let remedy = "use a model with a gpt2 (byte-level) or llama (SentencePiece) tokenizer";
            let key = "tokenizer.ggml.model";
            return Err(GgufError::metadata(file.path(), key, problem, remedy));
        }
    };
    Tokenizer::from_bytes(tokenizer.to_string().as_bytes(), file.path())?;
    let config = vocabulary.config(context_length)?;
    Ok(TokenizerFiles { tokenizer, config })
}

/// Byte-level BPE, as in GPT-2.
fn byte_level(vocabulary: &Vocabulary<'_>, kind: ByteLevelKind) -> Result<Value, GgufError> {
    let key = "tokenizer.ggml.merges";
    let merges = vocabulary.file.optional_array(key, "a list of merges", |it| {
        // Tokens of a byte-level vocabulary hold no space.
        it.as_str()?.split_once(' ').map(|(left, right)| [left, right])
    })?;
    let merges = merges.ok_or_else(|| vocabulary.file.missing(key))?;
    let unknown = |it: &[&str; 2]| {
        let is_known = |text: &str| vocabulary.ids.contains_key(text);
        !(is_known(it[0]) && is_known(it[1]) && is_known(&it.concat()))
    };
    if let Some([left, right]) = merges.iter().find(|it| unknown(it)) {
        let problem = format!("merges `{left}` and `{right}`, which are not tokens");
        return Err(GgufError::metadata(vocabulary.file.path(), key, problem, CONVERT_AGAIN));
    }
    let byte_level = |use_regex: bool| {
        json!({
            "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true,
            "use_regex": use_regex
        })
    };
    let split = |pattern: &&str| {
        json!({
            "type": "Split", "pattern": { "Regex": pattern }, "behavior": "Isolated",
            "invert": false
        })
    };
    let mut steps: Vec<Value> = kind.patterns.iter().map(split).collect();
    steps.push(byte_level(kind.splits_as_gpt2));
    Ok(json!({
        "version": "1.0",
        "truncation": null,
        "padding": null,
        "added_tokens": vocabulary.added_tokens(),
        "normalizer": kind.is_composed.then(|| json!({ "type": "NFC" })),
        "pre_tokenizer": { "type": "Sequence", "pretokenizers": steps },
        "post_processor": vocabulary.template(kind.starts_with_bos)?,
        "decoder": byte_level(true),
        "model": {
            "type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
            "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false,
            "ignore_merges": kind.ignores_merges, "vocab": vocabulary.to_json(), "merges": merges
        }
    }))
}
