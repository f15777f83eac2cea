//! Reading `model.safetensors`, whole or sharded, tensor by tensor from mapped files.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use burn::module::Module;
use burn::tensor::Device;
use half::{bf16, f16};
use memmap2::Mmap;
use safetensors::{Dtype, SafeTensors};
use serde::Deserialize;

use super::fill;
use crate::{CausalLm, ConfigError, ModelConfig, TokenizerError};

/// Why a model directory could not be loaded.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CheckpointError {
    /// `config.json` was refused.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// `tokenizer.json` was refused.
    #[error(transparent)]
    Tokenizer(#[from] TokenizerError),
    /// The tokenizer can produce tokens that the model has no embedding for.
    #[error(
        "{tokenizer}: the tokenizer has {tokens} tokens but the model's embedding only {vocab_size} \
         rows; use the tokenizer that the model was trained with",
        tokenizer = tokenizer.display()
    )]
    TokenizerTooLarge {
        /// The tokenizer's file.
        tokenizer: PathBuf,
        /// Its tokens.
        tokens: usize,
        /// Rows of the embedding.
        vocab_size: usize,
    },
    /// Neither weights nor an index are there.
    #[error(
        "{dir}: neither model.safetensors nor model.safetensors.index.json is there",
        dir = dir.display()
    )]
    NoWeights {
        /// The model directory.
        dir: PathBuf,
    },
    /// A file could not be opened.
    #[error("{path}: cannot read the weights", path = path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The operating system's error.
        #[source]
        source: std::io::Error,
    },
    /// The index is not JSON of the expected form.
    #[error("{path}: not an index of weights: {source}", path = path.display())]
    Index {
        /// The file.
        path: PathBuf,
        /// The parser's error.
        source: serde_json::Error,
    },
    /// A file is not in safetensors format, or is cut short.
    #[error("{path}: not a complete safetensors file: {message}", path = path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// What the parser said.
        message: String,
    },
    /// A tensor that the configuration calls for is missing.
    #[error("{dir}: tensor {tensor} is missing", dir = dir.display())]
    MissingTensor {
        /// The model directory.
        dir: PathBuf,
        /// The tensor.
        tensor: String,
    },
    /// A tensor that the configuration does not call for is there.
    #[error(
        "{dir}: tensor {tensor} is not part of the model that config.json describes",
        dir = dir.display()
    )]
    ExtraTensor {
        /// The model directory.
        dir: PathBuf,
        /// The tensor.
        tensor: String,
    },
    /// A tensor has another shape than the configuration says.
    #[error(
        "{path}: tensor {tensor} has shape {found:?}, but config.json calls for {expected:?}",
        path = path.display()
    )]
    Shape {
        /// The file.
        path: PathBuf,
        /// The tensor.
        tensor: String,
        /// Its shape in the file.
        found: Vec<usize>,
        /// The shape that the configuration calls for.
        expected: Vec<usize>,
    },
    /// A tensor holds another type than f32, f16 or bf16.
    #[error("{path}: tensor {tensor} holds {dtype}; use F32, F16 or BF16", path = path.display())]
    Dtype {
        /// The file.
        path: PathBuf,
        /// The tensor.
        tensor: String,
        /// Its type.
        dtype: String,
    },
}

/// Loads the weights of a model directory.
pub(crate) fn load_network(
    dir: &Path,
    config: &ModelConfig,
    device: &Device,
) -> Result<CausalLm, CheckpointError> {
    // Some exports keep a copy of a tied head; it must not be mistaken for an untied one.
    load_module(dir, CausalLm::zeros(config, device), |name| is_derived(name, config))
}

/// Fills a module from the weights of a directory; `is_ignored` names tensors that may be there.
pub(crate) fn load_module<M: Module>(
    dir: &Path,
    module: M,
    is_ignored: impl Fn(&str) -> bool,
) -> Result<M, CheckpointError> {
    let files = WeightFiles::open(dir)?;
    let mut unused: BTreeSet<&str> = files.owner.keys().map(String::as_str).collect();
    let module = fill(module, |name, shape| {
        unused.remove(name);
        files.read(name, shape)
    })?;
    unused.retain(|name| !is_ignored(name));
    match unused.first() {
        Some(tensor) => {
            Err(CheckpointError::ExtraTensor { dir: dir.to_owned(), tensor: (*tensor).to_owned() })
        }
        None => Ok(module),
    }
}

