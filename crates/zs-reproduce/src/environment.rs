//! Origin of the numbers: version, commit, machine, command.

use std::collections::BTreeMap;
use std::fs;

use serde::{Deserialize, Serialize};

use zs_trainer::host_threads;
use zs_trainer::plan::memory_of_machine;
use zs_trainer::versions;

/// Memory that one piece of work may need.
const GIB_A_JOB: f64 = 1.0;

/// Origin of a report.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Environment {
    /// The version of `zs`.
    pub version: String,
    /// The commit that `zs` was built from.
    pub commit: String,
    /// The versions of the crates that compute.
    pub crates: BTreeMap<String, String>,
    /// The processor, where the system tells.
    pub processor: Option<String>,
    /// Cores that may be used.
    pub cores: usize,
    /// Memory in GiB.
    pub memory_gib: f64,
    /// Accelerators that were used.
    pub accelerator: String,
    /// Operating system and architecture.
    pub system: String,
    /// The command that was given.
    pub command: String,
}

impl Environment {
    /// That of this process.
    #[must_use]
    pub fn here() -> Self {
        Self {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            commit: versions::git_commit(),
            crates: versions::crates(),
            processor: proc_field("/proc/cpuinfo", "model name"),
            cores: host_threads(),
            memory_gib: gib(memory_of_machine().0),
            accelerator: "none".to_owned(),
            system: format!("{} {}", std::env::consts::OS, std::env::consts::ARCH),
            command: command(),
        }
    }
}

/// Number of parallel jobs: one per core, as far as memory allows.
pub(crate) fn jobs() -> usize {
    let by_memory = gib(memory_of_machine().1) / GIB_A_JOB;
    host_threads().min(by_memory as usize).max(1)
}

fn gib(bytes: u64) -> f64 {
    let gib = bytes as f64 / 1024.0_f64.powi(3);
    (gib * 10.0).round() / 10.0
}

/// A field of a file of `name: value` lines.
fn proc_field(path: &str, field: &str) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    let mut lines = text.lines().filter_map(|it| it.split_once(':'));
    lines.find(|(name, _)| name.trim() == field).map(|(_, value)| value.trim().to_owned())
}

/// The command as it was given, the program by its name alone.
fn command() -> String {
    let mut arguments = std::env::args();
    let program = arguments.next().unwrap_or_default();
    let program = program.rsplit(['/', '\\']).next().unwrap_or_default().to_owned();
    let words: Vec<String> = std::iter::once(program).chain(arguments).collect();
    words.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_environment_is_known() {
        let here = Environment::here();
        assert!(here.cores >= 1 && !here.command.contains('/'), "{here:?}");
        assert!(jobs() >= 1 && jobs() <= here.cores);
    }
}
