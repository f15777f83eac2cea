//! Spreading work over the cores of a CPU; an accelerator gets one piece at a time.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, OnceLock};

use burn::tensor::{Device, StreamId};

/// Threads that work side by side: all cores of a CPU, one for an accelerator.
pub(crate) fn host_workers(device: &Device) -> usize {
    if is_host(device) { std::thread::available_parallelism().map_or(1, Into::into) } else { 1 }
}

/// Whether a device is the CPU.
pub(crate) fn is_host(device: &Device) -> bool {
    #[cfg(feature = "flex")]
    if device.clone().without_autodiff() == Device::flex() {
        return true;
    }
    let _ = device;
    false
}

/// Runs work on a thread of its own, whose tensor operations must not spread over other threads: they
/// are busy too.
///
/// On an accelerator the work joins a stream, that of whoever waits for it: by default each thread
/// would get one, with memory of its own that no other can use, and these threads do not live long.
pub(crate) fn run_single_threaded<T: Send>(stream: StreamId, work: impl FnOnce() -> T + Send) -> T {
    let work = || stream.executes(work);
    match rayon::ThreadPoolBuilder::new().num_threads(1).build() {
        Ok(pool) => pool.install(work),
        // Without a pool of its own the work is slower, not wrong.
        Err(_) => work(),
    }
}

/// Runs work in a second stream of an accelerator, the same for all that is run so.
///
/// A [`LanguageModel`](crate::LanguageModel) samples in the stream that its weights were made in, so one
/// that is loaded here decodes at the same time as others do: a simulation LLM beside the policy.
///
/// ```
/// assert_eq!(zs_model::beside_sampling(|| 2 + 2), 4);
/// ```
pub fn beside_sampling<T>(work: impl FnOnce() -> T) -> T {
    static SECOND: OnceLock<StreamId> = OnceLock::new();
    SECOND.get_or_init(StreamId::allocate).executes(work)
}

/// `work(0), work(1), … work(count - 1)`, in this order, computed on all cores of a CPU.
///
/// For work on tensors without gradient, such as scoring micro-batches; with gradient there is
/// [`accumulate_gradients`](crate::accumulate_gradients).
///
/// # Panics
///
/// When `work` panics.
///
/// ```
/// let squares = zs_model::map_parallel(&burn::tensor::Device::default(), 4, |it| it * it);
/// assert_eq!(squares, [0, 1, 4, 9]);
/// ```
pub fn map_parallel<T: Send>(
    device: &Device,
    count: usize,
    work: impl Fn(usize) -> T + Sync,
) -> Vec<T> {
    map_ordered(host_workers(device), count, work)
}

/// [`map_parallel`] on so many threads.
pub(crate) fn map_ordered<T: Send>(
    workers: usize,
    count: usize,
    work: impl Fn(usize) -> T + Sync,
) -> Vec<T> {
    let workers = workers.min(count);
    if workers <= 1 {
        return (0..count).map(work).collect();
    }
    let results: Vec<Mutex<Option<T>>> = (0..count).map(|_| Mutex::new(None)).collect();
    let next = AtomicUsize::new(0);
    let stream = StreamId::current();
    std::thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                run_single_threaded(stream, || {
                    loop {
                        let index = next.fetch_add(1, Ordering::Relaxed);
                        let Some(slot) = results.get(index) else { return };
                        let result = work(index);
                        *slot.lock().expect("each slot is locked once") = Some(result);
                    }
                });
            });
        }
    });
    results
        .into_iter()
        .map(|it| it.into_inner().expect("each slot is locked once"))
        .map(|it| it.expect("every index was worked on"))
        .collect()
}
