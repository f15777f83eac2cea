//! Workers one after the other, and their reports.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::time::Instant;

use anyhow::{Context, bail};
use zs_fuzz::{Mutator, TARGETS, read_corpus};

use crate::Arguments;

/// Memory of a worker at most, in KiB.
const MEMORY_KIB: u64 = 1 << 20;
/// Inputs that fail after which a target is given up.
const MOST_FAILURES: usize = 20;

pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let known: Vec<&str> = TARGETS.iter().map(|it| it.name).collect();
    if let Some(unknown) = arguments.targets.iter().find(|it| !known.contains(&it.as_str())) {
        bail!("there is no target {unknown}; there are {}", known.join(", "));
    }
    let mut num_failures = 0;
    for name in known {
        if arguments.targets.is_empty() || arguments.targets.iter().any(|it| it == name) {
            num_failures += drive(name, arguments)?;
        }
    }
    Ok(if num_failures == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Runs a target, and returns how many inputs failed.
fn drive(name: &str, arguments: &Arguments) -> anyhow::Result<usize> {
    let start = Instant::now();
    let corpus = read_corpus(&arguments.folder.join("corpus").join(name))
        .with_context(|| format!("the corpus of {name} cannot be read"))?;
    let mutator = Mutator::new(corpus, arguments.seed);
    let artifacts = arguments.folder.join("artifacts").join(name);
    let progress = tempfile::NamedTempFile::new()?;
    let (mut first, mut num_executions, mut slowest) = (arguments.first, 0, 0);
    let mut failures: Vec<(u64, String)> = Vec::new();
    let end = arguments.first.saturating_add(arguments.executions);
    while first < end && failures.len() < MOST_FAILURES {
        let seconds = arguments.seconds.saturating_sub(start.elapsed().as_secs());
        if seconds == 0 {
            break;
        }
        let mut worker = worker(name, arguments, progress.path())?;
        worker.args(["--first", &first.to_string(), "--executions", &(end - first).to_string()]);
        worker.args(["--seconds", &seconds.to_string()]);
        let mut child = worker.spawn().context("a worker cannot be started")?;
        let output = child.stdout.take().context("the output of a worker")?;
        let mut is_done = false;
        for line in BufReader::new(output).lines() {
            let line = line?;
            let mut words = line.splitn(3, ' ');
            match (words.next(), words.next(), words.next()) {
                (Some("failed"), Some(number), Some(problem)) => {
                    failures.push((number.parse()?, problem.to_owned()));
                }
                (Some("done"), Some(count), Some(millis)) => {
                    is_done = true;
                    num_executions += count.parse::<u64>()?;
                    slowest = slowest.max(millis.parse::<u64>()?);
                }
                _ => bail!("a worker of {name} says `{line}`"),
            }
            if failures.len() >= MOST_FAILURES && !is_done {
                child.kill()?;
            }
        }
        let status = child.wait()?;
        if is_done {
            break;
        }
        let bytes = fs::read(progress.path())?;
        let number = u64::from_le_bytes(bytes.try_into().ok().context("a worker did not begin")?);
        if failures.len() >= MOST_FAILURES {
            num_executions += number + 1 - first;
            break;
        }
        failures.push((
            number,
            format!("ended the process ({status}): memory, a hang or a deep stack"),
        ));
        num_executions += number + 1 - first;
        first = number + 1;
    }
    for (number, problem) in &failures {
        fs::create_dir_all(&artifacts)?;
        let path = artifacts.join(format!("seed-{}-{number}", arguments.seed));
        fs::write(&path, mutator.input(*number))?;
        println!("{name}: input {number} {problem} ({})", path.display());
    }
    println!(
        "{name}: {num_executions} executions in {} s, seed {}, slowest {slowest} ms, {} failures",
        start.elapsed().as_secs(),
        arguments.seed,
        failures.len()
    );
    Ok(failures.len())
}

/// A worker of a target, with a limit of memory where the system has a shell that sets one.
fn worker(name: &str, arguments: &Arguments, progress: &Path) -> anyhow::Result<Command> {
    let program = std::env::current_exe().context("the path of this program")?;
    let mut command = match cfg!(unix) {
        true => {
            let mut command = Command::new("sh");
            command.args(["-c", "ulimit -v \"$0\" && ulimit -c 0 && exec \"$@\""]);
            command.arg(MEMORY_KIB.to_string()).arg(program);
            command
        }
        false => Command::new(program),
    };
    command.arg(name).arg("--worker").arg(progress).arg("--folder").arg(&arguments.folder);
    command.args(["--seed", &arguments.seed.to_string()]);
    // Address space is limited, which each arena of glibc reserves 64 MiB of.
    command.env("MALLOC_ARENA_MAX", "1").env("RAYON_NUM_THREADS", "2");
    command.stdout(Stdio::piped()).stderr(Stdio::null());
    Ok(command)
}
