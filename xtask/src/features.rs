//! Every published crate alone, with each of its features alone: in the workspace, features that other
//! crates turn on hide what a crate lacks.

use cargo_metadata::{MetadataCommand, Package};
use xshell::{Shell, cmd};

/// Features for accelerators, which take longest.
const ACCELERATORS: [&str; 3] = ["accelerator", "cuda", "wgpu"];

/// The crate that refuses to be built without a backend, and so do those that depend on it.
const NEEDS_BACKEND: &str = "zs-train";

/// Features that bring a backend.
const BACKENDS: [&str; 3] = ["cuda", "flex", "wgpu"];

/// Type-checks the selections that need an accelerator's crates, or those that do not, crates with few
/// dependencies first.
pub(crate) fn check(sh: &Shell, with_accelerators: bool) -> anyhow::Result<()> {
    let metadata = MetadataCommand::new().no_deps().exec()?;
    let mut packages = metadata.workspace_packages();
    packages.retain(|it| it.publish.as_deref() != Some(&[]));
    packages.sort_by_key(|it| it.dependencies.len());
    for package in packages {
        let name = package.name.as_str();
        let features = package.features.keys().map(String::as_str);
        for arguments in selections(features, needs_backend(package)) {
            let is_accelerated = arguments.iter().any(|it| ACCELERATORS.contains(it));
            if is_accelerated == with_accelerators {
                cmd!(sh, "cargo check --locked --lib --package {name} {arguments...}").run()?;
            }
        }
    }
    Ok(())
}

fn needs_backend(package: &Package) -> bool {
    let mut dependencies = package.dependencies.iter().map(|it| it.name.as_str());
    package.name.as_str() == NEEDS_BACKEND || dependencies.any(|it| it == NEEDS_BACKEND)
}

/// The arguments that select nothing that is optional, and each feature alone; for a crate that needs a
/// backend only selections with one.
fn selections<'a>(
    features: impl Iterator<Item = &'a str>,
    needs_backend: bool,
) -> Vec<Vec<&'a str>> {
    let with = |it: &'a str| {
        let mut arguments = vec!["--no-default-features", "--features", it];
        if needs_backend && !BACKENDS.contains(&it) {
            arguments.extend(["--features", "flex"]);
        }
        arguments
    };
    let alone = features.filter(|it| *it != "default").map(with);
    let none = (!needs_backend).then(|| vec!["--no-default-features"]);
    none.into_iter().chain(alone).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(features: &[&str], needs_backend: bool, expected: &[&str]) {
        let selections = selections(features.iter().copied(), needs_backend);
        let found: Vec<String> = selections.iter().map(|it| it.join(" ")).collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn each_feature_is_selected_alone() {
        check(&[], false, &["--no-default-features"]);
        check(
            &["cuda", "default", "flex"],
            false,
            &[
                "--no-default-features",
                "--no-default-features --features cuda",
                "--no-default-features --features flex",
            ],
        );
        check(
            &["default", "flex", "postgres"],
            true,
            &[
                "--no-default-features --features flex",
                "--no-default-features --features postgres --features flex",
            ],
        );
    }
}
