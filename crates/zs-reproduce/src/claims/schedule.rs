//! Work with dependencies, on a few threads.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::Sender;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use anyhow::anyhow;

/// A piece of work and the one that must be done before it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Task<W> {
    pub(super) work: W,
    /// An earlier task's place in the list.
    pub(super) needs: Option<usize>,
}

/// What became of a task.
#[derive(Debug)]
pub(super) enum Event<T> {
    /// It was begun.
    Begun { task: usize },
    /// It is over: with what result, or why not.
    Ended { task: usize, outcome: anyhow::Result<T> },
    /// It was left out, since what it needs failed.
    Skipped { task: usize },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Waiting,
    Running,
    Done,
    Failed,
}

/// Carries out tasks in order, as many at a time as there are `threads`; a task whose dependency is
/// still running is passed over until it is done. One that fails takes with it those that need it,
/// and no others.
pub(super) fn carry_out<W: Sync, T: Send>(
    tasks: &[Task<W>],
    threads: usize,
    events: &Sender<Event<T>>,
    work: impl Fn(&W) -> anyhow::Result<T> + Sync,
) {
    let states = Mutex::new(vec![State::Waiting; tasks.len()]);
    let changed = Condvar::new();
    std::thread::scope(|scope| {
        for _ in 0..threads.max(1) {
            let events = events.clone();
            let (states, changed, work) = (&states, &changed, &work);
            scope.spawn(move || {
                while let Some(task) = next(tasks, states, changed, &events) {
                    // The receiver outlives the threads; if it is gone, nobody listens.
                    let _ = events.send(Event::Begun { task });
                    // A panic must not leave the others waiting for ever.
                    let outcome = catch_unwind(AssertUnwindSafe(|| work(&tasks[task].work)));
                    let outcome = outcome.unwrap_or_else(|_| Err(anyhow!("panicked")));
                    let state = if outcome.is_ok() { State::Done } else { State::Failed };
                    let _ = events.send(Event::Ended { task, outcome });
                    lock(states)[task] = state;
                    changed.notify_all();
                }
            });
        }
    });
}

/// Waits for a task that can be carried out; `None` when there are no more.
fn next<W, T>(
    tasks: &[Task<W>],
    states: &Mutex<Vec<State>>,
    changed: &Condvar,
    events: &Sender<Event<T>>,
) -> Option<usize> {
    let mut states = lock(states);
    loop {
        let mut is_blocked = false;
        for task in 0..tasks.len() {
            if states[task] != State::Waiting {
                continue;
            }
            match tasks[task].needs.map_or(State::Done, |it| states[it]) {
                State::Done => {
                    states[task] = State::Running;
                    return Some(task);
                }
                State::Failed => {
                    states[task] = State::Failed;
                    let _ = events.send(Event::Skipped { task });
                    changed.notify_all();
                }
                State::Waiting | State::Running => is_blocked = true,
            }
        }
        if !is_blocked {
            return None;
        }
        states = changed.wait(states).unwrap_or_else(PoisonError::into_inner);
    }
}

fn lock(states: &Mutex<Vec<State>>) -> MutexGuard<'_, Vec<State>> {
    states.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use super::*;

    #[track_caller]
    fn check(tasks: &[(&str, Option<usize>)], failing: &str, done: &[&str], skipped: &[&str]) {
        let tasks: Vec<Task<&str>> =
            tasks.iter().map(|&(work, needs)| Task { work, needs }).collect();
        for threads in [1, 2, 8] {
            let (events, received) = channel();
            carry_out(&tasks, threads, &events, |it| match *it == failing {
                true => anyhow::bail!("told to"),
                false => Ok(*it),
            });
            drop(events);
            let events: Vec<Event<&str>> = received.into_iter().collect();
            let mut ended: Vec<&str> = Vec::new();
            let mut left_out = Vec::new();
            for event in events {
                match event {
                    Event::Begun { task } => {
                        let needed = tasks[task].needs.map(|it| tasks[it].work);
                        assert!(needed.is_none_or(|it| ended.contains(&it)), "too early");
                    }
                    Event::Ended { outcome: Ok(work), .. } => ended.push(work),
                    Event::Ended { outcome: Err(_), .. } => {}
                    Event::Skipped { task } => left_out.push(tasks[task].work),
                }
            }
            if threads == 1 {
                assert_eq!(ended, done);
            }
            ended.sort_unstable();
            let mut done = done.to_vec();
            done.sort_unstable();
            assert_eq!((ended, left_out), (done, skipped.to_vec()), "{threads} threads");
        }
    }

    #[test]
    fn tasks_wait_for_what_they_need() {
        check(&[], "", &[], &[]);
        check(&[("a", None), ("b", Some(0)), ("c", None)], "", &["a", "b", "c"], &[]);
        check(&[("a", None), ("b", Some(0)), ("c", Some(1))], "a", &[], &["b", "c"]);
        check(&[("a", None), ("b", Some(0)), ("c", None)], "b", &["a", "c"], &[]);
    }
}
