//! One model on several devices: which of them computes what.
//!
//! A model lives on one device, where it is optimised. Where it is given
//! [more of them](crate::CausalLm::with_devices), work that falls into independent pieces (micro-batches,
//! sequences) is dealt out, each device computes its pieces with a replica of the weights, and what
//! comes out is brought together on the first. Who computes what follows from the number of pieces
//! and of devices alone, so that the same devices give the same bytes.

use burn::module::Module;
use burn::tensor::{Device, StreamId};

use crate::workers::{host_workers, is_host, map_ordered, run_single_threaded};

/// Threads that compute on each of some devices; a CPU that is named several times divides its
/// cores.
pub(crate) fn workers_of(devices: &[Device]) -> Vec<usize> {
    let num_hosts = devices.iter().filter(|it| is_host(it)).count().max(1);
    devices.iter().map(|it| host_workers(it).div_euclid(num_hosts).max(1)).collect()
}

/// Which of `count` pieces of work each of `num_devices` devices gets: every so manieth one.
///
/// Micro-batches are sorted by the length of their rows, so neighbours cost about the same, and
/// dealing them out like cards gives everyone about as much.
pub(crate) fn assign_round_robin(count: usize, num_devices: usize) -> Vec<Vec<usize>> {
    (0..num_devices).map(|first| (first..count).step_by(num_devices).collect()).collect()
}

/// `work(model, 0), … work(model, count - 1)`, in this order, dealt out to the devices of a model.
///
/// For work on tensors without gradient, such as scoring micro-batches; with gradient there is
/// [`accumulate_gradients`](crate::accumulate_gradients). With one device this is
/// [`map_parallel`](crate::map_parallel). `model` is a sampling copy that lives on the first of
/// `devices`.
///
/// # Panics
///
/// When `work` panics, or there is no device.
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
    assert!(!devices.is_empty(), "a model is on a device");
    let workers = workers_of(devices);
    let assigned = assign_round_robin(count, devices.len());
    let on_device = |at: usize, replica: &M| -> Vec<(usize, T)> {
        let share = &assigned[at];
        let results = map_ordered(workers[at], share.len(), |it| work(replica, share[it]));
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

/// `work(at, replica)` for each of some devices, side by side, in their order; a replica is a sampling
/// copy of the model on that device.
///
/// # Panics
///
/// When `work` panics.
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
            running
                .push(scope.spawn(move || run_single_threaded(stream, move || work(at, replica))));
        }
        let join = |it: std::thread::ScopedJoinHandle<'_, R>| {
            it.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        };
        running.into_iter().map(join).collect()
    })
}

/// The devices beside a model's own, of those that it is to compute on.
///
/// # Panics
///
/// When the first is not the device that the parameters live on.
pub(crate) fn secondary_devices(own: &Device, devices: &[Device]) -> Vec<Device> {
    let own = own.clone().without_autodiff();
    assert_eq!(devices.first(), Some(&own), "a network's own device comes first");
    devices[1..].to_vec()
}

/// A model's own device, and those [`secondary_devices`] it.
pub(crate) fn all_devices(own: &Device, secondary_devices: &[Device]) -> Vec<Device> {
    std::iter::once(own.clone().without_autodiff())
        .chain(secondary_devices.iter().cloned())
        .collect()
}

/// A sampling copy of a model for device number `at`; for the first, where it is, the model itself.
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
    fn work_is_dealt_out_like_cards() {
        check(5, 2, &[&[0, 2, 4], &[1, 3]]);
        check(3, 1, &[&[0, 1, 2]]);
        check(2, 3, &[&[0], &[1], &[]]);
        check(0, 2, &[&[], &[]]);
    }

    #[test]
    #[cfg(feature = "flex")]
    fn a_cpu_that_is_named_twice_has_half_the_cores_for_each() {
        let cores = std::thread::available_parallelism().map_or(1, Into::into);
        let cpu = Device::flex();
        assert_eq!(workers_of(std::slice::from_ref(&cpu)), [cores]);
        let half = (cores / 2).max(1);
        assert_eq!(workers_of(&[cpu.clone(), cpu]), [half, half]);
    }
}
