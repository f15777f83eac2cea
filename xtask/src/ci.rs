//! Every check that a change must pass, cheapest first.

use std::process::ExitCode;
use std::time::Instant;

use anyhow::Context;
use cargo_metadata::MetadataCommand;
use xshell::{Shell, cmd};

use crate::tidy;

/// One named check.
type Step = (&'static str, fn(&Shell) -> anyhow::Result<()>);

const STEPS: [Step; 7] = [
    ("fmt", |sh| Ok(cmd!(sh, "cargo fmt --all --check").run()?)),
    ("tidy", |_| tidy::check_workspace(&tidy::Arguments::default())),
    ("clippy", |sh| {
        Ok(cmd!(sh, "cargo clippy --workspace --all-targets --locked -- -D warnings").run()?)
    }),
    ("doc", |sh| {
        let doc = cmd!(sh, "cargo doc --workspace --no-deps --locked");
        Ok(doc.env("RUSTDOCFLAGS", "-D warnings").run()?)
    }),
    ("test", test),
    ("doctest", |sh| Ok(cmd!(sh, "cargo test --workspace --doc --locked").run()?)),
    ("package", package),
];

/// Builds with CUDA beside the CPU, and with CUDA alone.
const CUDA_STEPS: [Step; 2] = [
    ("cuda", |sh| {
        let check = cmd!(sh, "cargo check --workspace --all-targets --features cuda --locked");
        Ok(check.run()?)
    }),
    ("cuda alone", |sh| {
        let check = cmd!(sh, "cargo check --package zs-train --no-default-features --locked");
        Ok(check.args(["--features", "cuda"]).run()?)
    }),
];

/// Runs the checks up to the first that fails, with the time that each took.
pub(crate) fn run(with_cuda: bool) -> anyhow::Result<ExitCode> {
    let mut steps = STEPS.to_vec();
    if with_cuda {
        steps.extend(CUDA_STEPS);
    }
    let sh = Shell::new()?;
    let metadata = MetadataCommand::new().no_deps().exec().context("cannot read the workspace")?;
    sh.change_dir(&metadata.workspace_root);
    let start = Instant::now();
    let mut times = Vec::new();
    for (index, (name, step)) in steps.iter().enumerate() {
        eprintln!("\n== {}/{} {name}", index + 1, steps.len());
        let start = Instant::now();
        let outcome = step(&sh);
        let seconds = start.elapsed().as_secs_f64();
        if let Err(error) = outcome {
            eprintln!("\nci FAILED at `{name}` after {seconds:.0} s: {error:#}");
            return Ok(ExitCode::FAILURE);
        }
        times.push(format!("{name} {seconds:.0} s"));
    }
    let seconds = start.elapsed().as_secs_f64();
    eprintln!("\nci passed in {seconds:.0} s ({})", times.join(", "));
    Ok(ExitCode::SUCCESS)
}

/// Unit and integration tests, by nextest where it is installed.
fn test(sh: &Shell) -> anyhow::Result<()> {
    let has_nextest =
        cmd!(sh, "cargo nextest --version").quiet().ignore_stdout().ignore_stderr().run().is_ok();
    if has_nextest {
        Ok(cmd!(sh, "cargo nextest run --workspace --locked").run()?)
    } else {
        Ok(cmd!(sh, "cargo test --workspace --all-targets --locked").run()?)
    }
}

/// Assembles every publishable crate. They are packaged in one call, so that each finds the others
/// although none is on crates.io; clippy has already compiled them.
fn package(sh: &Shell) -> anyhow::Result<()> {
    let metadata = MetadataCommand::new().no_deps().exec()?;
    let publishable = metadata.packages.iter().filter(|it| it.publish.as_deref() != Some(&[]));
    let selection: Vec<&str> = publishable.flat_map(|it| ["--package", it.name.as_str()]).collect();
    Ok(cmd!(sh, "cargo package --locked --no-verify --allow-dirty {selection...}").run()?)
}
