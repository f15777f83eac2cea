//! Parameters as slices, and gradients on their way to them.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use burn::module::{Param, ParamId};
use burn::optim::GradientsParams;
use burn::tensor::{DType, Device, Tensor, TensorData};
use burn_flex::{Flex, FlexTensor};

use super::kernels::add;
use crate::workers::is_host;

/// A parameter in f32 on the CPU. Shares the tensor's memory.
#[derive(Debug)]
pub(crate) struct Leaf {
    tensor: FlexTensor,
    id: ParamId,
    is_trained: bool,
}

impl Leaf {
    /// `None` for a parameter that is elsewhere or of another type.
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

    /// The numbers, row by row.
    pub(crate) fn numbers(&self) -> &[f32] {
        let layout = self.tensor.layout();
        let start = layout.start_offset();
        &self.tensor.storage::<f32>()[start..start + layout.num_elements()]
    }

    fn shape(&self) -> Vec<usize> {
        self.tensor.layout().shape().as_slice().to_vec()
    }

    /// Whether a gradient is wanted.
    pub(crate) fn is_trained(&self) -> bool {
        self.is_trained
    }
}

/// Gradients of parameters on their way to an optimiser.
#[derive(Debug, Default)]
pub(crate) struct Gradients {
    of: HashMap<ParamId, Gradient>,
}

#[derive(Debug)]
struct Gradient {
    shape: Vec<usize>,
    numbers: Vec<f32>,
}

impl Gradients {
    /// Adds to the gradient of a parameter.
    pub(crate) fn put(&mut self, leaf: &Leaf, numbers: Vec<f32>) {
        match self.of.entry(leaf.id) {
            Entry::Occupied(mut sum) => add(&mut sum.get_mut().numbers, &numbers),
            Entry::Vacant(place) => {
                place.insert(Gradient { shape: leaf.shape(), numbers });
            }
        }
    }

    /// The gradient of a parameter so far, to be added to.
    pub(crate) fn sum(&mut self, leaf: &Leaf) -> &mut [f32] {
        let zero = || Gradient { shape: leaf.shape(), numbers: vec![0.0; leaf.numbers().len()] };
        &mut self.of.entry(leaf.id).or_insert_with(zero).numbers
    }

    /// As an optimiser wants them, on the CPU.
    pub(crate) fn into_params(self) -> GradientsParams {
        let mut params = GradientsParams::new();
        for (id, Gradient { shape, numbers }) in self.of {
            let data = TensorData::new(numbers, shape.clone());
            match shape.len() {
                1 => params.register(id, Tensor::<1>::from_data(data, &Device::flex())),
                _ => params.register(id, Tensor::<2>::from_data(data, &Device::flex())),
            }
        }
        params
    }
}
