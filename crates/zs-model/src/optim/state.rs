//! Saving and loading of optimiser state, for bit-exact resumption.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};

use burn::module::{Module, ModuleVisitor, Param};
use burn::optim::OptimizerRecord;
use burn::store::RecordError;
use burn::tensor::{Bytes, Tensor};
use burn_pack::{Reader, Scalar, Writer};

use super::{Optimizer, OptimizerConfig};
use crate::model_file;

/// Name of the entry with the step counter.
const STEP: &str = "zs.step";

/// Error while saving or loading optimiser state.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OptimizerStateError {
    /// The file cannot be written or read, or is truncated.
    #[error("{path}: optimiser state cannot be written or read: {message}", path = path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Cause.
        message: String,
    },
    /// The file belongs to another model.
    #[error(
        "{path}: optimiser state belongs to another model ({tensor}); resume with the \
         model that it was saved with",
        path = path.display()
    )]
    AnotherModel {
        /// The file.
        path: PathBuf,
        /// Entry that does not match.
        tensor: String,
    },
}

impl Optimizer {
    /// Writes moments and step counter atomically.
    ///
    /// Equal states give identical files.
    ///
    /// # Errors
    ///
    /// Fails if the file cannot be written; an existing file is then unchanged.
    pub fn save(&self, path: &Path) -> Result<(), OptimizerStateError> {
        let failed = |error: &dyn std::fmt::Display| OptimizerStateError::File {
            path: path.to_owned(),
            message: error.to_string(),
        };
        // burn stores the states in a hash map; reading its own bytes back sorts them.
        let unordered: Result<Bytes, RecordError> = self.inner.to_record().into_bytes();
        let reader =
            Reader::from_bytes(unordered.map_err(|it| failed(&it))?).map_err(|it| failed(&it))?;
        let (scalars, metadata) = (reader.scalars().clone(), reader.metadata().clone());
        let mut writer = Writer::new(reader.into_tensors().map_err(|it| failed(&it))?)
            .auto_extension(false)
            .with_scalar(STEP, Scalar::from(self.step));
        for (name, value) in scalars {
            writer = writer.with_scalar(&name, value);
        }
        for (name, value) in metadata {
            writer = writer.with_metadata(&name, &value);
        }
        writer.write_to_file(path).map_err(|it| failed(&it))
    }

    /// Loads a [saved](Self::save) optimiser for the same configuration and model.
    ///
    /// Requires a model loaded or initialised by this crate, whose parameters are identified by
    /// name.
    ///
    /// # Errors
    ///
    /// Fails if the file cannot be read or belongs to another model.
    pub fn load<M: Module>(
        config: &OptimizerConfig,
        model: &M,
        path: &Path,
    ) -> Result<Self, OptimizerStateError> {
        let failed = |error: &dyn std::fmt::Display| OptimizerStateError::File {
            path: path.to_owned(),
            message: error.to_string(),
        };
        let mut bytes = Vec::new();
        let read = model_file::open(path).and_then(|mut it| it.read_to_end(&mut bytes));
        read.map_err(|it| failed(&it))?;
        let open = || Reader::from_bytes(Bytes::from_bytes_vec(bytes.clone()));
        let reader = open().map_err(|it| failed(&it))?;
        let step = reader.scalars().get(STEP).and_then(|it| usize::try_from(*it).ok());
        let step = step.ok_or_else(|| failed(&"it holds no step counter"))?;
        let shapes = shapes(model);
        for tensor in reader.into_tensors().map_err(|it| failed(&it))? {
            let expected = tensor.param_id.and_then(|id| shapes.get(&id));
            if expected.is_none_or(|it| tensor.shape.as_slice() != it.as_slice()) {
                let (path, tensor) = (path.to_owned(), tensor.name);
                return Err(OptimizerStateError::AnotherModel { path, tensor });
            }
        }
        let record = OptimizerRecord::from_bytes(Bytes::from_bytes_vec(bytes));
        let mut optimizer = Self::new(config, model);
        optimizer.inner = optimizer.inner.load_record(record.map_err(|it| failed(&it))?);
        optimizer.step = step;
        Ok(optimizer)
    }
}

/// Shape of every parameter, by its identifier.
fn shapes<M: Module>(model: &M) -> BTreeMap<u64, Vec<usize>> {
    struct Shapes(BTreeMap<u64, Vec<usize>>);
    impl ModuleVisitor for Shapes {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            self.0.insert(param.id.val(), param.shape().as_slice().to_vec());
        }
    }
    let mut shapes = Shapes(BTreeMap::new());
    model.visit(&mut shapes);
    shapes.0
}
