//! Pooling, normalisation, length and prefixes of an encoder, from the files of sentence-transformers.

use std::path::{Component, Path, PathBuf};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::EncoderError;
use crate::config::{ConfigError, parse};
use crate::model_file;

/// Vector of a text, given those of its tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Pooling {
    /// Mean of the tokens.
    Mean,
    /// The first token.
    Cls,
}

/// Settings of the vectors of texts, by the files of a model directory.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct SentenceSettings {
    /// Directory with `config.json`, weights and tokenizer.
    pub(super) transformer: PathBuf,
    pub(super) pooling: Pooling,
    /// True if vectors have length 1.
    pub(super) is_normalized: bool,
    /// Longest text in tokens; `None` for all that the model has positions for.
    pub(super) max_tokens: Option<usize>,
    /// Text before queries and passages.
    pub(super) prefixes: Prefixes,
}

/// Texts that a model wants before queries and passages, e.g. `query: ` and `passage: `.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct Prefixes {
    pub(super) query: String,
    pub(super) passage: String,
}

/// One module of `modules.json`.
#[derive(Deserialize)]
struct Module {
    path: String,
    #[serde(rename = "type")]
    class: String,
}

#[derive(Deserialize)]
struct PoolingConfig {
    /// Newer layout; the older one has a flag a mode.
    pooling_mode: Option<String>,
    #[serde(flatten)]
    flags: Map<String, Value>,
}

#[derive(Deserialize)]
struct TransformerConfig {
    max_seq_length: Option<usize>,
}

#[derive(Default, Deserialize)]
struct PromptConfig {
    prompts: Option<Map<String, Value>>,
    default_prompt_name: Option<String>,
    similarity_fn_name: Option<String>,
}

/// Names of the file with `max_seq_length`, by family.
const TRANSFORMER_CONFIGS: [&str; 3] = [
    "sentence_bert_config.json",
    "sentence_roberta_config.json",
    "sentence_xlm-roberta_config.json",
];

impl SentenceSettings {
    /// Reads the files of sentence-transformers; a directory without them has the mean of its tokens,
    /// normalised, and no prefixes.
    pub(super) fn from_dir(dir: &Path) -> Result<Self, EncoderError> {
        let modules_path = dir.join("modules.json");
        let modules: Option<Vec<Module>> = read(&modules_path)?;
        let has_modules = modules.is_some();
        let invalid =
            |message: String| EncoderError::Modules { path: modules_path.clone(), message };
        let (mut transformer, mut pooling, mut has_norm) = (dir.to_owned(), Pooling::Mean, false);
        for (position, module) in modules.into_iter().flatten().enumerate() {
            // A list of strangers must not reach into other directories.
            let is_inside =
                Path::new(&module.path).components().all(|it| matches!(it, Component::Normal(_)));
            if !is_inside {
                return Err(invalid(format!("`{}` is not a path inside the model", module.path)));
            }
            let place = dir.join(&module.path);
            match (position, module.class.rsplit('.').next().unwrap_or_default()) {
                (0, "Transformer") => transformer = place,
                (1, "Pooling") => pooling = read_pooling(&place.join("config.json"))?,
                (2, "Normalize") => has_norm = true,
                _ => {
                    return Err(invalid(format!(
                        "module {position} is `{}`; use a model whose modules are Transformer, Pooling \
                         and, if any, Normalize",
                        module.class
                    )));
                }
            }
        }
        let prompts: PromptConfig =
            read(&dir.join("config_sentence_transformers.json"))?.unwrap_or_default();
        let is_cosine = prompts.similarity_fn_name.as_deref() == Some("cosine");
        Ok(Self {
            max_tokens: max_tokens(&transformer)?,
            transformer,
            pooling,
            is_normalized: has_norm || is_cosine || !has_modules,
            prefixes: prompts.prefixes(),
        })
    }
}

impl PromptConfig {
    fn prefixes(&self) -> Prefixes {
        let text = |name: &str| self.prompts.as_ref()?.get(name)?.as_str().map(str::to_owned);
        let default = self.default_prompt_name.as_deref().and_then(text);
        let first = |names: &[&str]| {
            names.iter().find_map(|it| text(it)).or_else(|| default.clone()).unwrap_or_default()
        };
        Prefixes { query: first(&["query"]), passage: first(&["passage", "document", "corpus"]) }
    }
}

/// Length that the files of a transformer say; the tokenizer's, where sentence-transformers says none.
fn max_tokens(dir: &Path) -> Result<Option<usize>, EncoderError> {
    for name in TRANSFORMER_CONFIGS {
        if let Some(TransformerConfig { max_seq_length: Some(max) }) = read(&dir.join(name))? {
            return Ok(Some(max));
        }
    }
    let tokenizer: Option<Map<String, Value>> = read(&dir.join("tokenizer_config.json"))?;
    // transformers writes 1e30 for a tokenizer without a limit.
    let max = tokenizer.and_then(|it| it.get("model_max_length")?.as_u64());
    Ok(max.and_then(|it| usize::try_from(it).ok()))
}

