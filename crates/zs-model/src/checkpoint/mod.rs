//! Reading, writing and initialisation of weights in Hugging Face layout.

mod auxiliary;
mod directory;
mod error;
mod files;
mod header;
mod initialize;
mod load;
mod save;
mod shapes;

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param, ParamId};
use burn::optim::GradientsParams;
use burn::tensor::{Bytes, Tensor, TensorData};

pub(crate) use auxiliary::AuxiliaryFiles;
pub(crate) use directory::replace_directory;
pub use error::CheckpointError;
pub(crate) use files::{WeightFiles, map_file, parse, to_f32};
pub(crate) use initialize::{initialize, uniform};
pub(crate) use load::{
    check_tied_head, is_redundant, load_for_sampling, load_module, load_network, open_network,
};
pub use save::{SaveError, SaveOptions, WeightDtype};
pub(crate) use save::{save_network, write_safetensors, write_views};
pub(crate) use shapes::tensor_shapes;

/// Checkpoint entry of a float parameter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TensorEntry {
    /// Path of the parameter in the module, which is also its name in a checkpoint.
    pub(crate) name: String,
    /// Shape in the file.
    pub(crate) shape: Vec<usize>,
    /// True if the module stores the transpose of the file's matrix (weights of linear layers).
    pub(crate) transposed: bool,
}

impl TensorEntry {
    /// Number of values.
    pub(crate) fn len(&self) -> usize {
        self.shape.iter().product()
    }
}

/// Float parameter of a module, or its gradient, with its checkpoint entry.
#[derive(Clone, Debug)]
pub(crate) struct NamedTensor {
    pub(crate) entry: TensorEntry,
    /// Values in the module's layout; a vector is a single row.
    matrix: Tensor<2>,
}

impl NamedTensor {
    /// The same values with another name.
    pub(crate) fn renamed(&self, name: String) -> Self {
        Self { entry: TensorEntry { name, ..self.entry.clone() }, matrix: self.matrix.clone() }
    }

    /// Reads the values from the device as little-endian bytes of f32, in the module's layout.
    pub(crate) fn to_bytes(&self) -> Bytes {
        self.matrix.clone().into_data().convert::<f32>().into_parts().0
    }

    /// Reads the values from the device, in the file's layout.
    pub(crate) fn to_vec(&self) -> Vec<f32> {
        let [rows, columns] = self.matrix.dims();
        let values: Vec<f32> = self.matrix.clone().into_data().iter::<f32>().collect();
        if self.entry.transposed { transpose(&values, rows, columns) } else { values }
    }
}

/// All float parameters of a module. No data is copied from the device.
pub(crate) fn named_parameters<M: Module>(module: &M) -> Vec<NamedTensor> {
    collect(module, None)
}

/// Gradients of all parameters of a module. No data is copied from the device.
pub(crate) fn named_gradients<M: Module>(module: &M, grads: &GradientsParams) -> Vec<NamedTensor> {
    collect(module, Some(grads))
}

fn collect<M: Module>(module: &M, grads: Option<&GradientsParams>) -> Vec<NamedTensor> {
    struct Collect<'a> {
        path: TensorPath,
        grads: Option<&'a GradientsParams>,
        tensors: Vec<NamedTensor>,
    }
    impl ModuleVisitor for Collect<'_> {
        fn enter_module(&mut self, name: &str, container_type: &str) {
            self.path.enter(name, container_type);
        }
        fn exit_module(&mut self, _name: &str, _container_type: &str) {
            self.path.exit();
        }
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            let value = match self.grads {
                None => Some(param.val()),
                Some(grads) => grads.get::<D>(param.id),
            };
            let Some(value) = value else { return };
            let shape = value.dims();
            let columns = shape[D - 1];
            let rows = shape[..D - 1].iter().product();
            let entry = self.path.entry(&shape);
            self.tensors.push(NamedTensor { entry, matrix: value.reshape([rows, columns]) });
        }
    }
    let mut collect = Collect { path: TensorPath::default(), grads, tensors: Vec::new() };
    module.visit(&mut collect);
    collect.tensors
}

/// Fills the float parameters of a module from `source`. `source` returns values in the module's
/// layout, or `None` to leave a parameter unchanged.
pub(crate) fn fill<M: Module, E>(
    module: M,
    source: impl FnMut(&TensorEntry) -> Result<Option<Vec<f32>>, E>,
) -> Result<M, E> {
    fill_at("", module, source)
}

