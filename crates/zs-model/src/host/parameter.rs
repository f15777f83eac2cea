//! Parameters as slices, and accumulation of their gradients.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use burn::module::{Param, ParamId};
use burn::optim::GradientsParams;
use burn::tensor::{DType, Device, Tensor, TensorData};
use burn_flex::{Flex, FlexTensor};

use super::kernels::add;
use crate::workers::is_host;

/// f32 parameter on the CPU, sharing the tensor's memory.
#[derive(Debug)]
pub(crate) struct Parameter {
    tensor: FlexTensor,
    id: ParamId,
    is_trained: bool,
}

impl Parameter {
    /// Returns `None` for a parameter on another device or with another dtype.
    pub(crate) fn of<const D: usize>(param: &Param<Tensor<D>>) -> Option<Self> {
        let value = param.val();
        let is_trained = value.is_require_grad();
        if !is_host(&value.device()) {
            return None;
        }
        let tensor = value.without_autodiff().try_into_primitive::<Flex>().ok()?;
        if tensor.dtype() != DType::F32 {
            return None;
        }
        Some(Self { tensor: tensor.to_contiguous(), id: param.id, is_trained })
    }

    /// Values in row-major order.
    pub(crate) fn values(&self) -> &[f32] {
        let layout = self.tensor.layout();
        let start = layout.start_offset();
        &self.tensor.storage::<f32>()[start..start + layout.num_elements()]
    }

    fn shape(&self) -> Vec<usize> {
        self.tensor.layout().shape().as_slice().to_vec()
    }

    /// True if the parameter requires a gradient.
    pub(crate) fn is_trained(&self) -> bool {
        self.is_trained
    }
}

/// Accumulated gradients of parameters.
#[derive(Debug, Default)]
pub(crate) struct Gradients {
    of: HashMap<ParamId, Gradient>,
}

#[derive(Debug)]
struct Gradient {
    shape: Vec<usize>,
    values: Vec<f32>,
}

impl Gradients {
    /// Adds to the gradient of a parameter.
    pub(crate) fn put(&mut self, parameter: &Parameter, values: Vec<f32>) {
        match self.of.entry(parameter.id) {
            Entry::Occupied(mut sum) => add(&mut sum.get_mut().values, &values),
            Entry::Vacant(place) => {
                place.insert(Gradient { shape: parameter.shape(), values });
            }
        }
    }

    /// Gradient of a parameter so far, for accumulation.
    pub(crate) fn sum(&mut self, parameter: &Parameter) -> &mut [f32] {
        let zero =
            || Gradient { shape: parameter.shape(), values: vec![0.0; parameter.values().len()] };
        &mut self.of.entry(parameter.id).or_insert_with(zero).values
    }

    /// Converts to burn's gradient container, on the CPU.
    pub(crate) fn into_params(self) -> GradientsParams {
        let mut params = GradientsParams::new();
        for (id, Gradient { shape, values }) in self.of {
            let data = TensorData::new(values, shape.clone());
            match shape.len() {
                1 => params.register(id, Tensor::<1>::from_data(data, &Device::flex())),
                _ => params.register(id, Tensor::<2>::from_data(data, &Device::flex())),
            }
        }
        params
    }
}