fn read_pooling(path: &Path) -> Result<Pooling, EncoderError> {
    let config: PoolingConfig = read(path)?.ok_or_else(|| {
        let source = std::io::ErrorKind::NotFound.into();
        ConfigError::Read { path: path.to_owned(), source }
    })?;
    let flags = config.flags.iter().filter(|(_, it)| it.as_bool() == Some(true));
    let flags = flags.filter_map(|(name, _)| name.strip_prefix("pooling_mode_"));
    let modes: Vec<&str> = config.pooling_mode.as_deref().into_iter().chain(flags).collect();
    match modes[..] {
        ["mean" | "mean_tokens"] => Ok(Pooling::Mean),
        ["cls" | "cls_token"] => Ok(Pooling::Cls),
        _ => Err(EncoderError::Modules {
            path: path.to_owned(),
            message: format!(
                "pooling of `{}`; use a model that pools by mean_tokens or by cls_token",
                modes.join("`, `")
            ),
        }),
    }
}

/// Reads a JSON file; `None` if it does not exist.
fn read<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, EncoderError> {
    let text = model_file::read_optional(path)
        .map_err(|source| ConfigError::Read { path: path.to_owned(), source })?;
    let text = text.filter(|it| !it.trim().is_empty());
    Ok(text.map(|it| parse(&it, path)).transpose()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MEAN: &str = r#"{"word_embedding_dimension": 4, "pooling_mode_mean_tokens": true}"#;

    /// Settings of a directory with these files.
    fn settings(files: &[(&str, &str)]) -> Result<SentenceSettings, EncoderError> {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = dir.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        SentenceSettings::from_dir(dir.path())
    }

    fn modules(classes: &[(&str, &str)]) -> String {
        let module = |(path, class): &(&str, &str)| {
            format!(r#"{{"path": "{path}", "type": "sentence_transformers.models.{class}"}}"#)
        };
        format!("[{}]", classes.iter().map(module).collect::<Vec<_>>().join(", "))
    }

    #[track_caller]
    fn check(files: &[(&str, &str)], expected: (Pooling, bool, Option<usize>, [&str; 2])) {
        let found = settings(files).unwrap();
        let prefixes = [&*found.prefixes.query, &*found.prefixes.passage];
        assert_eq!((found.pooling, found.is_normalized, found.max_tokens, prefixes), expected);
    }

    #[test]
    fn files_of_sentence_transformers_are_followed() {
        let none = ["", ""];
        check(&[], (Pooling::Mean, true, None, none));
        check(
            &[("tokenizer_config.json", r#"{"model_max_length": 1e30}"#)],
            (Pooling::Mean, true, None, none),
        );
        let two = modules(&[("", "Transformer"), ("1_Pooling", "Pooling")]);
        let three = modules(&[
            ("0_Transformer", "Transformer"),
            ("1_Pooling", "Pooling"),
            ("2", "Normalize"),
        ]);
        let tokenizer = ("tokenizer_config.json", r#"{"model_max_length": 512}"#);
        let bert = ("0_Transformer/sentence_bert_config.json", r#"{"max_seq_length": 64}"#);
        let pooling = ("1_Pooling/config.json", MEAN);
        check(
            &[("modules.json", &two), tokenizer, pooling],
            (Pooling::Mean, false, Some(512), none),
        );
        check(
            &[("modules.json", &three), tokenizer, bert, pooling],
            (Pooling::Mean, true, Some(64), none),
        );
        let cls = ("1_Pooling/config.json", r#"{"pooling_mode": "cls"}"#);
        let prompts =
            r#"{"prompts": {"query": "q: ", "document": "d: "}, "similarity_fn_name": "cosine"}"#;
        let prompts = ("config_sentence_transformers.json", prompts);
        check(&[("modules.json", &two), cls, prompts], (Pooling::Cls, true, None, ["q: ", "d: "]));
    }

    #[track_caller]
    fn refuses(files: &[(&str, &str)], expected: &str) {
        let message = settings(files).unwrap_err().to_string();
        assert!(message.contains(expected), "{message}");
    }

    #[test]
    fn what_cannot_be_followed_is_named() {
        let outside = modules(&[("../other", "Transformer")]);
        refuses(&[("modules.json", &outside)], "`../other` is not a path inside the model");
        let dense = modules(&[("", "Transformer"), ("1_Pooling", "Pooling"), ("2_Dense", "Dense")]);
        let pooling = ("1_Pooling/config.json", MEAN);
        refuses(
            &[("modules.json", &dense), pooling],
            "module 2 is `sentence_transformers.models.Dense`",
        );
        let two = modules(&[("", "Transformer"), ("1_Pooling", "Pooling")]);
        refuses(&[("modules.json", &two)], "1_Pooling/config.json");
        let max = r#"{"pooling_mode_max_tokens": true, "pooling_mode_cls_token": true}"#;
        refuses(
            &[("modules.json", &two), ("1_Pooling/config.json", max)],
            "`cls_token`; use a model",
        );
        refuses(&[("modules.json", "{}")], "modules.json");
    }
}
