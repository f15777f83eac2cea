//! Every check that a change must pass, cheapest first.

use std::process::ExitCode;
use std::time::Instant;

use anyhow::Context;
use cargo_metadata::MetadataCommand;
use xshell::{Shell, cmd};

use crate::{advisories, features, tidy};

/// One named check.
type Step = (&'static str, fn(&Shell) -> anyhow::Result<()>);

const STEPS: [Step; 9] = [
    ("fmt", |sh| Ok(cmd!(sh, "cargo fmt --all --check").run()?)),
    ("tidy", |_| tidy::check_workspace()),
    ("advisories", advisories::check),
    ("clippy", |sh| {
        Ok(cmd!(sh, "cargo clippy --workspace --all-targets --locked -- -D warnings").run()?)
    }),
    ("doc", |sh| {
        let doc = cmd!(sh, "cargo doc --workspace --no-deps --locked");
        Ok(doc.env("RUSTDOCFLAGS", "-D warnings").run()?)
    }),
    ("package", package),
    ("test", test),
    ("doctest", |sh| {
        let runner = isolated(sh)?;
        Ok(cmd!(sh, "cargo test --workspace --doc --locked {runner...}").run()?)
    }),
    ("features", |sh| features::check(sh, false)),
];

/// Builds with CUDA beside the CPU, and every crate alone with each feature for accelerators.
const CUDA_STEPS: [Step; 2] = [
    ("cuda", |sh| {
        let check = cmd!(sh, "cargo check --workspace --all-targets --features cuda --locked");
        Ok(check.run()?)
    }),
    ("features for accelerators", |sh| features::check(sh, true)),
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
    let runner = isolated(sh)?;
    if has_nextest {
        Ok(cmd!(sh, "cargo nextest run --workspace --locked {runner...}").run()?)
    } else {
        Ok(cmd!(sh, "cargo test --workspace --all-targets --locked {runner...}").run()?)
    }
}

/// Arguments of cargo that start every test as on a fresh machine: with an empty `CARGO_HOME`, offline
/// and outside of a git repository. A test may need what its build needed, and nothing else.
fn isolated(sh: &Shell) -> anyhow::Result<Vec<String>> {
    if !cfg!(unix) {
        return Ok(Vec::new());
    }
    let version = cmd!(sh, "rustc --version --verbose").quiet().read()?;
    let host = version.lines().find_map(|it| it.strip_prefix("host: "));
    let host = host.context("rustc does not name its host")?;
    let metadata = MetadataCommand::new().no_deps().exec()?;
    let empty = metadata.target_directory.join("empty");
    sh.remove_path(&empty)?;
    sh.create_dir(&empty)?;
    let runner = [
        "env".to_owned(),
        format!("CARGO_HOME={empty}"),
        "CARGO_NET_OFFLINE=true".to_owned(),
        format!("GIT_DIR={empty}"),
    ];
    Ok(vec!["--config".to_owned(), format!("target.{host}.runner={runner:?}")])
}

/// Assembles every publishable crate. They are packaged in one call, so that each finds the others
/// although none is on crates.io; clippy has already compiled them.
fn package(sh: &Shell) -> anyhow::Result<()> {
    let metadata = MetadataCommand::new().no_deps().exec()?;
    let publishable = metadata.packages.iter().filter(|it| it.publish.as_deref() != Some(&[]));
    let selection: Vec<&str> = publishable.flat_map(|it| ["--package", it.name.as_str()]).collect();
    Ok(cmd!(sh, "cargo package --locked --no-verify --allow-dirty {selection...}").run()?)
}
