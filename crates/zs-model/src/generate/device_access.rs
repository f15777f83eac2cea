//! Lock that keeps other threads off the devices during graph capture.

use parking_lot::{RwLock, RwLockReadGuard};

/// Read-locked while sampling, write-locked during capture.
static CAPTURE_LOCK: RwLock<()> = RwLock::new(());

/// Shared access to the devices, held while no thread captures a graph.
///
/// While a CUDA graph is captured, no thread of the process may allocate or synchronise on any GPU;
/// either would fail and abort the capture. Threads that sample concurrently (one per GPU, or a
/// simulation LLM and the policy) hold shared access from the first operation of a step until its
/// results are on the host, when no operation of theirs is pending.
///
/// A thread must not acquire access twice.
pub(crate) struct DeviceAccess {
    held: Option<RwLockReadGuard<'static, ()>>,
}

impl DeviceAccess {
    /// Waits for captures to end and acquires shared access.
    pub(crate) fn shared() -> Self {
        Self { held: Some(CAPTURE_LOCK.read()) }
    }

    /// Runs `work` with exclusive access, after all other threads have released theirs.
    pub(crate) fn exclusive<T>(&mut self, work: impl FnOnce() -> T) -> T {
        self.held = None;
        let alone = CAPTURE_LOCK.write();
        let result = work();
        drop(alone);
        self.held = Some(CAPTURE_LOCK.read());
        result
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[test]
    fn exclusive_access_excludes_every_other_thread() {
        const THREADS: usize = 4;
        let (busy, alone) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let start = Barrier::new(THREADS);
        std::thread::scope(|scope| {
            for thread in 0..THREADS {
                let (busy, alone, start) = (&busy, &alone, &start);
                scope.spawn(move || {
                    start.wait();
                    for step in 0..200 {
                        let mut access = DeviceAccess::shared();
                        busy.fetch_add(1, Ordering::SeqCst);
                        assert_eq!(alone.load(Ordering::SeqCst), 0);
                        busy.fetch_sub(1, Ordering::SeqCst);
                        if (step + thread) % 7 == 0 {
                            access.exclusive(|| {
                                assert_eq!(alone.fetch_add(1, Ordering::SeqCst), 0);
                                std::thread::yield_now();
                                assert_eq!(busy.load(Ordering::SeqCst), 0);
                                alone.fetch_sub(1, Ordering::SeqCst);
                            });
                        }
                    }
                });
            }
        });
    }
}
