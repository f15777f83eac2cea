//! Who may give work to devices while a step is being captured: only the one who captures.

use std::sync::{PoisonError, RwLock, RwLockReadGuard};

/// Held for reading by whoever samples, for writing by whoever captures.
static CAPTURE_LOCK: RwLock<()> = RwLock::new(());

/// Leave to give work to a device, for as long as nobody captures a step.
///
/// A capture of CUDA forbids the whole process, whatever the GPU, to allocate or to wait: either would
/// fail, and the capture with it. Threads that sample beside each other (one a GPU, or a simulation LLM
/// beside the policy) hold a turn from a step's first operation until its numbers have come to the
/// host, after which nothing of theirs is under way.
///
/// A thread takes one turn at a time.
pub(crate) struct DeviceAccess {
    held: Option<RwLockReadGuard<'static, ()>>,
}

impl DeviceAccess {
    /// Waits until nobody captures.
    pub(crate) fn shared() -> Self {
        Self { held: Some(acquire_shared()) }
    }

    /// Runs work when everybody else's turn has ended, and before another begins.
    pub(crate) fn exclusive<T>(&mut self, work: impl FnOnce() -> T) -> T {
        self.held = None;
        let alone = CAPTURE_LOCK.write().unwrap_or_else(PoisonError::into_inner);
        let result = work();
        drop(alone);
        self.held = Some(acquire_shared());
        result
    }
}

fn acquire_shared() -> RwLockReadGuard<'static, ()> {
    // Nothing is guarded that a panic could have left half done.
    CAPTURE_LOCK.read().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[test]
    fn nobody_has_a_turn_beside_one_who_is_alone() {
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
