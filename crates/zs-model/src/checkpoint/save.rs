//! Writing `model.safetensors` so that transformers and vLLM load it.

use std::borrow::Cow;
use std::collections::HashMap;
use std::path::{Path, PathBuf};

use burn::module::{Module, ParamId};
use burn::tensor::TensorData;
use safetensors::{Dtype, View};

use super::{NamedTensor, named_tensors};

/// Why a model could not be written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SaveError {
    /// A file or directory could not be written.
    #[error("{path}: cannot write the model", path = path.display())]
    Write {
        /// The file or directory.
        path: PathBuf,
        /// The operating system's error.
        #[source]
        source: std::io::Error,
    },
    /// The weights could not be serialised.
    #[error("{path}: cannot write the weights: {message}", path = path.display())]
    Weights {
        /// The file.
        path: PathBuf,
        /// What the writer said.
        message: String,
    },
    /// The tokenizer could not be serialised.
    #[error(transparent)]
    Tokenizer(#[from] crate::TokenizerError),
}

/// Writes the weights as one f32 file.
pub(crate) fn save_module<M: Module>(module: &M, path: &Path) -> Result<(), SaveError> {
    let mut values = ParameterValues::collect(module);
    let tensors = named_tensors(module, |id, _| values.0.remove(&id));
    let metadata = HashMap::from([("format".to_owned(), "pt".to_owned())]);
    let entries = tensors.iter().map(|it| (it.name.clone(), F32View(it)));
    safetensors::serialize_to_file(entries, Some(metadata), path)
        .map_err(|it| SaveError::Weights { path: path.to_owned(), message: it.to_string() })?;
    share(path).map_err(|source| SaveError::Write { path: path.to_owned(), source })
}

/// Lets others read the weights, as they may read the files beside them.
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

/// The values of every float parameter, by identifier.
pub(crate) struct ParameterValues(pub(crate) HashMap<ParamId, TensorData>);

impl ParameterValues {
    pub(crate) fn collect<M: burn::module::Module>(module: &M) -> Self {
        struct Read(HashMap<ParamId, TensorData>);
        impl burn::module::ModuleVisitor for Read {
            fn visit_float<const D: usize>(
                &mut self,
                param: &burn::module::Param<burn::tensor::Tensor<D>>,
            ) {
                self.0.insert(param.id, param.val().into_data());
            }
        }
        let mut read = Read(HashMap::new());
        module.visit(&mut read);
        Self(read.0)
    }
}

struct F32View<'a>(&'a NamedTensor);

impl View for F32View<'_> {
    fn dtype(&self) -> Dtype {
        Dtype::F32
    }

    fn shape(&self) -> &[usize] {
        &self.0.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        Cow::Owned(self.0.values.iter().flat_map(|it| it.to_le_bytes()).collect())
    }

    fn data_len(&self) -> usize {
        self.0.values.len() * size_of::<f32>()
    }
}
