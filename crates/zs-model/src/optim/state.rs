//! The state of an optimiser as a file, so that an interrupted run goes on to the bit.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use burn::module::{Module, ModuleVisitor, Param};
use burn::optim::OptimizerRecord;
use burn::store::RecordError;
use burn::tensor::{Bytes, Tensor};
use burn_pack::{Reader, Scalar, Writer};

use super::{Optimizer, OptimizerConfig};

/// The entry that holds the step counter.
const STEP: &str = "zs.step";

/// Why the state of an optimiser could not be written or read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OptimizerStateError {
    /// The file could not be written or read, or is cut short.
    #[error("{path}: the state of the optimiser cannot be written or read: {message}", path = path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What went wrong.
        message: String,
    },
    /// The file belongs to another model.
    #[error(
        "{path}: the state of the optimiser belongs to another model ({tensor}); resume with the \
         model that it was saved with",
        path = path.display()
    )]
    AnotherModel {
        /// The file.
        path: PathBuf,
        /// The entry that does not fit.
        tensor: String,
    },
}

impl Optimizer {
    /// Writes moments and step counter; a reader sees the old file or the new one, never a part.
    ///
    /// The same state is the same bytes.
    ///
    /// # Errors
    ///
    /// Fails when the file cannot be written; an earlier one is then as it was.
    pub fn save(&self, path: &Path) -> Result<(), OptimizerStateError> {
        let failed = |error: &dyn std::fmt::Display| OptimizerStateError::File {
            path: path.to_owned(),
            message: error.to_string(),
        };
        // burn keeps the states in a hash map; reading its own bytes back puts them in order.
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

    /// The optimiser as it was [saved](Self::save), for the same configuration and the same model.
    ///
    /// Only models that were loaded or initialised by this crate are known again: their parameters
    /// are identified by name.
    ///
    /// # Errors
    ///
    /// Fails when the file cannot be read, and when it is the state of another model.
    pub fn load<M: Module>(
        config: &OptimizerConfig,
        model: &M,
        path: &Path,
    ) -> Result<Self, OptimizerStateError> {
        let failed = |error: &dyn std::fmt::Display| OptimizerStateError::File {
            path: path.to_owned(),
            message: error.to_string(),
        };
        let bytes = std::fs::read(path).map_err(|it| failed(&it))?;
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

/// The shape of every parameter, by its identity.
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
