//! Batching across requests: threads that process queued jobs together, and large jobs in parts.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use crate::ServeError;

/// Size and waiting time of batches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchConfig {
    /// Number of queries or sequences at which a batch is full. A larger job is cut into parts.
    pub max_size: usize,
    /// Time that the first job of a batch waits for others. With zero, a batch holds the jobs that
    /// were queued during the previous batch, and a single request is never delayed.
    pub max_wait: Duration,
}

/// Space of a batch, or the space that a job takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Room {
    /// Queries or sequences.
    pub(crate) items: usize,
    /// Tokens of the KV cache; zero for queries.
    pub(crate) tokens: usize,
}

impl Room {
    fn fits(self, room: Self) -> bool {
        self.items <= room.items && self.tokens <= room.tokens
    }

    fn without(self, taken: Self) -> Self {
        Self {
            items: self.items.saturating_sub(taken.items),
            tokens: self.tokens.saturating_sub(taken.tokens),
        }
    }
}

/// A unit of work that can share a batch, and be cut into parts.
pub(crate) trait Job: Sized + Send + 'static {
    /// Returns the space that the job takes.
    fn size(&self) -> Room;

    /// Returns true when nobody waits for the result any more.
    fn is_abandoned(&self) -> bool;

    /// Cuts off the first part, which holds as many items as fit `room` and at least one.
    fn cut(self, room: Room) -> (Self, Option<Self>);
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
        capacity: Room,
        max_wait: Duration,
        process: Arc<dyn Fn(Vec<J>) + Send + Sync>,
    ) -> Result<Self, ServeError> {
        let (queue, arriving) = channel();
        let mut waiting = Waiting { arriving, queue: VecDeque::new() };
        let work = move || {
            while let Some(batch) = waiting.next_batch(capacity, max_wait) {
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

/// Jobs that wait for their turn.
struct Waiting<J> {
    arriving: Receiver<J>,
    /// Jobs in the order of their turns. What is left of a job that was cut goes to the end, so that
    /// large jobs take turns with the others.
    queue: VecDeque<J>,
}

impl<J: Job> Waiting<J> {
    /// Waits for a job and fills its batch. Returns `None` once the queue is closed and empty.
    fn next_batch(&mut self, capacity: Room, max_wait: Duration) -> Option<Vec<J>> {
        let (mut batch, mut room, mut deadline) = (Vec::new(), capacity, None);
        while room.items > 0 {
            let Some(job) = self.next(deadline) else { break };
            if job.is_abandoned() {
                continue;
            }
            let size = job.size();
            if size.fits(room) {
                room = room.without(size);
                batch.push(job);
                deadline.get_or_insert_with(|| Instant::now() + max_wait);
            } else if batch.is_empty() {
                let (part, rest) = job.cut(room);
                self.queue.extend(self.arriving.try_iter());
                self.queue.extend(rest);
                batch.push(part);
                break;
            } else {
                self.queue.push_front(job);
                break;
            }
        }
        (!batch.is_empty()).then_some(batch)
    }

    /// Waits for a job until the deadline, or without one until the queue is closed.
    fn next(&mut self, deadline: Option<Instant>) -> Option<J> {
        self.queue.pop_front().or_else(|| match deadline {
            None => self.arriving.recv().ok(),
            Some(deadline) => {
                let left = deadline.saturating_duration_since(Instant::now());
                self.arriving.recv_timeout(left).ok()
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    /// A job of some items of one token each; abandoned with none.
    impl Job for usize {
        fn size(&self) -> Room {
            Room { items: *self, tokens: *self }
        }

        fn is_abandoned(&self) -> bool {
            *self == 0
        }

        fn cut(self, room: Room) -> (Self, Option<Self>) {
            let first = self.min(room.items).min(room.tokens).max(1);
            (first, (first < self).then(|| self - first))
        }
    }

    fn waiting(arriving: Receiver<usize>) -> Waiting<usize> {
        Waiting { arriving, queue: VecDeque::new() }
    }

    #[track_caller]
    fn check(jobs: &[usize], items: usize, tokens: usize, expected: &[&[usize]]) {
        let (sender, receiver) = channel();
        jobs.iter().for_each(|it| sender.send(*it).unwrap());
        drop(sender);
        let mut waiting = waiting(receiver);
        let next = || waiting.next_batch(Room { items, tokens }, Duration::ZERO);
        let batches: Vec<Vec<usize>> = std::iter::from_fn(next).collect();
        assert_eq!(batches, expected, "{jobs:?}");
    }

    #[test]
    fn a_batch_holds_the_queued_jobs() {
        check(&[1, 1, 1], 8, 8, &[&[1, 1, 1]]);
        check(&[1, 1, 1], 2, 8, &[&[1, 1], &[1]]);
        check(&[1, 1, 1], 8, 2, &[&[1, 1], &[1]]);
        check(&[], 2, 2, &[]);
    }

    #[test]
    fn large_jobs_are_cut_and_take_turns() {
        check(&[5, 1, 1], 2, 9, &[&[2], &[1, 1], &[2], &[1]]);
        check(&[5, 5], 2, 9, &[&[2], &[2], &[2], &[2], &[1], &[1]]);
        check(&[1, 9, 1], 4, 9, &[&[1], &[4], &[1], &[4], &[1]]);
        // An item that is larger than a batch is a batch of its own.
        check(&[2, 1], 4, 0, &[&[1], &[1], &[1]]);
    }

    #[test]
    fn abandoned_jobs_are_dropped() {
        check(&[0, 1, 0, 1], 8, 8, &[&[1, 1]]);
        check(&[0, 0], 8, 8, &[]);
    }

    #[test]
    fn a_job_waits_for_others() {
        let (sender, receiver) = channel();
        let late = std::thread::spawn(move || {
            sender.send(1).unwrap();
            std::thread::yield_now();
            sender.send(1).unwrap();
        });
        let (room, wait) = (Room { items: 2, tokens: 2 }, Duration::from_secs(600));
        assert_eq!(waiting(receiver).next_batch(room, wait), Some(vec![1, 1]));
        late.join().unwrap();
    }

    #[test]
    fn a_panic_drops_its_own_batch_only() {
        let done = Arc::new(Mutex::new(Vec::new()));
        let process = {
            let done = Arc::clone(&done);
            move |batch: Vec<usize>| {
                assert!(batch[0] != 13, "a panic that the test asks for");
                done.lock().unwrap().push(batch[0]);
            }
        };
        // The second job fills a batch, so that each is a batch of its own.
        let room = Room { items: 13, tokens: 13 };
        let process: Arc<dyn Fn(Vec<usize>) + Send + Sync> = Arc::new(process);
        let batcher = Batcher::start("test", room, Duration::ZERO, Arc::clone(&process)).unwrap();
        assert!([1, 13, 2].into_iter().all(|it| batcher.submit(it)));
        drop(batcher);
        while Arc::strong_count(&process) > 1 {
            std::thread::yield_now();
        }
        assert_eq!(*done.lock().unwrap(), [1, 2]);
    }
}
