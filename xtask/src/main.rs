//! Automation of the workspace, run as `cargo xtask <command>`. Depends on none of its crates, so it
//! builds in seconds and runs while they do not compile.

#![expect(clippy::print_stderr, reason = "a command-line tool speaks on the console")]

mod advisories;
mod ci;
mod features;
mod gpu_pack;
mod pass_through;
mod tidy;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Automation of the zs workspace.
#[derive(Debug, Parser)]
#[command(bin_name = "cargo xtask")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run every check that a change must pass, cheapest first
    ///
    /// Formatting, tidy, advisories about dependencies, clippy, documentation, packaging, tests, doctests,
    /// each feature alone. Stops at the first failure. `.ci/run` runs the same.
    Ci(CiArguments),
    /// Check what rustc cannot
    ///
    /// Edges between crates, cycles among modules, process-wide state, unsafe code that
    /// ARCHITECTURE does not list, symbolic links, files that are not packaged, file lengths, READMEs,
    /// features, ignored tests, doc comments.
    Tidy,
    /// Train against a simulated search engine and evaluate against a real one
    ///
    /// Builds in release and runs `zs reproduce` with the same arguments, e.g. `--preset quick`,
    /// `--seed N`, `--out DIR`. For all of them: `cargo xtask reproduce -- --help`.
    Reproduce(PassThrough),
    /// Train the base model of `assets/zs-tiny` from scratch
    ///
    /// Builds in release and runs `zs pretrain` with the same arguments: a run file, and `--resume`.
    /// For all of them: `cargo xtask pretrain -- --help`.
    Pretrain(PassThrough),
    /// Run the benchmarks
    ///
    /// All of them, those of `rl`, or those whose name contains the argument; `model [SHAPE or DIR]`
    /// times prefill, decoding and one update of a whole model against the limits of the machine
    /// (`--json FILE`, `--against FILE`); `search` times BM25, the simulation LLM and the server
    /// (`--json FILE`, `--python PYTHON` for the comparison with bm25s).
    Bench(PassThrough),
    /// Pack `zs` with CUDA for a machine with a GPU that need not have Rust
    ///
    /// Builds in release with the feature `cuda`, and writes one archive of the stripped program, models
    /// to check, and a script that runs `zs doctor`, compares the GPU with the CPU, and times models.
    GpuPack(gpu_pack::Arguments),
    /// Fetch and check data sets, corpora and models, or write the embedded world
    ///
    /// Builds in release and runs `zs data` with the same arguments, e.g. `fetch all --cache DIR`,
    /// `check FILE ...`, `world --out DIR`. For all of them: `cargo xtask data -- --help`.
    Data(PassThrough),
}

#[derive(Debug, clap::Args)]
struct CiArguments {
    /// Type-check the builds with CUDA too, which needs no GPU and no CUDA
    #[arg(long)]
    cuda: bool,
}

#[derive(Debug, clap::Args)]
struct PassThrough {
    /// Passed on unchanged
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    args: Vec<OsString>,
}

fn main() -> ExitCode {
    let outcome = match Arguments::parse().command {
        Command::Ci(it) => ci::run(it.cuda),
        Command::GpuPack(it) => gpu_pack::run(&it),
        Command::Tidy => tidy::run(),
        Command::Reproduce(it) => pass_through::zs("reproduce", &it.args),
        Command::Pretrain(it) => pass_through::zs("pretrain", &it.args),
        Command::Bench(it) => pass_through::bench(&it.args),
        Command::Data(it) => pass_through::zs("data", &it.args),
    };
    outcome.unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::FAILURE
    })
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Arguments::command().debug_assert();
    }

    #[track_caller]
    fn check(line: &str, expected: &[&str]) {
        let arguments = Arguments::parse_from(line.split(' '));
        let Command::Reproduce(it) = arguments.command else { panic!("{arguments:?}") };
        assert_eq!(it.args, expected);
    }

    #[test]
    fn arguments_are_handed_on() {
        check("xtask reproduce", &[]);
        check("xtask reproduce --preset quick --seed 7", &["--preset", "quick", "--seed", "7"]);
        check("xtask reproduce -- --help", &["--help"]);
    }
}
