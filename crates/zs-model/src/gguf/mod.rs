//! Import of GGUF files: a model directory in Hugging Face layout, of a file for llama.cpp.
//!
//! The container is read by the crate gguf-rs-lib; the tensor types, the names, the order of rows
//! and the tokenizer are handled here.

mod blocks;
mod config;
mod error;
mod file;
mod names;
mod pre_tokenizer;
mod rope;
mod sentence_piece;
#[cfg(test)]
mod tests;
mod tokenizer;
mod vocabulary;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::Path;

use gguf_rs_lib::format::GGUFTensorType;
use half::{bf16, f16};
use safetensors::{Dtype, View};
use serde_json::{Value, json};

pub use error::GgufError;

use crate::checkpoint::{replace_directory, write_views};
use crate::{ModelConfig, Provenance, SaveError, WeightDtype};

use error::one_line;
use file::GgufFile;
use names::Weight;
use tokenizer::tokenizer_files;

/// Settings of [`import_gguf`].
#[derive(Clone, Debug, Default)]
pub struct ImportOptions {
    /// Dtype of the written weights. By default the narrowest that holds every value exactly: that
    /// of the file for f16 and bf16, else f32.
    pub dtype: Option<WeightDtype>,
    /// Checksum of the file, to be kept as part of the [`Provenance`].
    pub sha256: Option<String>,
}

/// Result of [`import_gguf`].
#[derive(Clone, Debug, PartialEq)]
pub struct ImportedModel {
    /// Configuration of the model.
    pub config: ModelConfig,
    /// Dtype of the written weights.
    pub dtype: WeightDtype,
    /// Origin of the weights, as kept in `config.json`.
    pub provenance: Provenance,
}

/// Writes a model directory in Hugging Face layout of a GGUF file: configuration, weights
/// (quantised ones dequantised), tokenizer, chat template and a model card.
///
/// The architectures are `llama`, `qwen2` and `qwen3`. The directory must not exist. It is written
/// whole or not at all. Besides the file, which is memory-mapped, one tensor is in memory at a time.
///
/// # Errors
///
/// Fails on a file that is damaged, on an architecture, tensor or tokenizer that is not supported,
/// and when the directory exists or cannot be written; the error names the field or tensor.
///
/// ```no_run
/// use std::path::Path;
/// use zs_model::{ImportOptions, import_gguf};
///
/// let (file, dir) = (Path::new("SmolLM2-135M-Instruct.Q4_1.gguf"), Path::new("smollm2"));
/// let imported = import_gguf(file, dir, &ImportOptions::default())?;
/// assert_eq!(imported.provenance.summary(), "Q4_1, dequantised");
/// # Ok::<(), zs_model::GgufError>(())
/// ```
pub fn import_gguf(
    file: &Path,
    dir: &Path,
    options: &ImportOptions,
) -> Result<ImportedModel, GgufError> {
    if dir.exists() {
        return Err(GgufError::Exists { dir: dir.to_owned() });
    }
    let gguf = GgufFile::open(file)?;
    let config = config::model_config(&gguf)?;
    let weights = names::weights(&gguf, &config)?;
    let tokenizer = tokenizer_files(&gguf, config.vocab_size, config.max_position_embeddings)?;
    let chat_template = gguf.optional_text("tokenizer.chat_template")?;
    let dtype = options.dtype.unwrap_or_else(|| exact_dtype(&weights));
    let provenance = provenance(&gguf, options.sha256.clone())?;
    let generation = json!({
        "bos_token_id": config.bos_token_id,
        "eos_token_id": config.eos_token_ids,
        // Without it, transformers and its server decode greedily at any temperature.
        "do_sample": true,
    });
    let mut files: Vec<(&str, String)> = vec![
        ("config.json", pretty(&config::config_json(&config, dtype, &provenance))),
        ("generation_config.json", pretty(&generation)),
        ("tokenizer.json", pretty(&tokenizer.tokenizer)),
        ("tokenizer_config.json", pretty(&tokenizer.config)),
        ("README.md", model_card(&provenance, dtype)),
    ];
    files.extend(chat_template.map(|it| ("chat_template.jinja", it.to_owned())));
    replace_directory(dir, |partial| {
        for (name, text) in &files {
            let path = partial.join(name);
            std::fs::write(&path, text).map_err(|source| SaveError::Write { path, source })?;
        }
        // Each tensor is read when it is written.
        let views = weights.into_iter().map(|(name, weight)| (name, WeightView { weight, dtype }));
        write_views(views, &partial.join("model.safetensors"))
    })?;
    Ok(ImportedModel { config, dtype, provenance })
}

