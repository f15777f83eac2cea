//! Commands that build something and hand their arguments on to it.

use std::env::consts::EXE_SUFFIX;
use std::ffi::OsString;
use std::process::{Command, ExitCode};

use anyhow::Context;
use cargo_metadata::MetadataCommand;

/// Builds the `zs` binary in release and runs one of its subcommands, in the current directory.
pub(crate) fn zs(subcommand: &str, args: &[OsString]) -> anyhow::Result<ExitCode> {
    let metadata = MetadataCommand::new().no_deps().exec().context("cannot read the workspace")?;
    let mut build = cargo();
    build.args(["build", "--release", "--locked", "--package", "zs-train", "--bin", "zs"]);
    build.current_dir(&metadata.workspace_root);
    let built = status(&mut build)?;
    if built != ExitCode::SUCCESS {
        return Ok(built);
    }
    let binary = metadata.target_directory.join("release").join(format!("zs{EXE_SUFFIX}"));
    status(Command::new(binary).arg(subcommand).args(args))
}

/// Runs the benches of `zs-benches`: of whole models, of searching and of runs, those of one subject,
/// or those whose name contains what is given.
pub(crate) fn bench(args: &[OsString]) -> anyhow::Result<ExitCode> {
    let bench = ["bench", "--locked", "--package", "zs-benches"];
    let (subject, rest) = match args.split_first() {
        Some((first, rest)) => (first.to_str().unwrap_or_default(), rest),
        None => ("", args),
    };
    match subject {
        "model" => whole_program("model_speed", rest),
        "search" => whole_program("search_speed", rest),
        "run" => whole_program("run_overhead", rest),
        "rl" => status(cargo().args(bench).args(["--bench", subject, "--"]).args(rest)),
        _ => status(cargo().args(bench).args(args)),
    }
}

/// Runs a bench that is a program of its own.
fn whole_program(name: &str, args: &[OsString]) -> anyhow::Result<ExitCode> {
    let run = ["run", "--release", "--locked", "--package", "zs-benches", "--bin", name, "--"];
    status(cargo().args(run).args(args))
}

/// The cargo that runs this program.
pub(crate) fn cargo() -> Command {
    Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
}

/// Runs a command to its end and takes over its exit code.
pub(crate) fn status(command: &mut Command) -> anyhow::Result<ExitCode> {
    let status = command
        .status()
        .with_context(|| format!("cannot run {}", command.get_program().display()))?;
    let code = status.code().and_then(|it| u8::try_from(it).ok());
    Ok(code.map_or(ExitCode::FAILURE, ExitCode::from))
}
