//! Work on a few threads.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::channel;

use crate::error::{ReproduceError, Result};

/// Carries out work in order, as many pieces at a time as there are `threads`. `ended` is told each
/// result when it is there; a piece that fails or panics leaves the others alone.
pub(super) fn carry_out<W: Sync, T: Send>(
    work: &[W],
    threads: usize,
    run: impl Fn(&W) -> Result<T> + Sync,
    mut ended: impl FnMut(&W, Result<T>),
) {
    let next = AtomicUsize::new(0);
    let (sender, results) = channel();
    std::thread::scope(|scope| {
        for _ in 0..threads.max(1) {
            let (sender, next, run) = (sender.clone(), &next, &run);
            scope.spawn(move || {
                while let Some(it) = work.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let result = catch_unwind(AssertUnwindSafe(|| run(it)));
                    // The receiver outlives the threads; if it is gone, nobody listens.
                    let _ =
                        sender.send((it, result.unwrap_or_else(|_| Err(ReproduceError::Panicked))));
                }
            });
        }
        drop(sender);
        results.into_iter().for_each(|(it, result)| ended(it, result));
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(work: &[&str], failing: &str, expected: &[&str], failed: &[&str]) {
        for threads in [1, 2, 8] {
            let (mut done, mut errors) = (Vec::new(), Vec::new());
            let run = |it: &&str| match *it == failing {
                true if failing == "panics" => panic!("told to"),
                true => Err(ReproduceError::arguments("told to")),
                false => Ok(it.len()),
            };
            carry_out(work, threads, run, |it, result| match result {
                Ok(length) => done.push((*it, length)),
                Err(error) => errors.push(format!("{it}: {error}")),
            });
            if threads > 1 {
                done.sort_unstable();
            }
            let expected: Vec<(&str, usize)> = expected.iter().map(|it| (*it, it.len())).collect();
            assert_eq!(
                (done, errors),
                (expected, failed.iter().map(|it| (*it).to_owned()).collect())
            );
        }
    }

    #[test]
    fn a_failure_leaves_the_rest_alone() {
        check(&[], "", &[], &[]);
        check(&["a", "bc", "d"], "", &["a", "bc", "d"], &[]);
        check(&["a", "bc", "d"], "bc", &["a", "d"], &["bc: told to"]);
        check(&["a", "panics", "z"], "panics", &["a", "z"], &["panics: panicked"]);
    }
}