/// Narrowest dtype that holds every value.
fn exact_dtype(weights: &BTreeMap<String, Weight<'_>>) -> WeightDtype {
    let fits = |kind, round: fn(f32) -> f32| {
        weights.values().all(|it| {
            it.tensor.kind == kind
                // Norms are stored as f32 in every file.
                || it.tensor.kind == GGUFTensorType::F32
                    && it.file.values(it.tensor).into_iter().all(|it| round(it) == it)
        })
    };
    // Files of f32 keep their type, and rows of values are not looked at where types decide.
    let has = |kind| weights.values().any(|it| it.tensor.kind == kind);
    if has(GGUFTensorType::BF16) && fits(GGUFTensorType::BF16, |it| bf16::from_f32(it).to_f32()) {
        WeightDtype::Bf16
    } else if has(GGUFTensorType::F16) && fits(GGUFTensorType::F16, |it| f16::from_f32(it).to_f32())
    {
        WeightDtype::F16
    } else {
        WeightDtype::F32
    }
}

fn provenance(file: &GgufFile, sha256: Option<String>) -> Result<Provenance, GgufError> {
    let mut tensor_types: BTreeMap<String, usize> = BTreeMap::new();
    let mut values: BTreeMap<&str, usize> = BTreeMap::new();
    for tensor in file.tensors().values() {
        *tensor_types.entry(tensor.kind.name().to_owned()).or_default() += 1;
        if tensor.shape.len() > 1 {
            *values.entry(tensor.kind.name()).or_default() +=
                tensor.shape.iter().product::<usize>();
        }
    }
    let text = |key| file.optional_text(key).map(|it| it.map(one_line));
    let name = file.path().file_name().unwrap_or_default();
    let most = values.into_iter().max_by_key(|it| it.1).map_or("F32", |it| it.0);
    Ok(Provenance {
        format: "gguf".to_owned(),
        file: name.to_string_lossy().into_owned(),
        sha256,
        quantization: most.to_owned(),
        tensor_types,
        name: text("general.name")?,
        license: text("general.license")?,
    })
}

/// `README.md`: the origin of the weights, for readers and for the hub.
fn model_card(provenance: &Provenance, dtype: WeightDtype) -> String {
    let license = provenance.license.as_deref().map(|it| format!("---\nlicense: {it}\n---\n\n"));
    let name = provenance.name.as_deref().unwrap_or("Imported model");
    let types: Vec<String> =
        provenance.tensor_types.iter().map(|(name, count)| format!("{count} {name}")).collect();
    let sha256 = provenance.sha256.as_deref().map(|it| format!("- SHA-256: `{it}`\n"));
    format!(
        "{license}# {name}\n\nImported from a GGUF file by `zs model import`.\n\n- file: `{file}`\n\
         {sha256}- weights: {summary}, written as {dtype}\n- tensors: {types}\n",
        license = license.unwrap_or_default(),
        file = provenance.file,
        sha256 = sha256.unwrap_or_default(),
        summary = provenance.summary(),
        dtype = dtype.torch_name(),
        types = types.join(", "),
    )
}

fn pretty(json: &Value) -> String {
    format!("{json:#}\n")
}

/// Tensor that is decoded when it is written.
struct WeightView<'a> {
    weight: Weight<'a>,
    dtype: WeightDtype,
}

impl View for WeightView<'_> {
    fn dtype(&self) -> Dtype {
        self.dtype.safetensors()
    }

    fn shape(&self) -> &[usize] {
        &self.weight.tensor.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        Cow::Owned(self.dtype.to_bytes(&self.weight.values()))
    }

    fn data_len(&self) -> usize {
        self.weight.tensor.shape.iter().product::<usize>() * self.dtype.num_bytes()
    }
}
