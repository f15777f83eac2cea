//! Writing of `model.safetensors` for transformers and vLLM.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt::Display;
use std::path::{Path, PathBuf};

use half::{bf16, f16};
use safetensors::{Dtype, View};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{NamedTensor, named_parameters};
use crate::CausalLm;

/// Format of written weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SaveOptions {
    /// Dtype of the values in the file. Only `F32` allows bit-exact resumption of training.
    pub dtype: WeightDtype,
    /// Maximum size of a file; larger models are split into shards. A tensor is never split.
    pub max_shard_bytes: u64,
}

impl Default for SaveOptions {
    fn default() -> Self {
        // Shards of 5 GB, a size that hubs and loaders handle well.
        Self { dtype: WeightDtype::F32, max_shard_bytes: 5_000_000_000 }
    }
}

/// Dtype of the values in a weight file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum WeightDtype {
    /// f32: lossless.
    #[default]
    F32,
    /// bfloat16: the range of f32 at 8 bits of precision.
    Bf16,
    /// IEEE half precision: 11 bits of precision up to 65,504; larger values become infinite.
    F16,
}

impl WeightDtype {
    /// Name of the dtype in `config.json`.
    pub(crate) fn torch_name(self) -> &'static str {
        match self {
            Self::F32 => "float32",
            Self::Bf16 => "bfloat16",
            Self::F16 => "float16",
        }
    }

    /// The dtype as safetensors names it.
    pub(crate) fn safetensors(self) -> Dtype {
        match self {
            Self::F32 => Dtype::F32,
            Self::Bf16 => Dtype::BF16,
            Self::F16 => Dtype::F16,
        }
    }

    /// Bytes of a value.
    pub(crate) fn num_bytes(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::Bf16 | Self::F16 => 2,
        }
    }

    /// Little-endian bytes of values, rounded to the dtype.
    pub(crate) fn to_bytes(self, values: &[f32]) -> Vec<u8> {
        let values = values.iter().copied();
        match self {
            Self::F32 => values.flat_map(f32::to_le_bytes).collect(),
            Self::Bf16 => values.flat_map(|it| bf16::from_f32(it).to_le_bytes()).collect(),
            Self::F16 => values.flat_map(|it| f16::from_f32(it).to_le_bytes()).collect(),
        }
    }
}

/// Error while writing a model.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SaveError {
    /// A file or directory cannot be written.
    #[error("{path}: cannot write the model", path = path.display())]
    Write {
        /// The file or directory.
        path: PathBuf,
        /// The operating system's error.
        #[source]
        source: std::io::Error,
    },
    /// The weights cannot be serialised.
    #[error("{path}: cannot write the weights: {message}", path = path.display())]
    Weights {
        /// The file.
        path: PathBuf,
        /// Message of the writer.
        message: String,
    },
    /// The tokenizer cannot be serialised.
    #[error(transparent)]
    Tokenizer(#[from] crate::TokenizerError),
}

/// Writes the weights to a directory: `model.safetensors`, or shards with an index.
///
/// Copies tensors from the device one at a time.
pub(crate) fn save_network(
    network: &CausalLm,
    dir: &Path,
    options: &SaveOptions,
) -> Result<(), SaveError> {
    let num_bytes = |it: &NamedTensor| (it.entry.len() * options.dtype.num_bytes()) as u64;
    let tensors = named_parameters(network);
    let total_size: u64 = tensors.iter().map(num_bytes).sum();
    let mut shards: Vec<Vec<NamedTensor>> = vec![Vec::new()];
    let mut filled = 0;
    for tensor in tensors {
        if filled > 0 && filled + num_bytes(&tensor) > options.max_shard_bytes {
            shards.push(Vec::new());
            filled = 0;
        }
        filled += num_bytes(&tensor);
        shards.last_mut().expect("there is always a shard").push(tensor);
    }
    if let [tensors] = &shards[..] {
        return write_safetensors(tensors, options.dtype, &dir.join("model.safetensors"));
    }
    let mut weight_map = serde_json::Map::new();
    for (index, tensors) in shards.iter().enumerate() {
        let file = format!("model-{:05}-of-{:05}.safetensors", index + 1, shards.len());
        write_safetensors(tensors, options.dtype, &dir.join(&file))?;
        for tensor in tensors {
            weight_map.insert(tensor.entry.name.clone(), file.clone().into());
        }
    }
    let index = json!({ "metadata": { "total_size": total_size }, "weight_map": weight_map });
    let path = dir.join("model.safetensors.index.json");
    std::fs::write(&path, format!("{index:#}\n"))
        .map_err(|source| SaveError::Write { path, source })
}

/// Writes tensors to one file.
pub(crate) fn write_safetensors(
    tensors: &[NamedTensor],
    dtype: WeightDtype,
    path: &Path,
) -> Result<(), SaveError> {
    let entries =
        tensors.iter().map(|tensor| (tensor.entry.name.as_str(), LazyView { tensor, dtype }));
    write_views(entries, path)
}

/// Writes tensors by name to one file with the metadata that transformers expects (`format: pt`).
pub(crate) fn write_views<N: AsRef<str> + Ord + Display, V: View>(
    views: impl IntoIterator<Item = (N, V)>,
    path: &Path,
) -> Result<(), SaveError> {
    let metadata = HashMap::from([("format".to_owned(), "pt".to_owned())]);
    safetensors::serialize_to_file(views, Some(metadata), path)
        .map_err(|it| SaveError::Weights { path: path.to_owned(), message: it.to_string() })?;
    share(path).map_err(|source| SaveError::Write { path: path.to_owned(), source })
}

/// Makes the weights readable with the default permissions of the other files.
fn share(path: &Path) -> std::io::Result<()> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o644))?;
    }
    #[cfg(not(unix))]
    let _ = path;
    Ok(())
}

/// Tensor that is read from its device when it is written.
struct LazyView<'a> {
    tensor: &'a NamedTensor,
    dtype: WeightDtype,
}

impl View for LazyView<'_> {
    fn dtype(&self) -> Dtype {
        self.dtype.safetensors()
    }

    fn shape(&self) -> &[usize] {
        &self.tensor.entry.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        Cow::Owned(self.dtype.to_bytes(&self.tensor.to_vec()))
    }

    fn data_len(&self) -> usize {
        self.tensor.entry.len() * self.dtype.num_bytes()
    }
}
