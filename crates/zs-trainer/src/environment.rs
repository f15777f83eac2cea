//! Build, machine and inputs of a run: `environment.json`.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};
use zs_data::digest;

use crate::context::{Devices, host_threads};
use crate::files::RunDir;
use crate::versions;

const FILE: &str = "environment.json";

/// Build, machine and inputs of a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Environment {
    /// The version of `zs`.
    zs: String,
    /// The commit that it was built from; `unknown` where it was built outside of a repository.
    git_commit: String,
    /// The versions of the crates that compute.
    crates: BTreeMap<String, String>,
    /// The device of the run, or several; one of the simulation LLM alone is named as such.
    device: String,
    /// Operating system and architecture.
    platform: String,
    /// Threads of the machine.
    threads: usize,
    /// SHA-256 of every file that the run reads, by the name that the run file gives it.
    data: BTreeMap<String, String>,
}

impl Environment {
    /// This process, and the files that a run is about to read; directories stand for the files in
    /// them.
    pub(super) fn of(paths: &[PathBuf], devices: &Devices) -> Result<Self> {
        let mut names: Vec<String> = devices.all().iter().map(|it| format!("{it:?}")).collect();
        names.extend(devices.own_simulator_name().map(|it| format!("{it} (simulation LLM)")));
        let mut data = BTreeMap::new();
        for path in paths {
            for file in files(path)? {
                data.insert(file.display().to_string(), digest::of_file(&file)?);
            }
        }
        Ok(Self {
            zs: env!("CARGO_PKG_VERSION").to_owned(),
            git_commit: versions::git_commit(),
            crates: versions::crates(),
            device: names.join(", "),
            platform: format!("{} {}", std::env::consts::OS, std::env::consts::ARCH),
            threads: host_threads(),
            data,
        })
    }

    pub(super) fn write(&self, run: &RunDir) -> Result<()> {
        run.write_json(FILE, self)
    }

    /// Compares with what the run began with, and returns what else has changed, for a note.
    ///
    /// # Errors
    ///
    /// Fails when a file that the run reads has changed: it would not be the same run. With
    /// `other_files`, settings were changed and may name other files than before.
    pub(super) fn check(&self, run: &RunDir, other_files: bool) -> Result<Vec<String>> {
        let path = run.join(FILE);
        let context = || path.display().to_string();
        let text = fs::read(&path).with_context(context)?;
        let before: Self = serde_json::from_slice(&text).with_context(context)?;
        for (file, digest) in &before.data {
            let now = self.data.get(file);
            if now != Some(digest) && !(other_files && now.is_none()) {
                bail!(
                    "{file}: has changed since the run began (see {}); restore it to resume, or \
                     start another run",
                    path.display()
                );
            }
        }
        let changes = [
            ("zs", &before.git_commit, &self.git_commit),
            ("the device", &before.device, &self.device),
            ("the platform", &before.platform, &self.platform),
        ];
        let changed = changes.into_iter().filter(|(_, before, now)| before != now);
        Ok(changed.map(|(what, before, now)| format!("{what} was {before}, is {now}")).collect())
    }
}

/// A file, or the files of a directory.
fn files(path: &Path) -> Result<Vec<PathBuf>> {
    if !path.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let mut found = Vec::new();
    for entry in walkdir::WalkDir::new(path).sort_by_file_name() {
        let entry = entry.with_context(|| path.display().to_string())?;
        if entry.file_type().is_file() {
            found.push(entry.into_path());
        }
    }
    Ok(found)
}
