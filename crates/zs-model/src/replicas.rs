//! Data parallelism: replicas of one model on several devices.
//!
//! A model is optimised on one device. If it is given [several](crate::CausalLm::with_devices),
//! independent work (micro-batches, sequences) is distributed over replicas of the weights, and the
//! results are gathered on the first device. The distribution depends only on the number of work
//! items and devices, so the same devices give bit-exact results.

use burn::module::Module;
use burn::tensor::{Device, StreamId};

use crate::workers::{Threads, cores, is_host, map_ordered, run_on_threads};

/// Threads of each device for a model. A CPU that is listed several times divides its cores.
pub(crate) fn threads_of(devices: &[Device], num_parameters: usize) -> Vec<Threads> {
    let num_hosts = devices.iter().filter(|it| is_host(it)).count().max(1);
    let of_device = |it| Threads::of_cores(cores(it).div_euclid(num_hosts), num_parameters);
    devices.iter().map(of_device).collect()
}

/// Indices of `count` work items assigned to each of `num_devices` devices, round robin.
///
/// Micro-batches are sorted by length, so neighbours cost about the same and round robin balances
/// the load.
pub(crate) fn assign_round_robin(count: usize, num_devices: usize) -> Vec<Vec<usize>> {
    (0..num_devices).map(|first| (first..count).step_by(num_devices).collect()).collect()
}

/// Computes `work(model, 0), … work(model, count - 1)` on the replicas of a model and returns the
/// results in this order.
///
/// For work without gradients, such as scoring micro-batches;
/// [`accumulate_gradients`](crate::accumulate_gradients) is the version with gradients. The cores of
/// a CPU share the work. `model` is a sampling copy on the first of `devices`.
///
/// # Panics
///
/// Panics if `work` panics or `devices` is empty.
pub fn map_replicas<M, T>(
    model: &M,
    devices: &[Device],
    count: usize,
    work: impl Fn(&M, usize) -> T + Sync,
) -> Vec<T>
where
    M: Module + Sync,
    T: Send,
{
    assert!(!devices.is_empty(), "`devices` must not be empty");
    let threads = threads_of(devices, model.num_params());
    let assigned = assign_round_robin(count, devices.len());
    let on_device = |at: usize, replica: &M| -> Vec<(usize, T)> {
        let share = &assigned[at];
        let results = map_ordered(threads[at], share.len(), |it| work(replica, share[it]));
        share.iter().copied().zip(results).collect()
    };
    if devices.len() == 1 {
        return on_device(0, model).into_iter().map(|(_, result)| result).collect();
    }
    let of_devices = on_each_device(model, devices, |at, replica| on_device(at, &replica));
    let mut results: Vec<(usize, T)> = of_devices.into_iter().flatten().collect();
    results.sort_by_key(|(index, _)| *index);
    results.into_iter().map(|(_, result)| result).collect()
}

/// Computes `work(at, replica)` for each device in parallel and returns the results in their order.
/// A replica is a sampling copy of the model on that device.
///
/// # Panics
///
/// Panics if `work` panics.
pub(crate) fn on_each_device<M: Module, R: Send>(
    model: &M,
    devices: &[Device],
    work: impl Fn(usize, M) -> R + Sync,
) -> Vec<R> {
    let work = &work;
    let stream = StreamId::current();
    std::thread::scope(|scope| {
        let mut running = Vec::with_capacity(devices.len());
        for (at, device) in devices.iter().enumerate() {
            let replica = replica(model, at, device);
            running.push(scope.spawn(move || run_on_threads(1, stream, move || work(at, replica))));
        }
        let join = |it: std::thread::ScopedJoinHandle<'_, R>| {
            it.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        };
        running.into_iter().map(join).collect()
    })
}

/// Devices of the other replicas, given all devices of a model.
///
/// # Panics
///
/// Panics if the first device is not the one of the parameters.
pub(crate) fn secondary_devices(own: &Device, devices: &[Device]) -> Vec<Device> {
    let own = own.clone().without_autodiff();
    assert_eq!(devices.first(), Some(&own), "the first device must be the network's own");
    devices[1..].to_vec()
}

/// Own device of a model, followed by those of the other replicas.
pub(crate) fn all_devices(own: &Device, secondary_devices: &[Device]) -> Vec<Device> {
    std::iter::once(own.clone().without_autodiff())
        .chain(secondary_devices.iter().cloned())
        .collect()
}

/// Sampling copy of a model on device number `at`; the first is the model's own device and shares
/// its weights.
pub(crate) fn replica<M: Module>(model: &M, at: usize, device: &Device) -> M {
    let copy = model.valid();
    if at == 0 { copy } else { copy.to_device(&device.clone().without_autodiff()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(count: usize, num_devices: usize, expected: &[&[usize]]) {
        assert_eq!(assign_round_robin(count, num_devices), expected);
    }

    #[test]
    fn work_is_assigned_round_robin() {
        check(5, 2, &[&[0, 2, 4], &[1, 3]]);
        check(3, 1, &[&[0, 1, 2]]);
        check(2, 3, &[&[0], &[1], &[]]);
        check(0, 2, &[&[], &[]]);
    }

    #[test]
    #[cfg(feature = "flex")]
    fn a_cpu_listed_twice_divides_its_cores() {
        let cores = std::thread::available_parallelism().map_or(1, Into::into);
        let cpu = Device::flex();
        let (small, large) = (1_000_000, 100_000_000);
        let each = |workers, per_worker| Threads { workers, per_worker };
        assert_eq!(threads_of(std::slice::from_ref(&cpu), small), [each(cores, 1)]);
        assert_eq!(threads_of(std::slice::from_ref(&cpu), large), [each(1, cores)]);
        let half = (cores / 2).max(1);
        assert_eq!(threads_of(&[cpu.clone(), cpu], small), [each(half, 1); 2]);
    }
}
