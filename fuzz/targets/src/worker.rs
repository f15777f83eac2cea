//! One process of one target.

use std::fs::File;
use std::io::{Seek, Write};
use std::panic::{self, AssertUnwindSafe};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context;
use zs_fuzz::{Mutator, Scratch, TARGETS, read_corpus};

use crate::Arguments;

/// Time of an input at most.
const LIMIT: Duration = Duration::from_secs(1);
/// Attempts of an input that took longer, since other processes may have taken the time.
const ATTEMPTS: usize = 3;
/// Characters of the message of a panic at most.
const MESSAGE_CHARS: usize = 200;
/// Seconds after which an input is taken to run for ever.
const HANG_SECONDS: u64 = 30;

/// Runs one target, and prints what the driver reads: a line for each input that failed, and at last the
/// number of executions.
pub(crate) fn run(arguments: &Arguments, progress: &Path) -> anyhow::Result<ExitCode> {
    let name = arguments.targets.first().context("a worker has a target")?;
    let target = TARGETS.iter().find(|it| it.name == *name).context("no such target")?;
    let corpus = read_corpus(&arguments.folder.join("corpus").join(name))
        .with_context(|| format!("the corpus of {name} cannot be read"))?;
    let mutator = Mutator::new(corpus, arguments.seed);
    let mut progress = File::create(progress).context("the file of progress")?;
    // The messages are printed with their inputs.
    panic::set_hook(Box::new(|_| {}));
    let current = Arc::new(AtomicU64::new(0));
    watch(Arc::clone(&current));
    let (scratch, start) = (Scratch::default(), Instant::now());
    let mut slowest = Duration::ZERO;
    let end = arguments.first.saturating_add(arguments.executions);
    let mut number = arguments.first;
    while number < end && start.elapsed().as_secs() < arguments.seconds {
        current.store(number, Ordering::Relaxed);
        progress.rewind()?;
        progress.write_all(&number.to_le_bytes())?;
        let input = mutator.input(number);
        let attempt = || {
            let start = Instant::now();
            let run = AssertUnwindSafe(|| (target.run)(&scratch, &input));
            panic::catch_unwind(run).map(|()| start.elapsed())
        };
        let mut outcome = attempt();
        for _ in 1..ATTEMPTS {
            if outcome.as_ref().is_ok_and(|it| *it > LIMIT) {
                outcome = attempt();
            }
        }
        match outcome {
            Ok(took) if took > LIMIT => println!("failed {number} took {} ms", took.as_millis()),
            Ok(took) => slowest = slowest.max(took),
            Err(payload) => {
                let message = zs_core::panic_message(payload.as_ref()).replace('\n', " ");
                let message: String = message.chars().take(MESSAGE_CHARS).collect();
                println!("failed {number} panicked: {message}");
            }
        }
        number += 1;
    }
    println!("done {} {}", number - arguments.first, slowest.as_millis());
    Ok(ExitCode::SUCCESS)
}

/// Ends the process when an input does not end.
fn watch(current: Arc<AtomicU64>) {
    std::thread::spawn(move || {
        let (mut last, mut since) = (u64::MAX, 0);
        loop {
            std::thread::sleep(Duration::from_secs(1));
            let number = current.load(Ordering::Relaxed);
            since = if number == last { since + 1 } else { 0 };
            last = number;
            if since >= HANG_SECONDS {
                std::process::abort();
            }
        }
    });
}