/// Tensors that follow from others and that some exporters write nevertheless.
fn is_derived(name: &str, config: &ModelConfig) -> bool {
    name.ends_with("rotary_emb.inv_freq")
        || (config.tie_word_embeddings && name == "lm_head.weight")
}

/// The mapped files of a checkpoint and which tensor lies in which.
struct WeightFiles {
    dir: PathBuf,
    files: Vec<(PathBuf, Mmap)>,
    owner: BTreeMap<String, usize>,
}

impl WeightFiles {
    fn open(dir: &Path) -> Result<Self, CheckpointError> {
        let single = dir.join("model.safetensors");
        let index = dir.join("model.safetensors.index.json");
        let paths: Vec<PathBuf> = if single.exists() {
            vec![single]
        } else if index.exists() {
            shards(&index)?.into_iter().map(|it| dir.join(it)).collect()
        } else {
            return Err(CheckpointError::NoWeights { dir: dir.to_owned() });
        };
        let mut files = Vec::with_capacity(paths.len());
        let mut owner = BTreeMap::new();
        for (index, path) in paths.into_iter().enumerate() {
            let map = map_file(&path)
                .map_err(|source| CheckpointError::Read { path: path.clone(), source })?;
            for name in parse(&path, &map)?.names() {
                owner.insert(name.to_owned(), index);
            }
            files.push((path, map));
        }
        Ok(Self { dir: dir.to_owned(), files, owner })
    }

    fn read(&self, name: &str, expected: &[usize]) -> Result<Vec<f32>, CheckpointError> {
        let missing =
            || CheckpointError::MissingTensor { dir: self.dir.clone(), tensor: name.to_owned() };
        let (path, map) = &self.files[*self.owner.get(name).ok_or_else(missing)?];
        let tensors = parse(path, map)?;
        let view = tensors.tensor(name).map_err(|_| missing())?;
        if view.shape() != expected {
            return Err(CheckpointError::Shape {
                path: path.clone(),
                tensor: name.to_owned(),
                found: view.shape().to_vec(),
                expected: expected.to_vec(),
            });
        }
        to_f32(view.dtype(), view.data()).ok_or_else(|| CheckpointError::Dtype {
            path: path.clone(),
            tensor: name.to_owned(),
            dtype: format!("{:?}", view.dtype()),
        })
    }
}

/// The shard files that an index names, each once, in order.
fn shards(index: &Path) -> Result<BTreeSet<String>, CheckpointError> {
    #[derive(Deserialize)]
    struct Index {
        weight_map: BTreeMap<String, String>,
    }
    let text = std::fs::read_to_string(index)
        .map_err(|source| CheckpointError::Read { path: index.to_owned(), source })?;
    let index: Index = serde_json::from_str(&text)
        .map_err(|source| CheckpointError::Index { path: index.to_owned(), source })?;
    Ok(index.weight_map.into_values().collect())
}

#[expect(unsafe_code, reason = "mapping a file is unsafe; weights are read once, at loading")]
pub(crate) fn map_file(path: &Path) -> std::io::Result<Mmap> {
    let file = std::fs::File::open(path)?;
    // SAFETY: the map is read-only and private to the loader. A file that another process cuts short
    // meanwhile would fault, as with every loader of mapped weights; our own writers replace files
    // by renaming and never change them in place.
    unsafe { Mmap::map(&file) }
}

pub(crate) fn parse<'a>(path: &Path, bytes: &'a [u8]) -> Result<SafeTensors<'a>, CheckpointError> {
    SafeTensors::deserialize(bytes)
        .map_err(|it| CheckpointError::Format { path: path.to_owned(), message: it.to_string() })
}

/// Little-endian values of a float tensor as f32; `None` for other types.
pub(crate) fn to_f32(dtype: Dtype, bytes: &[u8]) -> Option<Vec<f32>> {
    let pairs = || bytes.as_chunks::<2>().0.iter();
    match dtype {
        Dtype::F32 => {
            Some(bytes.as_chunks::<4>().0.iter().map(|it| f32::from_le_bytes(*it)).collect())
        }
        Dtype::F16 => Some(pairs().map(|it| f16::from_le_bytes(*it).to_f32()).collect()),
        Dtype::BF16 => Some(pairs().map(|it| bf16::from_le_bytes(*it).to_f32()).collect()),
        _ => None,
    }
}
