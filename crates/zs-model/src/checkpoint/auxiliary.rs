//! The files of a model directory beside its weights, carried along from loading to saving.

use std::collections::BTreeMap;
use std::fmt::{Debug, Formatter};
use std::io::ErrorKind;
use std::path::Path;
use std::sync::Arc;

use serde_json::{Value, json};

use super::{CheckpointError, SaveError, WeightDtype};
use crate::{ChatTemplate, ModelConfig, Tokenizer};

/// What transformers and vLLM may want to read beside the weights.
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

/// Files as they were found, by name. Cloning shares them.
#[derive(Clone, Default)]
pub(crate) struct AuxiliaryFiles(Arc<BTreeMap<&'static str, Vec<u8>>>);

impl Debug for AuxiliaryFiles {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

impl AuxiliaryFiles {
    /// Reads those that are there.
    pub(crate) fn read(dir: &Path) -> Result<Self, CheckpointError> {
        let mut files = BTreeMap::new();
        for name in NAMES {
            let path = dir.join(name);
            match std::fs::read(&path) {
                Ok(bytes) => drop(files.insert(name, bytes)),
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(source) => return Err(CheckpointError::Read { path, source }),
            }
        }
        Ok(Self(Arc::new(files)))
    }

    /// Writes them as they were, but for the type of the weights in `config.json`; those that a
    /// loader needs and that were never there are made.
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
            // One that was found in `tokenizer_config.json` is there already, and the same.
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

/// `config.json` as it was found, or from scratch, with the type of the weights.
fn with_dtype(found: Option<Value>, config: &ModelConfig, dtype: WeightDtype) -> Value {
    let mut json = found.filter(Value::is_object).unwrap_or_else(|| config.to_value());
    // Newer configurations say `dtype`, older ones `torch_dtype`.
    let key = if json.get("dtype").is_some() { "dtype" } else { "torch_dtype" };
    json[key] = dtype.torch_name().into();
    json
}

/// What `AutoTokenizer` needs to take `tokenizer.json` as it is.
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
    // What the chat template writes comes before what the model was configured with.
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
