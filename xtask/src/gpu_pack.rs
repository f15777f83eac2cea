//! One archive for a machine with a GPU: `zs` with CUDA, stripped, models to check it with, and a script
//! that checks and measures.

mod archive;

use std::env::consts::EXE_SUFFIX;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, bail};
use cargo_metadata::MetadataCommand;

use crate::pass_through::{cargo, status};

/// Arguments of `cargo xtask gpu-pack`.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The archive to write
    #[arg(long, value_name = "FILE", default_value = "target/zs-gpu.tar.gz")]
    out: PathBuf,
    /// A small model directory to pack beside `assets/zs-tiny`, with its `golden.safetensors` or
    /// `golden.json` if it has one; may be repeated
    #[arg(long, value_name = "DIR")]
    model: Vec<PathBuf>,
    /// Pack this program instead of building one
    #[arg(long, value_name = "FILE")]
    binary: Option<PathBuf>,
}

/// Size limit of the archive.
const MAX_BYTES: u64 = 60 << 20;

/// The script that checks and measures.
const SCRIPT: &str = include_str!("gpu_pack/run.sh");

/// Builds, packs, and refuses an archive that is too large.
pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let metadata = MetadataCommand::new().no_deps().exec().context("cannot read the workspace")?;
    let root = metadata.workspace_root.as_std_path();
    let binary = match &arguments.binary {
        Some(binary) => binary.clone(),
        None => {
            let built = build(root)?;
            if built != ExitCode::SUCCESS {
                return Ok(built);
            }
            let target = metadata.target_directory.as_std_path();
            target.join("release").join(format!("zs_gpu{EXE_SUFFIX}"))
        }
    };
    let mut models = vec![root.join("assets/zs-tiny")];
    models.extend(arguments.model.iter().cloned());
    let bytes = pack(&binary, &models, &arguments.out)?;
    eprintln!("{}: {:.1} MiB", arguments.out.display(), bytes as f64 / f64::from(1 << 20));
    check_size(bytes)?;
    Ok(ExitCode::SUCCESS)
}

/// `zs` and the bench of models in one program, for the CPU and for CUDA, without symbols.
fn build(root: &Path) -> anyhow::Result<ExitCode> {
    let mut build = cargo();
    build.args(["build", "--release", "--locked", "--package", "zs-benches", "--bin", "zs_gpu"]);
    build.args(["--features", "cuda", "--config", "profile.release.strip=true"]);
    status(build.current_dir(root))
}

/// Writes the archive and returns its size.
fn pack(binary: &Path, models: &[PathBuf], out: &Path) -> anyhow::Result<u64> {
    let mut archive = archive::Archive::create(out, "zs-gpu")?;
    archive.file("zs", binary, true)?;
    archive.text("run.sh", SCRIPT, true)?;
    for model in models {
        let name = model.file_name().context("a model directory has a name")?;
        if !model.join("config.json").is_file() {
            bail!("{}: holds no config.json, so it is no model directory", model.display());
        }
        archive.folder(&Path::new("models").join(name), model)?;
    }
    archive.finish()
}

fn check_size(bytes: u64) -> anyhow::Result<()> {
    if bytes > MAX_BYTES {
        bail!(
            "the archive has {bytes} bytes, more than {MAX_BYTES}: pack smaller models, or find out \
             what made the program grow"
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::process::Command;

    use super::*;

    /// Stands in for `zs`: writes an object to whatever file it is told to write, and fails to verify
    /// a model called `bad`.
    const STAND_IN: &str = r#"#!/bin/sh
echo "zs $*"
case "$*" in *"--golden"*bad*) exit 1 ;; esac
while [ $# -gt 0 ]; do
    case $1 in --json | --write) echo '{"ok": true}' >"$2" ;; esac
    shift
done
"#;

    /// Packs a stand-in with two models and unpacks it; the folder holds `zs-gpu`.
    fn unpacked() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        let path = |it: &str| folder.path().join(it);
        fs::write(path("stand-in"), STAND_IN).unwrap();
        for name in ["good", "bad"] {
            fs::create_dir(path(name)).unwrap();
            fs::write(path(name).join("config.json"), "{}").unwrap();
        }
        fs::write(path("good/golden.safetensors"), "x").unwrap();
        let models = [path("good"), path("bad")];
        let bytes = pack(&path("stand-in"), &models, &path("out/pack.tar.gz")).unwrap();
        assert_eq!(bytes, fs::metadata(path("out/pack.tar.gz")).unwrap().len());
        let tar = Command::new("tar")
            .args(["xzf", "out/pack.tar.gz"])
            .current_dir(folder.path())
            .status()
            .unwrap();
        assert!(tar.success());
        folder
    }

    #[test]
    fn an_archive_holds_what_the_script_needs() {
        let folder = unpacked();
        let inside = folder.path().join("zs-gpu");
        assert_eq!(fs::read_to_string(inside.join("zs")).unwrap(), STAND_IN);
        assert_eq!(fs::read_to_string(inside.join("run.sh")).unwrap(), SCRIPT);
        assert!(inside.join("models/good/golden.safetensors").is_file());
        assert!(inside.join("models/bad/config.json").is_file());
    }

    #[test]
    #[cfg(unix)]
    fn the_script_runs_everything_and_counts_what_failed() {
        let folder = unpacked();
        let inside = folder.path().join("zs-gpu");
        let run = Command::new("./run.sh").args(["cuda:1"]).current_dir(&inside).output().unwrap();
        assert!(!run.status.success(), "a model failed");
        let text = fs::read_to_string(inside.join("results/results.json")).unwrap();
        let results: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(results["device"], "cuda:1");
        let steps = results["steps"].as_array().unwrap();
        let failed: Vec<&str> = steps
            .iter()
            .filter(|it| it["exit"] != 0)
            .map(|it| it["step"].as_str().unwrap())
            .collect();
        assert_eq!(failed, ["verify-bad"]);
        let names: Vec<&str> = steps.iter().map(|it| it["step"].as_str().unwrap()).collect();
        for name in ["doctor", "verify-good", "verify-good-golden", "warm-up", "bench-8m"] {
            assert!(names.contains(&name), "{name} is not in {names:?}");
        }
        assert_eq!(results["reports"]["doctor"]["ok"], true);
        assert_eq!(results["reports"]["bench-tiny"]["ok"], true);
        assert!(results["reports"].get("verify-bad").is_none());
        let log = fs::read_to_string(inside.join("results/bench-tiny.log")).unwrap();
        assert!(log.contains("bench-model tiny --device cuda:1"), "{log}");
    }

    #[test]
    fn what_cannot_be_packed_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = |it: &str| folder.path().join(it);
        let error = pack(&path("absent"), &[], &path("a.tar.gz")).unwrap_err();
        assert!(format!("{error:#}").contains("absent"), "{error:#}");
        fs::write(path("zs"), "").unwrap();
        let error = pack(&path("zs"), &[path("no-model")], &path("a.tar.gz")).unwrap_err();
        assert!(format!("{error:#}").contains("no-model: holds no config.json"), "{error:#}");
    }

    #[test]
    fn a_large_archive_is_refused() {
        assert!(check_size(MAX_BYTES).is_ok());
        assert!(check_size(MAX_BYTES + 1).is_err());
    }
}
