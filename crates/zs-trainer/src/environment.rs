//! Build, machine and inputs of a run: `environment.json`.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use zs_data::{FileError, digest, read_json};

use crate::context::{Devices, host_threads};
use crate::files::{ENVIRONMENT, RunDir, files_below};
use crate::run_dir_error::RunDirError;
use crate::versions;

/// Build and machine: what decides how numbers are rounded.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Machine {
    /// The version of `zs`.
    zs: String,
    /// The commit that it was built from; `unknown` where it was built outside of a repository.
    git_commit: String,
    /// The versions of the crates that compute.
    crates: BTreeMap<String, String>,
    /// The device of the run, or several; one of the simulation LLM alone is named as such.
    device: String,
    /// Operating system, architecture and vector units: the last decide how sums are rounded.
    platform: String,
    /// Threads of the machine.
    pub(crate) threads: usize,
}

/// Build, machine and inputs of a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Environment {
    #[serde(flatten)]
    machine: Machine,
    /// SHA-256 of every file that the run reads, by the name that the run file gives it.
    data: BTreeMap<String, String>,
}

fn platform() -> String {
    let parts = [std::env::consts::OS, std::env::consts::ARCH];
    [&parts[..], &zs_model::vector_units()].concat().join(" ")
}

impl Machine {
    /// This process, with the devices of a run.
    pub(crate) fn of(devices: &Devices) -> Self {
        let mut names: Vec<String> = devices.all().iter().map(|it| format!("{it:?}")).collect();
        names.extend(devices.own_simulator_name().map(|it| format!("{it} (simulation LLM)")));
        Self {
            zs: env!("CARGO_PKG_VERSION").to_owned(),
            git_commit: versions::git_commit(),
            crates: versions::crates(),
            device: names.join(", "),
            platform: platform(),
            threads: host_threads(),
        }
    }

    /// Returns what differs from the machine `before`, in clauses.
    pub(crate) fn changes_from(&self, before: &Self) -> Vec<String> {
        let crates = |it: &Self| {
            let all: Vec<String> = it.crates.iter().map(|(a, b)| format!("{a} {b}")).collect();
            all.join(" ")
        };
        let changes = [
            ("the version", before.zs.clone(), self.zs.clone()),
            ("the commit", before.git_commit.clone(), self.git_commit.clone()),
            ("the crates", crates(before), crates(self)),
            ("the device", before.device.clone(), self.device.clone()),
            ("the platform", before.platform.clone(), self.platform.clone()),
            ("threads", before.threads.to_string(), self.threads.to_string()),
        ];
        let changed = changes.into_iter().filter(|(_, before, now)| before != now);
        changed.map(|(what, before, now)| format!("{what} was {before}, is {now}")).collect()
    }
}

/// SHA-256 of every file that a run reads, by name; `None` where its directory does not list them.
///
/// # Errors
///
/// Fails when the list cannot be read.
pub(crate) fn data_of(run: &Path) -> Result<Option<BTreeMap<String, String>>, FileError> {
    let path = run.join(ENVIRONMENT);
    path.exists().then(|| Ok(read_json::<Environment>(&path)?.data)).transpose()
}

impl Environment {
    /// This process, and the files that a run is about to read; directories stand for the files in
    /// them.
    pub(super) fn of(paths: &[PathBuf], devices: &Devices) -> Result<Self, RunDirError> {
        let mut data = BTreeMap::new();
        for path in paths {
            for file in files_below(path)? {
                if fs::metadata(&file).is_ok_and(|it| !it.is_file()) {
                    return Err(RunDirError::NotRegular { path: file });
                }
                data.insert(file.display().to_string(), digest::of_file(&file)?);
            }
        }
        Ok(Self { machine: Machine::of(devices), data })
    }

    pub(super) fn write(&self, run: &RunDir) -> Result<(), FileError> {
        run.write_json(ENVIRONMENT, self)
    }

    /// Compares with what the run began with, and returns what else has changed, for a note.
    ///
    /// # Errors
    ///
    /// Fails when a file that the run reads has changed: it would not be the same run. With
    /// `other_files`, settings were changed and may name other files than before.
    pub(super) fn check(
        &self,
        run: &RunDir,
        other_files: bool,
    ) -> Result<Vec<String>, RunDirError> {
        let path = run.join(ENVIRONMENT);
        let before: Self = read_json(&path)?;
        for (file, digest) in &before.data {
            let now = self.data.get(file);
            if now != Some(digest) && !(other_files && now.is_none()) {
                return Err(RunDirError::InputChanged { file: file.clone(), path });
            }
        }
        Ok(self.machine.changes_from(&before.machine))
    }
}
