//! `tokenizer.json` and `tokenizer_config.json` from the metadata of a GGUF file.

use std::collections::HashMap;

use gguf_rs_lib::format::MetadataValue;
use serde_json::{Map, Value, json};

use super::GgufError;
use super::file::GgufFile;
use super::pre_tokenizer::{ByteLevelKind, byte_level_kind};
use super::sentence_piece;
use crate::Tokenizer;

/// Types of tokens; the others are parts of texts.
const UNKNOWN: u64 = 2;
const CONTROL: u64 = 3;
const USER_DEFINED: u64 = 4;
const UNUSED: u64 = 5;

const CONVERT_AGAIN: &str = "convert the model again";

/// Vocabulary of a file.
pub(super) struct Vocabulary<'a> {
    pub(super) file: &'a GgufFile,
    /// Texts by identifier.
    pub(super) tokens: Vec<&'a str>,
    /// Types by identifier.
    types: Vec<u64>,
    /// Identifiers by text, without padding.
    pub(super) ids: HashMap<&'a str, usize>,
}

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
        let problem = format!("merges `{left}` and `{right}`, which are no tokens");
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

impl<'a> Vocabulary<'a> {
    fn read(file: &'a GgufFile) -> Result<Self, GgufError> {
        let key = "tokenizer.ggml.tokens";
        let tokens = file.optional_array(key, "a list of texts", MetadataValue::as_str)?;
        let tokens = tokens.ok_or_else(|| file.missing(key))?;
        let key = "tokenizer.ggml.token_type";
        let types = file.optional_array(key, "a list of types", |it| {
            it.as_u64().or_else(|| it.as_i64()?.try_into().ok())
        })?;
        let types = types.unwrap_or_else(|| vec![1; tokens.len()]);
        if types.len() != tokens.len() {
            let problem = format!("has {} entries for {} tokens", types.len(), tokens.len());
            return Err(GgufError::metadata(file.path(), key, problem, CONVERT_AGAIN));
        }
        let mut ids = HashMap::new();
        for (id, text) in tokens.iter().copied().enumerate() {
            // Converters fill the vocabulary up to the rows of the embedding.
            if types[id] == UNUSED && text == format!("[PAD{id}]") {
                continue;
            }
            if let Some(first) = ids.insert(text, id) {
                let problem = format!("holds `{text}` twice, as {first} and {id}");
                let key = "tokenizer.ggml.tokens";
                return Err(GgufError::metadata(file.path(), key, problem, CONVERT_AGAIN));
            }
        }
        Ok(Self { file, tokens, types, ids })
    }

    /// Tokens with their identifiers, in the order of these.
    pub(super) fn to_json(&self) -> Map<String, Value> {
        let known = |(id, text): &(usize, &str)| self.ids.get(text) == Some(id);
        let tokens = self.tokens.iter().copied().enumerate().filter(known);
        tokens.map(|(id, text)| (text.to_owned(), id.into())).collect()
    }

    /// Tokens that are found in a text before it is split, with their identifiers.
    fn added(&self) -> impl Iterator<Item = (usize, Value)> + '_ {
        let is_added = |it: &u64| matches!(*it, UNKNOWN | CONTROL | USER_DEFINED);
        let added = self.types.iter().enumerate().filter(move |(_, it)| is_added(it));
        added.map(|(id, kind)| {
            let token = json!({
                "content": self.tokens[id], "single_word": false, "lstrip": false,
                "rstrip": false, "normalized": false, "special": *kind != USER_DEFINED
            });
            (id, token)
        })
    }

    /// Field `added_tokens` of a `tokenizer.json`.
    pub(super) fn added_tokens(&self) -> Vec<Value> {
        let with_id = |(id, mut token): (usize, Value)| {
            token["id"] = id.into();
            token
        };
        self.added().map(with_id).collect()
    }

    /// Token that the metadata names by identifier.
    pub(super) fn named(&self, name: &str) -> Result<Option<(usize, &'a str)>, GgufError> {
        let key = format!("tokenizer.ggml.{name}_token_id");
        let Some(id) = self.file.optional_integer(&key)? else { return Ok(None) };
        let found = usize::try_from(id).ok().and_then(|id| Some((id, *self.tokens.get(id)?)));
        let unknown = || {
            let problem = format!("= {id} is no token");
            GgufError::metadata(self.file.path(), key, problem, CONVERT_AGAIN)
        };
        found.map(Some).ok_or_else(unknown)
    }

    /// Post-processor that puts the tokens at the start and end of a sequence.
    pub(super) fn template(&self, starts_with_bos: bool) -> Result<Option<Value>, GgufError> {
        let (mut sequence, mut special) = (Vec::new(), Map::new());
        let text = json!({ "Sequence": { "id": "A", "type_id": 0 } });
        for (name, default, is_first) in [("bos", starts_with_bos, true), ("eos", false, false)] {
            let key = format!("tokenizer.ggml.add_{name}_token");
            let is_added = self.file.optional_flag(&key)?.unwrap_or(default);
            if is_first {
                sequence.push(text.clone());
            }
            if !is_added {
                continue;
            }
            let missing = || self.file.missing(&format!("tokenizer.ggml.{name}_token_id"));
            let (id, content) = self.named(name)?.ok_or_else(missing)?;
            let token = json!({ "SpecialToken": { "id": content, "type_id": 0 } });
            sequence.insert(if is_first { 0 } else { sequence.len() }, token);
            let ids = json!({ "id": content, "ids": [id], "tokens": [content] });
            special.insert(content.to_owned(), ids);
        }
        if special.is_empty() {
            return Ok(None);
        }
        Ok(Some(json!({
            "type": "TemplateProcessing",
            "single": sequence,
            "pair": [text, { "Sequence": { "id": "B", "type_id": 1 } }],
            "special_tokens": special
        })))
    }

    /// `tokenizer_config.json`, from which transformers takes the names of special tokens.
    fn config(&self, context_length: usize) -> Result<Value, GgufError> {
        let added: Map<String, Value> =
            self.added().map(|(id, token)| (id.to_string(), token)).collect();
        let mut config = json!({
            "tokenizer_class": "PreTrainedTokenizerFast",
            "model_max_length": context_length,
            "clean_up_tokenization_spaces": false,
            "added_tokens_decoder": added,
        });
        for (field, name) in [
            ("bos_token", "bos"),
            ("eos_token", "eos"),
            ("unk_token", "unknown"),
            ("pad_token", "padding"),
        ] {
            if let Some((_, text)) = self.named(name)? {
                config[field] = text.into();
            }
        }
        Ok(config)
    }
}
