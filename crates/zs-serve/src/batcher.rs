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

/// Space of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Room {
    /// Queries or sequences.
    pub(crate) items: usize,
    /// Tokens of the KV cache, in which every sequence is as long as the longest.
    pub(crate) tokens: usize,
}

/// Size of a job, or of a batch of jobs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Size {
    /// Queries or sequences.
    pub(crate) items: usize,
    /// Tokens of the longest sequence; zero for queries.
    pub(crate) longest: usize,
}

impl Size {
    pub(crate) fn with(self, other: Self) -> Self {
        Self { items: self.items + other.items, longest: self.longest.max(other.longest) }
    }

    pub(crate) fn fits(self, room: Room) -> bool {
        self.items <= room.items && self.items.saturating_mul(self.longest) <= room.tokens
    }
}

/// A unit of work that can share a batch, and be cut into parts.
pub(crate) trait Job: Sized + Send + 'static {
    /// Returns the size of the job.
    fn size(&self) -> Size;

    /// Returns true when nobody waits for the result any more.
    fn is_abandoned(&self) -> bool;

    /// Cuts off the first part, which holds as many items as fit `room` and at least one.
    fn cut(self, room: Room) -> (Self, Option<Self>);
}

/// Returns the number of first items that fit the room together, and at least one; `tokens` are those of
/// each item.
pub(crate) fn num_fitting(tokens: impl Iterator<Item = usize>, room: Room) -> usize {
    let mut size = Size::default();
    let fitting = tokens.take_while(|&longest| {
        size = size.with(Size { items: 1, longest });
        size.fits(room)
    });
    fitting.count().max(1)
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
        let (mut batch, mut size, mut deadline) = (Vec::new(), Size::default(), None);
        while size.items < capacity.items {
            let Some(job) = self.next(deadline) else { break };
            if job.is_abandoned() {
                continue;
            }
            let joined = size.with(job.size());
            if joined.fits(capacity) {
                size = joined;
                batch.push(job);
                deadline.get_or_insert_with(|| Instant::now() + max_wait);
            } else if batch.is_empty() {
                let (part, rest) = job.cut(capacity);
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

    use proptest::prelude::*;

    use super::*;

    /// The tokens of each item; abandoned without items.
    impl Job for Vec<usize> {
        fn size(&self) -> Size {
            Size { items: self.len(), longest: self.iter().copied().max().unwrap_or(0) }
        }

        fn is_abandoned(&self) -> bool {
            self.is_empty()
        }

        fn cut(mut self, room: Room) -> (Self, Option<Self>) {
            let at = num_fitting(self.iter().copied(), room);
            let rest = self.split_off(at);
            (self, (!rest.is_empty()).then_some(rest))
        }
    }

    fn waiting(arriving: Receiver<Vec<usize>>) -> Waiting<Vec<usize>> {
        Waiting { arriving, queue: VecDeque::new() }
    }

    #[track_caller]
    fn check(jobs: &[&[usize]], items: usize, tokens: usize, expected: &[&[&[usize]]]) {
        let (sender, receiver) = channel();
        jobs.iter().for_each(|it| sender.send(it.to_vec()).unwrap());
        drop(sender);
        let mut waiting = waiting(receiver);
        let next = || waiting.next_batch(Room { items, tokens }, Duration::ZERO);
        let batches: Vec<Vec<Vec<usize>>> = std::iter::from_fn(next).collect();
        assert_eq!(batches, expected, "{jobs:?}");
    }

    #[test]
    fn a_batch_holds_the_queued_jobs() {
        check(&[&[1], &[1], &[1]], 8, 8, &[&[&[1], &[1], &[1]]]);
        check(&[&[1], &[1], &[1]], 2, 8, &[&[&[1], &[1]], &[&[1]]]);
        check(&[&[1], &[1], &[1]], 8, 2, &[&[&[1], &[1]], &[&[1]]]);
        // Every sequence takes the space of the longest.
        check(&[&[1], &[4], &[1]], 8, 8, &[&[&[1], &[4]], &[&[1]]]);
        check(&[], 2, 2, &[]);
    }

    #[test]
    fn large_jobs_are_cut_and_take_turns() {
        let five: &[usize] = &[1, 1, 1, 1, 1];
        check(&[five, &[2], &[2]], 2, 9, &[&[&[1, 1]], &[&[2], &[2]], &[&[1, 1]], &[&[1]]]);
        check(&[five, five], 3, 9, &[&[&[1; 3]], &[&[1; 3]], &[&[1; 2]], &[&[1; 2]]]);
        check(&[&[2], five, &[2]], 4, 9, &[&[&[2]], &[&[1; 4]], &[&[2], &[1]]]);
        check(&[&[1, 1, 5, 1]], 4, 9, &[&[&[1, 1]], &[&[5]], &[&[1]]]);
        // An item that is larger than a batch is a batch of its own.
        check(&[&[2, 2], &[1]], 4, 0, &[&[&[2]], &[&[1]], &[&[2]]]);
    }

    proptest! {
        /// Every item is in one batch, and every batch fits or is one item.
        #[test]
        fn batches_hold_every_item_once(
            jobs in prop::collection::vec(prop::collection::vec(0..9_usize, 1..8), 0..8),
            items in 1..5_usize,
            tokens in 0..20_usize,
        ) {
            let (sender, receiver) = channel();
            jobs.iter().for_each(|it| sender.send(it.clone()).unwrap());
            drop(sender);
            let (mut waiting, room) = (waiting(receiver), Room { items, tokens });
            let mut batched = Vec::new();
            while let Some(batch) = waiting.next_batch(room, Duration::ZERO) {
                let size = batch.iter().fold(Size::default(), |size, it| size.with(it.size()));
                prop_assert!(size.fits(room) || size.items == 1, "{:?}", batch);
                batched.extend(batch.into_iter().flatten());
            }
            let mut sent: Vec<usize> = jobs.into_iter().flatten().collect();
            sent.sort_unstable();
            batched.sort_unstable();
            prop_assert_eq!(batched, sent);
        }
    }

    #[test]
    fn abandoned_jobs_are_dropped() {
        check(&[&[], &[1], &[], &[1]], 8, 8, &[&[&[1], &[1]]]);
        check(&[&[], &[]], 8, 8, &[]);
    }

    #[test]
    fn a_job_waits_for_others() {
        let (sender, receiver) = channel();
        let late = std::thread::spawn(move || {
            sender.send(vec![1]).unwrap();
            std::thread::yield_now();
            sender.send(vec![2]).unwrap();
        });
        let (room, wait) = (Room { items: 2, tokens: 4 }, Duration::from_secs(600));
        assert_eq!(waiting(receiver).next_batch(room, wait), Some(vec![vec![1], vec![2]]));
        late.join().unwrap();
    }

    #[test]
    fn a_panic_drops_its_own_batch_only() {
        let done = Arc::new(Mutex::new(Vec::new()));
        let process = {
            let done = Arc::clone(&done);
            move |batch: Vec<Vec<usize>>| {
                assert!(batch[0] != [13], "a panic that the test asks for");
                done.lock().unwrap().extend(batch);
            }
        };
        // The second job leaves no space in a batch, so that each is a batch of its own.
        let room = Room { items: 13, tokens: 13 };
        let process: Arc<dyn Fn(Vec<Vec<usize>>) + Send + Sync> = Arc::new(process);
        let batcher = Batcher::start("test", room, Duration::ZERO, Arc::clone(&process)).unwrap();
        assert!([1, 13, 2].into_iter().all(|it| batcher.submit(vec![it])));
        drop(batcher);
        while Arc::strong_count(&process) > 1 {
            std::thread::yield_now();
        }
        assert_eq!(*done.lock().unwrap(), [[1], [2]]);
    }
}
