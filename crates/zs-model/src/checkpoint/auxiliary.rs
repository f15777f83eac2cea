//! Non-weight files of a model directory, preserved from load to save.

use std::collections::BTreeMap;
use std::fmt::{Debug, Formatter};
use std::io::ErrorKind;
use std::path::Path;
use std::sync::Arc;

use serde_json::{Value, json};

use super::{CheckpointError, SaveError, WeightDtype};
use crate::{ChatTemplate, ModelConfig, Tokenizer, model_file};

/// Files that transformers and vLLM may read besides the weights.
const NAMES: [&str; 11] = [
    "config.json",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template.jinja",
    "chat_template.json",
    "vocab.json",
    "merges.txt",
    "tokenizer.model",
];

/// File contents by name. Clones share the data.
#[derive(Clone, Default)]
pub(crate) struct AuxiliaryFiles(Arc<BTreeMap<&'static str, Vec<u8>>>);

impl Debug for AuxiliaryFiles {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

impl AuxiliaryFiles {
    /// Reads the files that exist.
    pub(crate) fn read(dir: &Path) -> Result<Self, CheckpointError> {
        let mut files = BTreeMap::new();
        for name in NAMES {
            let path = dir.join(name);
            match model_file::read(&path) {
                Ok(bytes) => drop(files.insert(name, bytes)),
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(source) => return Err(CheckpointError::Read { path, source }),
            }
        }
        Ok(Self(Arc::new(files)))
    }

    /// Writes the files unchanged, except for the weight dtype in `config.json`. Generates the
    /// files that a loader needs and that were absent.
    pub(crate) fn write(
        &self,
        dir: &Path,
        config: &ModelConfig,
        tokenizer: &Tokenizer,
        dtype: WeightDtype,
    ) -> Result<(), SaveError> {
        let mut files: BTreeMap<&str, Vec<u8>> =
            self.0.iter().map(|(name, bytes)| (*name, bytes.clone())).collect();
        if !files.contains_key("tokenizer.json") {
            files.insert("tokenizer.json", tokenizer.to_json()?.into_bytes());
        }
        let found = files.get("config.json").and_then(|it| serde_json::from_slice(it).ok());
        files.insert("config.json", pretty(&with_dtype(found, config, dtype)));
        if let Some(template) = tokenizer.chat_template() {
            // A template found in `tokenizer_config.json` is written with that file.
            let source = || template.source().as_bytes().to_vec();
            files.entry("chat_template.jinja").or_insert_with(source);
        }
        let generation = || {
            pretty(&json!({
                "bos_token_id": config.bos_token_id,
                "eos_token_id": config.eos_token_ids,
                // Without it, transformers and its server decode greedily at any temperature.
                "do_sample": true,
            }))
        };
        files.entry("generation_config.json").or_insert_with(generation);
        files
            .entry("tokenizer_config.json")
            .or_insert_with(|| pretty(&tokenizer_config(config, tokenizer)));
        for (name, bytes) in files {
            let path = dir.join(name);
            std::fs::write(&path, bytes).map_err(|source| SaveError::Write { path, source })?;
        }
        Ok(())
    }
}

/// `config.json` as loaded, or generated, with the dtype of the saved weights.
fn with_dtype(found: Option<Value>, config: &ModelConfig, dtype: WeightDtype) -> Value {
    let mut json = found.filter(Value::is_object).unwrap_or_else(|| config.to_value());
    // Newer versions of transformers write `dtype`, older ones `torch_dtype`.
    let key = if json.get("dtype").is_some() { "dtype" } else { "torch_dtype" };
    json[key] = dtype.torch_name().into();
    json
}

/// Minimal `tokenizer_config.json` that makes `AutoTokenizer` load `tokenizer.json` unchanged.
fn tokenizer_config(config: &ModelConfig, tokenizer: &Tokenizer) -> Value {
    let mut json = json!({
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": config.max_position_embeddings,
        "clean_up_tokenization_spaces": false,
    });
    let special =
        [("bos_token", config.bos_token_id), ("eos_token", config.eos_token_ids.first().copied())];
    for (key, id) in special {
        if let Some(text) = id.and_then(|id| tokenizer.token_text(id)) {
            json[key] = text.into();
        }
    }
    // Special tokens of the chat template override those of the model configuration.
    for (key, text) in tokenizer.chat_template().into_iter().flat_map(ChatTemplate::special_tokens)
    {
        if !text.is_empty() {
            json[key] = text.into();
        }
    }
    json
}

fn pretty(json: &Value) -> Vec<u8> {
    format!("{json:#}\n").into_bytes()
}
