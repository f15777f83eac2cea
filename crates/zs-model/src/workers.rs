//! Parallelism over the cores of a CPU; an accelerator processes one work item at a time.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

use burn::tensor::{Device, StreamId};
use parking_lot::Mutex;

/// Maximum number of parameters at which the cores of a CPU process a work item each.
///
/// The weights of a larger model are read from memory, and its gradients and activations are large,
/// so all cores process one work item together.
const MAX_PARAMETERS_PER_CORE: usize = 1 << 25;

/// Division of the threads of a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Threads {
    /// Work items processed at a time.
    pub(crate) workers: usize,
    /// Threads that process one of them.
    pub(crate) per_worker: usize,
}

impl Threads {
    /// Division of some cores of a CPU among the work items of a model.
    pub(crate) fn of_cores(cores: usize, num_parameters: usize) -> Self {
        match num_parameters <= MAX_PARAMETERS_PER_CORE {
            true => Self { workers: cores.max(1), per_worker: 1 },
            false => Self { workers: 1, per_worker: cores.max(1) },
        }
    }
}

/// Number of micro-batches of a model that some cores of a CPU process at a time.
///
/// ```
/// assert_eq!(zs_model::concurrent_micro_batches(8, 1_000_000), 8);
/// assert_eq!(zs_model::concurrent_micro_batches(8, 1_000_000_000), 1);
/// ```
#[must_use]
pub fn concurrent_micro_batches(cores: usize, num_parameters: usize) -> usize {
    Threads::of_cores(cores, num_parameters).workers
}

/// Cores of a CPU; one for an accelerator, which one thread feeds.
pub(crate) fn cores(device: &Device) -> usize {
    if is_host(device) { std::thread::available_parallelism().map_or(1, Into::into) } else { 1 }
}

/// True if the device is a CPU.
pub(crate) fn is_host(device: &Device) -> bool {
    #[cfg(feature = "flex")]
    if device.clone().without_autodiff() == Device::flex() {
        return true;
    }
    let _ = device;
    false
}

/// Runs work whose tensor operations use this number of threads.
///
/// On an accelerator the work joins the stream of the caller. By default each thread would get a
/// stream with its own memory, which no other stream can use, and these threads are short-lived.
pub(crate) fn run_on_threads<T: Send>(
    threads: usize,
    stream: StreamId,
    work: impl FnOnce() -> T + Send,
) -> T {
    let work = || stream.executes(work);
    match rayon::ThreadPoolBuilder::new().num_threads(threads).build() {
        Ok(pool) => pool.install(work),
        // Without a dedicated pool the work is slower but correct.
        Err(_) => work(),
    }
}

/// Runs work in a second stream of the accelerator, shared by all such work.
///
/// A [`LanguageModel`](crate::LanguageModel) samples in the stream in which its weights were
/// created. A model loaded here therefore decodes concurrently with others, e.g. a simulation LLM
/// with the policy.
///
/// ```
/// assert_eq!(zs_model::on_secondary_stream(|| 2 + 2), 4);
/// ```
pub fn on_secondary_stream<T>(work: impl FnOnce() -> T) -> T {
    static SECOND: OnceLock<StreamId> = OnceLock::new();
    SECOND.get_or_init(StreamId::allocate).executes(work)
}

/// Computes `work(0), work(1), … work(count - 1)` on some threads and returns the results in this
/// order.
pub(crate) fn map_ordered<T: Send>(
    threads: Threads,
    count: usize,
    work: impl Fn(usize) -> T + Sync,
) -> Vec<T> {
    let workers = threads.workers.min(count);
    if workers <= 1 && threads.per_worker <= 1 {
        return (0..count).map(work).collect();
    }
    let results: Vec<Mutex<Option<T>>> = (0..count).map(|_| Mutex::new(None)).collect();
    let next = AtomicUsize::new(0);
    let stream = StreamId::current();
    std::thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                run_on_threads(threads.per_worker, stream, || {
                    loop {
                        let index = next.fetch_add(1, Ordering::Relaxed);
                        let Some(slot) = results.get(index) else { return };
                        let result = work(index);
                        *slot.lock() = Some(result);
                    }
                });
            });
        }
    });
    results.into_iter().map(|it| it.into_inner().expect("every index was worked on")).collect()
}
