//! Sum of gradients.

use burn::module::{Module, ModuleVisitor, Param};
use burn::optim::GradientsParams;
use burn::tensor::Tensor;

/// Adds the gradients of a module's parameters to `total`.
pub(crate) fn add_gradients<M: Module>(
    module: &M,
    total: &mut GradientsParams,
    mut grads: GradientsParams,
) {
    module.visit(&mut AddInto { total, grads: &mut grads });
}

struct AddInto<'a> {
    total: &'a mut GradientsParams,
    grads: &'a mut GradientsParams,
}

impl ModuleVisitor for AddInto<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let Some(grad) = self.grads.remove::<D>(param.id) else { return };
        let sum = match self.total.remove::<D>(param.id) {
            Some(total) => total + grad,
            None => grad,
        };
        self.total.register(param.id, sum);
    }
}
