//! Counters of a simulation engine's searches, shared by any number of threads.

use std::sync::atomic::{AtomicU64, Ordering};

use super::SimulatedStats;

/// The counters behind [`SimulatedStats`].
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) num_requests: Counter,
    pub(crate) num_documents: Counter,
    pub(crate) num_malformed: Counter,
    pub(crate) num_cut: Counter,
    pub(crate) num_failed: Counter,
}

#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn add(&self, number: usize) {
        self.0.fetch_add(number as u64, Ordering::Relaxed);
    }

    fn read(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl Counters {
    pub(crate) fn stats(&self) -> SimulatedStats {
        SimulatedStats {
            num_requests: self.num_requests.read(),
            num_documents: self.num_documents.read(),
            num_malformed: self.num_malformed.read(),
            num_cut: self.num_cut.read(),
            num_failed: self.num_failed.read(),
        }
    }
}
