//! Errors of loading a model directory.

use std::path::PathBuf;

use crate::{ConfigError, TokenizerError};

/// Error while loading a model directory.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CheckpointError {
    /// `config.json` is invalid.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// `tokenizer.json` is invalid.
    #[error(transparent)]
    Tokenizer(#[from] TokenizerError),
    /// The tokenizer has tokens without an embedding.
    #[error(
        "{tokenizer}: the tokenizer has {tokens} tokens but the model's embedding only {vocab_size} \
         rows; use the tokenizer that the model was trained with",
        tokenizer = tokenizer.display()
    )]
    TokenizerTooLarge {
        /// Path of the tokenizer.
        tokenizer: PathBuf,
        /// Number of tokens of the tokenizer.
        tokens: usize,
        /// Number of rows of the embedding.
        vocab_size: usize,
    },
    /// The directory has neither weights nor an index.
    #[error(
        "{dir}: neither model.safetensors nor model.safetensors.index.json exists{advice}",
        dir = dir.display()
    )]
    NoWeights {
        /// The model directory.
        dir: PathBuf,
        /// Way to weights that load, after `; `; empty where nothing is known.
        advice: String,
    },
    /// The index names something other than a file beside it.
    #[error(
        "{path}: `{name}` is not the name of a file in the same directory; correct `weight_map`",
        path = path.display()
    )]
    ShardName {
        /// The index.
        path: PathBuf,
        /// The name.
        name: String,
    },
    /// A weight is NaN or infinite.
    #[error(
        "{path}: tensor {tensor} holds {value} at position {position}; use weights that are finite",
        path = path.display()
    )]
    NotFinite {
        /// The file.
        path: PathBuf,
        /// The tensor.
        tensor: String,
        /// Position in the tensor, row by row.
        position: usize,
        /// The value.
        value: f32,
    },
    /// A file cannot be opened.
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
        /// Message of the parser.
        message: String,
    },
    /// A tensor that the configuration requires is missing.
    #[error("{path}: tensor {tensor} is missing; re-export the checkpoint or correct config.json", path = path.display())]
    MissingTensor {
        /// File that should hold the tensor; the index if it lists no file for the tensor.
        path: PathBuf,
        /// The tensor.
        tensor: String,
    },
    /// A tensor is not part of the configured model.
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
    /// A head that is tied has weights of its own.
    #[error(
        "{path}: tensor lm_head.weight differs from model.embed_tokens.weight, although config.json \
         ties them, and programs disagree on which one is used; set tie_word_embeddings to false, or \
         remove the tensor",
        path = path.display()
    )]
    TiedHead {
        /// The file.
        path: PathBuf,
    },
    /// A tensor's shape differs from the configuration.
    #[error(
        "{path}: tensor {tensor} has shape {found:?}, but config.json calls for {expected:?}",
        path = path.display()
    )]
    Shape {
        /// The file.
        path: PathBuf,
        /// The tensor.
        tensor: String,
        /// Shape in the file.
        found: Vec<usize>,
        /// Shape that the configuration requires.
        expected: Vec<usize>,
    },
    /// A tensor's dtype is not f32, f16 or bf16.
    #[error("{path}: tensor {tensor} holds {dtype}; use F32, F16 or BF16", path = path.display())]
    Dtype {
        /// The file.
        path: PathBuf,
        /// The tensor.
        tensor: String,
        /// Dtype in the file.
        dtype: String,
    },
    /// Two files contain the same tensor.
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
