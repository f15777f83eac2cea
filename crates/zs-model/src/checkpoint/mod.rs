//! Weights in Hugging Face layout: reading, writing, and where they come from in the first place.

mod initialize;
mod load;
mod save;

use burn::module::{ModuleMapper, ModuleVisitor, Param, ParamId};
use burn::tensor::{Tensor, TensorData};

pub(crate) use initialize::initialize;
pub use load::CheckpointError;
pub(crate) use load::{load_module, load_network, map_file, parse, to_f32};
pub use save::SaveError;
pub(crate) use save::save_module;

/// Where a module traversal is, as the name of a tensor in a checkpoint.
#[derive(Debug, Default)]
struct TensorPath {
    names: Vec<String>,
    containers: Vec<String>,
}

impl TensorPath {
    fn enter(&mut self, name: &str, container: &str) {
        self.names.push(name.to_owned());
        self.containers.push(container.to_owned());
    }

    fn exit(&mut self) {
        self.names.pop();
        self.containers.pop();
    }

    fn name(&self) -> String {
        self.names.join(".")
    }

    /// Whether the tensor here is stored transposed: the weight of a linear map.
    fn is_linear_weight(&self) -> bool {
        self.containers.last().is_some_and(|it| it == "Struct:Linear")
            && self.names.last().is_some_and(|it| it == "weight")
    }
}

/// A tensor of a checkpoint: name, shape and values in row-major order, as the file has them.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct NamedTensor {
    pub(crate) name: String,
    pub(crate) shape: Vec<usize>,
    pub(crate) values: Vec<f32>,
}

/// Every float parameter of a module, or its gradient, under its checkpoint name and in its
/// checkpoint layout.
pub(crate) fn named_tensors<M: burn::module::Module>(
    module: &M,
    mut value: impl FnMut(ParamId, &str) -> Option<TensorData>,
) -> Vec<NamedTensor> {
    struct Collect<'a> {
        path: TensorPath,
        value: &'a mut dyn FnMut(ParamId, &str) -> Option<TensorData>,
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
            let name = self.path.name();
            let data = match (self.value)(param.id, &name) {
                Some(data) => data,
                None => return,
            };
            let mut shape: Vec<usize> = param.shape().as_slice().to_vec();
            let mut values: Vec<f32> = data.iter::<f32>().collect();
            if self.path.is_linear_weight() {
                values = transpose(&values, shape[0], shape[1]);
                shape.reverse();
            }
            self.tensors.push(NamedTensor { name, shape, values });
        }
    }
    let mut collect =
        Collect { path: TensorPath::default(), value: &mut value, tensors: Vec::new() };
    module.visit(&mut collect);
    collect.tensors
}

/// Fills every float parameter of a module from `source(name, shape in checkpoint layout)`.
pub(crate) fn fill<M: burn::module::Module, E>(
    module: M,
    source: impl FnMut(&str, &[usize]) -> Result<Vec<f32>, E>,
) -> Result<M, E> {
    struct Fill<F, E> {
        path: TensorPath,
        source: F,
        error: Option<E>,
    }
    impl<F: FnMut(&str, &[usize]) -> Result<Vec<f32>, E>, E> ModuleMapper for Fill<F, E> {
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
            let own_shape: Vec<usize> = param.shape().as_slice().to_vec();
            let mut file_shape = own_shape.clone();
            let transposed = self.path.is_linear_weight();
            if transposed {
                file_shape.reverse();
            }
            let name = self.path.name();
            match (self.source)(&name, &file_shape) {
                Ok(mut values) => {
                    if transposed {
                        values = transpose(&values, file_shape[0], file_shape[1]);
                    }
                    let data = TensorData::new(values, own_shape);
                    let (_, old, mapper) = param.consume();
                    let new = Tensor::from_data(data, &old.device());
                    Param::from_mapped_value(param_id(&name), new, mapper)
                }
                Err(error) => {
                    self.error = Some(error);
                    param
                }
            }
        }
    }
    let mut fill = Fill { path: TensorPath::default(), source, error: None };
    let module = module.map(&mut fill);
    match fill.error {
        Some(error) => Err(error),
        None => Ok(module),
    }
}

/// The identity of a parameter: a function of its name alone, so that the state of an optimiser fits
/// the same model when it is loaded again.
fn param_id(name: &str) -> ParamId {
    // FNV-1a with 64 bits.
    let hash = name.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    hash.into()
}

/// Row-major transpose of a `rows x columns` matrix.
fn transpose(values: &[f32], rows: usize, columns: usize) -> Vec<f32> {
    let mut out = Vec::with_capacity(values.len());
    for column in 0..columns {
        out.extend((0..rows).map(|row| values[row * columns + column]));
    }
    out
}
