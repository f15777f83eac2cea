//! Driver of the fuzz targets on stable Rust: mutated inputs of the committed corpora, each target in a
//! process of its own with a limit of memory.

#![expect(clippy::print_stdout, reason = "a command-line tool speaks on the console")]

mod drive;
mod worker;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;

/// Fuzz targets of zs, on stable Rust
///
/// Prints one line a target, and one for each input that a target does not survive: those that panic,
/// that take over a second three times in a row, and that need more than a GiB. Such inputs are
/// written to `fuzz/artifacts`; a worker started with `--first N --executions 1` repeats one of them.
#[derive(Debug, Parser)]
struct Arguments {
    /// Targets; all of them where none is named
    targets: Vec<String>,
    /// Inputs of each target
    #[arg(long, default_value_t = 10_000)]
    executions: u64,
    /// Seconds that a target takes at most
    #[arg(long, default_value_t = 3600)]
    seconds: u64,
    /// Seed of the mutations
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Number of the first input; those below the size of the corpus are the corpus itself
    #[arg(long, default_value_t = 0)]
    first: u64,
    /// Folder with the corpora and artifacts
    #[arg(long, default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/.."))]
    folder: PathBuf,
    /// Run one target in this process, and write the number of the current input to a file
    #[arg(long, hide = true)]
    worker: Option<PathBuf>,
}

fn main() -> anyhow::Result<ExitCode> {
    let arguments = Arguments::parse();
    match &arguments.worker {
        Some(progress) => worker::run(&arguments, progress),
        None => drive::run(&arguments),
    }
}
