//! What can be wrong with a model directory.

use std::path::PathBuf;

use crate::{ConfigError, TokenizerError};

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
    #[error("{path}: cannot be read", path = path.display())]
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
    #[error("{path}: tensor {tensor} is missing", path = path.display())]
    MissingTensor {
        /// The file that should hold it; the index where none says so.
        path: PathBuf,
        /// The tensor.
        tensor: String,
    },
    /// A tensor that the configuration does not call for is there.
    #[error(
        "{path}: tensor {tensor} is not part of the model that config.json describes",
        path = path.display()
    )]
    ExtraTensor {
        /// The file.
        path: PathBuf,
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
    /// Two files hold the same tensor.
    #[error(
        "{path}: tensor {tensor} is also in {other}; keep one of them",
        path = path.display(),
        other = other.display()
    )]
    DuplicateTensor {
        /// The second file.
        path: PathBuf,
        /// The first file.
        other: PathBuf,
        /// The tensor.
        tensor: String,
    },
}