/// [`fill`] for a module with the given path in its model.
pub(crate) fn fill_at<M: Module, E>(
    path: &str,
    module: M,
    source: impl FnMut(&TensorEntry) -> Result<Option<Vec<f32>>, E>,
) -> Result<M, E> {
    struct Fill<F, E> {
        path: TensorPath,
        source: F,
        error: Option<E>,
    }
    impl<F: FnMut(&TensorEntry) -> Result<Option<Vec<f32>>, E>, E> ModuleMapper for Fill<F, E> {
        fn enter_module(&mut self, name: &str, container_type: &str) {
            self.path.enter(name, container_type);
        }
        fn exit_module(&mut self, _name: &str, _container_type: &str) {
            self.path.exit();
        }
        fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
            if self.error.is_some() {
                return param;
            }
            let shape: Vec<usize> = param.shape().as_slice().to_vec();
            let entry = self.path.entry(&shape);
            match (self.source)(&entry) {
                Ok(Some(values)) => {
                    let data = TensorData::new(values, shape);
                    let (_, old, mapper) = param.consume();
                    let new = Tensor::from_data(data, &old.device());
                    Param::from_mapped_value(param_id(&entry.name), new, mapper)
                }
                Ok(None) => param,
                Err(error) => {
                    self.error = Some(error);
                    param
                }
            }
        }
    }
    let mut fill = Fill { path: TensorPath::at(path), source, error: None };
    let module = module.map(&mut fill);
    match fill.error {
        Some(error) => Err(error),
        None => Ok(module),
    }
}

/// Path of the current module during a traversal.
#[derive(Debug, Default)]
struct TensorPath {
    names: Vec<String>,
    containers: Vec<String>,
}

impl TensorPath {
    /// Path of a module within a model; empty for a whole model.
    fn at(path: &str) -> Self {
        let names = path.split_terminator('.').map(str::to_owned).collect();
        Self { names, containers: Vec::new() }
    }

    fn enter(&mut self, name: &str, container: &str) {
        self.names.push(name.to_owned());
        self.containers.push(container.to_owned());
    }

    fn exit(&mut self) {
        self.names.pop();
        self.containers.pop();
    }

    /// Checkpoint entry of the current parameter, given its shape in the module.
    fn entry(&self, module_shape: &[usize]) -> TensorEntry {
        let transposed = self.is_linear_weight();
        let mut shape = module_shape.to_vec();
        if transposed {
            shape.reverse();
        }
        TensorEntry { name: self.names.join("."), shape, transposed }
    }

    /// True if the current tensor is the weight of a linear layer.
    fn is_linear_weight(&self) -> bool {
        match self.containers.last().map(String::as_str) {
            Some("Struct:Linear") => self.names.last().is_some_and(|it| it == "weight"),
            Some("Struct:LowRank") => true,
            _ => false,
        }
    }
}

/// Parameter identifier, a pure function of the name, so that a saved optimizer state matches the
/// reloaded model.
fn param_id(name: &str) -> ParamId {
    // 64-bit FNV-1a hash.
    let hash = name.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    hash.into()
}

/// Row-major transpose of a `rows x columns` matrix.
pub(crate) fn transpose(values: &[f32], rows: usize, columns: usize) -> Vec<f32> {
    let mut out = vec![0.0; values.len()];
    transpose_into(&mut out, rows, 0, columns, rows, |at| values[at]);
    out
}

/// Writes rows of a `rows x columns` matrix into its transpose `out`, tile by tile, so that both
/// sides stay in the CPU cache.
fn transpose_into(
    out: &mut [f32],
    rows: usize,
    first_row: usize,
    columns: usize,
    num_rows: usize,
    value: impl Fn(usize) -> f32,
) {
    const TILE: usize = 32;
    for row_tile in (0..num_rows).step_by(TILE) {
        for column_tile in (0..columns).step_by(TILE) {
            for column in column_tile..(column_tile + TILE).min(columns) {
                for row in row_tile..(row_tile + TILE).min(num_rows) {
                    out[column * rows + first_row + row] = value(row * columns + column);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn transposes_matrices_larger_than_a_tile() {
        let (rows, columns) = (67, 35);
        let values: Vec<f32> = (0..rows * columns).map(|it| it as f32).collect();
        let out = transpose(&values, rows, columns);
        for row in 0..rows {
            for column in 0..columns {
                assert_eq!(out[column * rows + row], values[row * columns + column]);
            }
        }
        assert_eq!(transpose(&out, columns, rows), values);
    }
}
