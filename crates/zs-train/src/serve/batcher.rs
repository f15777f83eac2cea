//! Batching across requests: one thread that takes what has queued up and works on it together.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

/// How jobs become batches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchConfig {
    /// Units of work (queries, sequences) that a batch is filled up to. A single larger job is a
    /// batch of its own.
    pub max_size: usize,
    /// How long the first job of a batch may wait for others. With zero, a batch is what queued up
    /// while the last one was worked on, so a lone request is never delayed.
    pub max_wait: Duration,
}

/// A piece of work that can share a batch.
pub(super) trait Job: Send + 'static {
    /// Units of work.
    fn size(&self) -> usize;
}

/// A queue in front of a thread. Dropping it lets the thread finish what is queued and end.
#[derive(Debug)]
pub(super) struct Batcher<J> {
    queue: Sender<J>,
}

impl<J: Job> Batcher<J> {
    /// Starts the thread. A batch whose processing panics is dropped, and with it the channels that
    /// its jobs answer through; the thread goes on.
    pub(super) fn start(
        name: &str,
        config: BatchConfig,
        mut process: impl FnMut(Vec<J>) + Send + 'static,
    ) -> Result<Self> {
        let (queue, jobs) = channel();
        let work = move || {
            while let Some(batch) = next_batch(&jobs, config) {
                // The panic was printed by the hook; whoever waits sees its channel close.
                let _ = catch_unwind(AssertUnwindSafe(|| process(batch)));
            }
        };
        std::thread::Builder::new()
            .name(format!("zs-{name}"))
            .spawn(work)
            .with_context(|| format!("cannot start the thread that batches {name}"))?;
        Ok(Self { queue })
    }

    /// Queues a job; false where the thread is gone.
    pub(super) fn submit(&self, job: J) -> bool {
        self.queue.send(job).is_ok()
    }
}

/// Waits for a job and fills its batch; `None` once the queue is closed and empty.
fn next_batch<J: Job>(jobs: &Receiver<J>, config: BatchConfig) -> Option<Vec<J>> {
    let first = jobs.recv().ok()?;
    let deadline = Instant::now() + config.max_wait;
    let mut size = first.size();
    let mut batch = vec![first];
    while size < config.max_size {
        let left = deadline.saturating_duration_since(Instant::now());
        let next = match left.is_zero() {
            true => jobs.try_recv().ok(),
            false => jobs.recv_timeout(left).ok(),
        };
        let Some(job) = next else { break };
        size += job.size();
        batch.push(job);
    }
    Some(batch)
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Job for usize {
        fn size(&self) -> usize {
            *self
        }
    }

    #[track_caller]
    fn check(jobs: &[usize], max_size: usize, expected: &[&[usize]]) {
        let (sender, receiver) = channel();
        jobs.iter().for_each(|it| sender.send(*it).unwrap());
        drop(sender);
        let config = BatchConfig { max_size, max_wait: Duration::ZERO };
        let batches: Vec<Vec<usize>> =
            std::iter::from_fn(|| next_batch(&receiver, config)).collect();
        assert_eq!(batches, expected, "{jobs:?}");
    }

    #[test]
    fn batches_hold_what_has_queued_up() {
        check(&[1, 1, 1], 8, &[&[1, 1, 1]]);
        check(&[1, 1, 1], 2, &[&[1, 1], &[1]]);
        check(&[9, 1, 1], 2, &[&[9], &[1, 1]]);
        check(&[1, 9, 1], 2, &[&[1, 9], &[1]]);
        check(&[], 2, &[]);
    }

    #[test]
    fn a_job_may_wait_for_company() {
        let (sender, receiver) = channel();
        let late = std::thread::spawn(move || {
            sender.send(1).unwrap();
            std::thread::yield_now();
            sender.send(1).unwrap();
        });
        let config = BatchConfig { max_size: 2, max_wait: Duration::from_secs(600) };
        assert_eq!(next_batch(&receiver, config), Some(vec![1, 1]));
        late.join().unwrap();
    }

    #[test]
    fn a_panic_costs_its_own_batch_only() {
        let (sender, receiver) = channel();
        let config = BatchConfig { max_size: 1, max_wait: Duration::ZERO };
        let batcher = Batcher::start("test", config, move |batch: Vec<usize>| {
            assert!(batch[0] != 13, "a panic that the test asks for");
            sender.send(batch[0]).unwrap();
        });
        let batcher = batcher.unwrap();
        assert!([1, 13, 2].into_iter().all(|it| batcher.submit(it)));
        drop(batcher);
        assert_eq!(receiver.iter().collect::<Vec<_>>(), [1, 2]);
    }
}
