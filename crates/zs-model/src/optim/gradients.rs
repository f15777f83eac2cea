//! Gradient accumulation over micro-batches, and gradient norms.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};

use burn::module::{Module, ModuleVisitor, Param};
use burn::optim::GradientsParams;
use burn::tensor::{Device, StreamId, Tensor};
use parking_lot::Mutex;

use crate::gradient_sum::add_gradients;
use crate::replicas::{assign_round_robin, on_each_device, threads_of};
use crate::workers::{Threads, run_on_threads};
use crate::{PolicyModel, TokenRow, TokenScores, ValueModel};

/// Runs micro-batches forward and backward and sums their gradients.
///
/// On a CPU, micro-batches of a small model run in parallel, one per core; those of a large one run one
/// after the other, on all cores. Gradients are added in the order of the
/// micro-batches, so the sum is bit-exact for any number of threads. If the model has several
/// [devices](PolicyModel::compute_devices), each sums the gradients of its micro-batches, and the
/// sums are added on the first device, in the order of the devices. `loss` receives the index of
/// the micro-batch and its scores. It returns the loss, already weighted for the whole batch, and a
/// value for the caller.
///
/// # Panics
///
/// Panics if `loss` panics or a micro-batch violates the contract of [`PolicyModel::token_scores`].
pub fn accumulate_gradients<M, T>(
    model: &M,
    micro_batches: &[Vec<TokenRow>],
    loss: impl Fn(usize, TokenScores) -> (Tensor<1>, T) + Sync,
) -> (GradientsParams, Vec<T>)
where
    M: PolicyModel,
    T: Send,
{
    accumulate(model, &model.compute_devices(), micro_batches.len(), |model, index| {
        model.score_gradients(&micro_batches[index], |scores| loss(index, scores))
    })
}

/// [`accumulate_gradients`] for a value model; `loss` receives the values of the micro-batch.
///
/// # Panics
///
/// Panics if `loss` panics or a micro-batch violates the contract of [`ValueModel::values`].
pub fn accumulate_value_gradients<M, T>(
    model: &M,
    micro_batches: &[Vec<TokenRow>],
    loss: impl Fn(usize, Tensor<2>) -> (Tensor<1>, T) + Sync,
) -> (GradientsParams, Vec<T>)
where
    M: ValueModel,
    T: Send,
{
    accumulate(model, &model.compute_devices(), micro_batches.len(), |model, index| {
        model.value_gradients(&micro_batches[index], |values| loss(index, values))
    })
}

/// [`accumulate_gradients`] for any work that returns gradients.
pub(crate) fn accumulate<M, T>(
    model: &M,
    devices: &[Device],
    count: usize,
    work: impl Fn(&M, usize) -> (GradientsParams, T) + Sync,
) -> (GradientsParams, Vec<T>)
where
    M: Module,
    T: Send,
{
    let threads = threads_of(devices, model.num_params());
    let assigned = assign_round_robin(count, devices.len());
    if let ([threads], [all]) = (&threads[..], &assigned[..]) {
        return accumulate_share(model, *threads, all, &work);
    }
    let sums = on_each_device(model, devices, |at, replica| {
        // Each device gets its own gradient leaves, as each thread does.
        accumulate_share(&replica.train(), threads[at], &assigned[at], &work)
    });
    let mut total = GradientsParams::new();
    let mut outputs: Vec<(usize, T)> = Vec::with_capacity(count);
    let first = devices.first().map(|it| it.clone().without_autodiff());
    for (at, ((grads, of_share), share)) in sums.into_iter().zip(&assigned).enumerate() {
        let grads = match &first {
            Some(first) if at > 0 => grads.to_device(first, model),
            _ => grads,
        };
        add_gradients(model, &mut total, grads);
        outputs.extend(share.iter().copied().zip(of_share));
    }
    outputs.sort_by_key(|(index, _)| *index);
    (total, outputs.into_iter().map(|(_, it)| it).collect())
}

