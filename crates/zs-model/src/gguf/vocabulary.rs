//! Vocabulary of a GGUF file: tokens, their types, special tokens.

use std::collections::HashMap;

use gguf_rs_lib::format::MetadataValue;
use serde_json::{Map, Value, json};

use super::GgufError;
use super::file::GgufFile;

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

impl<'a> Vocabulary<'a> {
    pub(super) fn read(file: &'a GgufFile) -> Result<Self, GgufError> {
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
            let problem = format!("= {id} is not a token");
            GgufError::metadata(self.file.path(), key, problem, CONVERT_AGAIN)
        };
        found.map(Some).ok_or_else(unknown)
    }

    /// Post-processor that puts the tokens at the start and end of a sequence.
    pub(super) fn template(&self, starts_with_bos: bool) -> Result<Option<Value>, GgufError> {
        let first = self.at_edge("bos", starts_with_bos)?;
        let last = self.at_edge("eos", false)?;
        if first.is_none() && last.is_none() {
            return Ok(None);
        }
        let special = |it: (usize, &str)| json!({ "SpecialToken": { "id": it.1, "type_id": 0 } });
        let text = |id: &str, kind: u32| json!({ "Sequence": { "id": id, "type_id": kind } });
        let (start, end) = (first.map(special), last.map(special));
        let single: Vec<Value> = start.into_iter().chain([text("A", 0)]).chain(end).collect();
        let token = |(id, it): (usize, &str)| {
            (it.to_owned(), json!({ "id": it, "ids": [id], "tokens": [it] }))
        };
        let tokens: Map<String, Value> = first.into_iter().chain(last).map(token).collect();
        Ok(Some(json!({
            "type": "TemplateProcessing",
            "single": single,
            "pair": [text("A", 0), text("B", 1)],
            "special_tokens": tokens
        })))
    }

    /// Token that every sequence has at its start (`bos`) or end (`eos`), if any.
    fn at_edge(&self, name: &str, default: bool) -> Result<Option<(usize, &'a str)>, GgufError> {
        if !self.file.optional_flag(&format!("tokenizer.ggml.add_{name}_token"))?.unwrap_or(default)
        {
            return Ok(None);
        }
        let missing = || self.file.missing(&format!("tokenizer.ggml.{name}_token_id"));
        self.named(name)?.ok_or_else(missing).map(Some)
    }

    /// `tokenizer_config.json`, from which transformers takes the names of special tokens.
    pub(super) fn config(&self, context_length: usize) -> Result<Value, GgufError> {
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
