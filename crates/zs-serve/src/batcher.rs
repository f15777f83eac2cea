//! Batching across requests: one thread that processes all queued jobs together.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use crate::ServeError;

/// Size and waiting time of batches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchConfig {
    /// Number of queries or sequences at which a batch is full. A larger job is a batch of its own.
    pub max_size: usize,
    /// Time that the first job of a batch waits for others. With zero, a batch holds the jobs that
    /// were queued during the previous batch, and a single request is never delayed.
    pub max_wait: Duration,
}

/// A unit of work that can share a batch.
pub(crate) trait Job: Send + 'static {
    /// Returns the number of queries or sequences.
    fn size(&self) -> usize;
}

/// A queue in front of a thread. When it is dropped, the thread finishes the queued jobs and ends.
#[derive(Debug)]
pub(crate) struct Batcher<J> {
    queue: Sender<J>,
}

impl<J: Job> Batcher<J> {
    /// Starts the thread. A panic drops the batch and the response channels of its jobs; the thread
    /// continues with the next batch.
    pub(crate) fn start(
        name: &str,
        config: BatchConfig,
        mut process: impl FnMut(Vec<J>) + Send + 'static,
    ) -> Result<Self, ServeError> {
        let (queue, jobs) = channel();
        let work = move || {
            while let Some(batch) = next_batch(&jobs, config) {
                // The panic hook has reported it; the receivers see their channels close.
                let _ = catch_unwind(AssertUnwindSafe(|| process(batch)));
            }
        };
        std::thread::Builder::new().name(format!("zs-{name}")).spawn(work).map_err(|source| {
            ServeError::Start { what: format!("the thread `zs-{name}`"), source }
        })?;
        Ok(Self { queue })
    }

    /// Queues a job. Returns false when the thread has ended.
    pub(crate) fn submit(&self, job: J) -> bool {
        self.queue.send(job).is_ok()
    }
}

/// Waits for a job and fills its batch. Returns `None` once the queue is closed and empty.
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
    fn a_batch_holds_the_queued_jobs() {
        check(&[1, 1, 1], 8, &[&[1, 1, 1]]);
        check(&[1, 1, 1], 2, &[&[1, 1], &[1]]);
        check(&[9, 1, 1], 2, &[&[9], &[1, 1]]);
        check(&[1, 9, 1], 2, &[&[1, 9], &[1]]);
        check(&[], 2, &[]);
    }

    #[test]
    fn a_job_waits_for_others() {
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
    fn a_panic_drops_its_own_batch_only() {
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