/// [`accumulate`] over some of the indices, on one device.
fn accumulate_share<M, T>(
    model: &M,
    threads: Threads,
    indices: &[usize],
    work: &(impl Fn(&M, usize) -> (GradientsParams, T) + Sync),
) -> (GradientsParams, Vec<T>)
where
    M: Module,
    T: Send,
{
    let count = indices.len();
    let sum = Mutex::new(OrderedSum::new(count));
    let next = AtomicUsize::new(0);
    let run = |model: M| {
        loop {
            let at = next.fetch_add(1, Ordering::Relaxed);
            let Some(&index) = indices.get(at) else { return };
            let (grads, outputs) = work(&model, index);
            sum.lock().add(&model, at, grads, outputs);
        }
    };
    let workers = threads.workers.min(count);
    if workers <= 1 && threads.per_worker <= 1 {
        run(model.clone());
    } else {
        let stream = StreamId::current();
        std::thread::scope(|scope| {
            let spawn = |_| {
                // Each thread gets a copy with its own gradient leaves: burn's autodiff merges
                // graphs that share leaves, and its locks deadlock when one graph is used from two
                // threads.
                let model = model.valid().train();
                scope.spawn(|| run_on_threads(threads.per_worker, stream, || run(model)))
            };
            let handles: Vec<_> = (0..workers).map(spawn).collect();
            for handle in handles {
                if let Err(panic) = handle.join() {
                    std::panic::resume_unwind(panic);
                }
            }
        });
    }
    let sum = sum.into_inner();
    (sum.total, sum.outputs.into_iter().flatten().collect())
}

/// Sum of gradients in the order of their indices; early results wait.
struct OrderedSum<T> {
    total: GradientsParams,
    waiting: BTreeMap<usize, GradientsParams>,
    next: usize,
    outputs: Vec<Option<T>>,
}

impl<T> OrderedSum<T> {
    fn new(count: usize) -> Self {
        Self {
            total: GradientsParams::new(),
            waiting: BTreeMap::new(),
            next: 0,
            outputs: (0..count).map(|_| None).collect(),
        }
    }

    fn add<M: Module>(&mut self, model: &M, index: usize, grads: GradientsParams, outputs: T) {
        self.outputs[index] = Some(outputs);
        self.waiting.insert(index, grads);
        while let Some(grads) = self.waiting.remove(&self.next) {
            add_gradients(model, &mut self.total, grads);
            self.next += 1;
        }
    }
}

/// L2 norm over all parameters.
///
/// ```text
/// norm = sqrt(sum over parameters of sum(g^2))
/// ```
pub(crate) fn global_norm<M: Module>(model: &M, grads: &GradientsParams) -> f64 {
    struct Squares<'a> {
        grads: &'a GradientsParams,
        sums: Vec<Tensor<1>>,
    }
    impl ModuleVisitor for Squares<'_> {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            if let Some(grad) = self.grads.get::<D>(param.id) {
                self.sums.push(grad.square().sum());
            }
        }
    }
    let mut squares = Squares { grads, sums: Vec::new() };
    model.visit(&mut squares);
    if squares.sums.is_empty() {
        return 0.0;
    }
    // A single transfer for all parameters.
    let sums = Tensor::cat(squares.sums, 0).into_data();
    sums.iter::<f32>().map(f64::from).sum::<f64>().sqrt()
}

/// Multiplies every gradient by a factor.
pub(crate) fn scale_gradients<M: Module>(model: &M, grads: &mut GradientsParams, factor: f64) {
    struct Scale<'a> {
        grads: &'a mut GradientsParams,
        factor: f64,
    }
    impl ModuleVisitor for Scale<'_> {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            if let Some(grad) = self.grads.remove::<D>(param.id) {
                self.grads.register(param.id, grad * self.factor);
            }
        }
    }
    model.visit(&mut Scale { grads, factor });
}
